//! The warm path in process, without a socket: the whole of it, and its parts. With one registered task and with as many as a
//! proxy holds, asked in turn.
//!
//! `cargo bench -p taskcreds-benches`
#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up has nothing to measure")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::request::Parts;
use taskcreds::audit::log::{Counts, Place, Rotation};
use taskcreds::audit::{Audit, Settings};
use taskcreds::config::MAX_TASKS;
use taskcreds::http::Connected;
use taskcreds::http::credentials::Endpoint;
use taskcreds::http::guard::{self, AllowedHosts};
use taskcreds::http::way::Told;
use taskcreds_core::test_util::{TestSts, new_task, session_until};
use taskcreds_core::{
    Arrival, Budget, BudgetLimits, Freshness, NewTask, Registry, SessionCache, SystemClock, Task, Token,
};

const CONNECTED: Connected = Connected {
    peer: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 40_000),
    arrival: Arrival::Elsewhere,
    is_misrouted: false,
    is_to_endpoint: false,
    way: Told::NOTHING,
};

/// An endpoint whose sessions are all loaded, and a request for each.
struct Warm {
    endpoint: Endpoint,
    requests: Vec<Parts>,
    asked: Vec<(String, String)>,
    tasks: Vec<Arc<Task>>,
}

impl Warm {
    async fn up(tasks: usize) -> Self {
        let until = SystemTime::now() + Duration::from_secs(12 * 3600);
        let sts = TestSts::new(move |_, _| (Duration::ZERO, Ok(session_until(until))));
        let unlimited = BudgetLimits { per_second: 1_000_000, burst: 1_000_000, concurrent: 1_000 };
        let (clock, budget) = (Arc::new(SystemClock), Budget::new(unlimited));
        let sessions = SessionCache::new(sts, clock, budget, Freshness::default(), no_jitter, Box::new(|_, _, _| {}));
        let registry = Arc::new(Registry::new(MAX_TASKS));
        let endpoint = Endpoint {
            registry,
            sessions,
            hosts: AllowedHosts::with([]),
            metrics: Arc::default(),
            audit: None,
            refuse_misrouted: true,
            local: None,
            interfaces: Vec::new(),
        };
        let mut warm = Self { endpoint, requests: Vec::new(), asked: Vec::new(), tasks: Vec::new() };
        for number in 0..tasks {
            let token = Token::random();
            let new = NewTask { tokens: vec![token.clone()], ..new_task(&format!("web-{number}")) };
            let id = new.id.expose().to_owned();
            let task =
                warm.endpoint.registry.register(taskcreds_core::Registration::configured(new)).expect("a new task");
            warm.endpoint.sessions.get(&task).await.expect("a session");
            warm.requests.push(request(&id, token.expose()));
            warm.asked.push((id, token.expose().to_owned()));
            warm.tasks.push(task);
        }
        let first = warm.requests.first().expect("a task").clone();
        let answer = warm.endpoint.answer(first, CONNECTED).await;
        assert_eq!(answer.status(), 200);
        warm
    }
}

/// An audit log that nothing is kept of.
fn audit() -> Arc<Audit> {
    let json = Some(Place::File("/dev/null".into()));
    let rotation = Rotation { bytes: u64::MAX, age: Duration::MAX, keep: 0 };
    let settings = Settings { json, ecs: None, rotation, required: false, container_instance_arn: None };
    Audit::open(&settings, &Counts::default()).expect("a file that takes all")
}

/// A chance that is always the same.
fn no_jitter() -> f64 {
    0.5
}

/// What botocore sends.
fn request(id: &str, token: &str) -> Parts {
    let request = http::Request::get(format!("/v2/credentials/{id}"))
        .header("host", "127.0.0.1:51679")
        .header("user-agent", "Botocore/1.40.0 md/Botocore#1.40.0 ua/2.1 os/linux#6.8 lang/python#3.13")
        .header("accept-encoding", "identity")
        .header("accept", "application/json")
        .header("authorization", token)
        .body(())
        .expect("a request");
    request.into_parts().0
}

/// A future that is ready at once, as everything on the warm path is.
fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("the warm path waits for nothing"),
    }
}

fn warm_path(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    for count in [1, MAX_TASKS] {
        let Warm { mut endpoint, requests, asked, tasks } = runtime.block_on(Warm::up(count));
        let _runtime = runtime.enter();
        let label = |part: &str| format!("{part}, {count} registered");

        criterion.bench_function(&label("whole answer"), |bencher| {
            let mut next = requests.iter().cycle();
            bencher.iter_batched(
                || next.next().expect("a cycle").clone(),
                |request| ready(endpoint.answer(request, CONNECTED)),
                BatchSize::SmallInput,
            );
        });
        // The file's writes are the work of another thread.
        endpoint.audit = Some(audit());
        criterion.bench_function(&label("whole answer with audit log"), |bencher| {
            let mut next = requests.iter().cycle();
            bencher.iter_batched(
                || next.next().expect("a cycle").clone(),
                |request| runtime.block_on(endpoint.answer(request, CONNECTED)),
                BatchSize::SmallInput,
            );
        });
        criterion.bench_function(&label("guard"), |bencher| {
            let mut next = requests.iter().cycle();
            bencher.iter(|| {
                let request = next.next().expect("a cycle");
                black_box(guard::check(black_box(request), &endpoint.hosts)).is_ok()
            });
        });
        criterion.bench_function(&label("registry"), |bencher| {
            let mut next = asked.iter().cycle();
            bencher.iter(|| {
                let (id, token) = next.next().expect("a cycle");
                endpoint.registry.authenticate(black_box(id), black_box(token.as_bytes()), CONNECTED.asker())
            });
        });
        criterion.bench_function(&label("session"), |bencher| {
            let mut next = tasks.iter().cycle();
            bencher.iter(|| ready(endpoint.sessions.get(black_box(next.next().expect("a cycle")))));
        });
    }
}

criterion_group!(benches, warm_path);
criterion_main!(benches);
