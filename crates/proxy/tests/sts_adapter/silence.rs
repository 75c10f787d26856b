//! How long an STS that does not answer is waited for. The only test here that takes seconds is the second one.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use taskcreds_core::test_util::new_spec;
use taskcreds_core::{AssumeRole, AssumeRoleError, FailureKind};
use tokio::net::TcpListener;

use crate::canned::{Answer, Canned, sts};

async fn failure(address: SocketAddr) -> (AssumeRoleError, Duration) {
    let begin = Instant::now();
    let error = sts(address).assume_role(&new_spec("web")).await.unwrap_err();
    assert_eq!((error.kind, &error.code), (FailureKind::Unavailable, &None), "{error}");
    assert_eq!((&error.request_id, error.retry_after), (&None, None), "{error}");
    assert!(error.told().starts_with("STS is unavailable; see whether the proxy can reach STS"), "{}", error.told());
    (error, begin.elapsed())
}

#[tokio::test]
async fn a_refused_connection_fails_fast_and_says_so() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (error, took) = failure(address).await;
    assert!(took < Duration::from_millis(900), "{took:?}");
    assert!(error.message.to_lowercase().contains("refused"), "{error}");
}

#[tokio::test]
async fn an_sts_that_is_silent_before_or_within_its_answer_is_given_up_after_three_seconds() {
    let silent = Canned::start([Answer::Stalled(Vec::new())]).await;
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 5000\r\n\r\n<AssumeRoleResponse>";
    let halting = Canned::start([Answer::Stalled(head.to_vec())]).await;
    let (silence, halt) = tokio::join!(failure(silent.address), failure(halting.address));
    for (error, took) in [silence, halt] {
        assert!((Duration::from_millis(2500)..Duration::from_secs(6)).contains(&took), "{took:?} {error}");
    }
    silent.only_request();
    halting.only_request();
}
