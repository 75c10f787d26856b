//! The load generator against the bare server, both in this process: it measures, and it tells a wrong answer.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is what a test is for")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use taskcreds_benches::answer::{self, Answer};
use taskcreds_benches::load::{self, Exchange};
use taskcreds_benches::{bare, process};
use tokio::net::TcpListener;

const FROM_MEMORY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncache-control: no-store\r\n\
    content-length: 14\r\ndate: Sat, 21 Nov 2026 00:00:00 GMT\r\n\r\n{\"Token\":\"abc\"}";

fn answer_with(body: &str) -> Answer {
    let text = String::from_utf8(FROM_MEMORY.to_vec()).unwrap().replace("abc", body);
    Answer::parse(text.as_bytes()).unwrap().unwrap()
}

async fn bare_server() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { bare::serve(listener, &answer_with("abc")).await });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_load_on_the_bare_server_gives_plausible_figures() {
    let address = bare_server().await;
    let request = answer::request("4b9a3c2e-7d11-4f7e-9a55-0c1d2e3f4a5b", "token");
    let fetched = {
        let request = request.clone();
        tokio::task::spawn_blocking(move || Answer::fetch(address, &request)).await.unwrap().unwrap()
    };
    assert_eq!(fetched.without_date(), answer_with("abc").without_date());

    let exchange = Arc::new(Exchange::new(request, fetched).unwrap());
    let cpu = || if cfg!(target_os = "linux") { process::cpu_seconds(std::process::id()) } else { Ok(0.0) };
    let round = load::round(address, &exchange, 4, Duration::from_millis(200), cpu).await.unwrap();
    assert!(round.requests() > 4, "{}", round.requests());
    assert!(round.seconds >= 0.2 && round.seconds < 10.0, "{}", round.seconds);
    assert!(round.cpu_seconds >= 0.0, "{}", round.cpu_seconds);
    let (middle, slow) = (round.latency.percentile(0.5), round.latency.percentile(0.99));
    assert!(!middle.is_zero() && middle <= slow && slow < Duration::from_secs(10), "{middle:?} {slow:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_answer_under_load_ends_the_round() {
    let address = bare_server().await;
    let request = answer::request("4b9a3c2e-7d11-4f7e-9a55-0c1d2e3f4a5b", "token");
    let exchange = Arc::new(Exchange::new(request, answer_with("abd")).unwrap());
    let outcome = load::round(address, &exchange, 2, Duration::from_millis(50), || Ok(0.0)).await;
    assert!(outcome.unwrap_err().to_string().contains("a wrong answer under load"));
}
