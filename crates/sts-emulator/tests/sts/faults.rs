//! What somebody asks to go wrong goes wrong, as asked, for that role and that often; and nothing else does.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use taskcreds_sts_emulator::{Effect, Fault, Options, Roles};

use crate::harness::{ROLE, Reply, Sts, USER};

const FORM: [(&str, &str); 4] =
    [("Action", "AssumeRole"), ("Version", "2011-06-15"), ("RoleArn", ROLE), ("RoleSessionName", "task")];

/// An emulator with these faults, one after the other.
async fn failing(effects: impl IntoIterator<Item = Effect>) -> Sts {
    let sts = Sts::start(Roles::Any).await;
    let mut effects: Vec<_> = effects.into_iter().collect();
    effects.reverse();
    let (left, is_met) = (Mutex::new(effects), |_: &Fault| true);
    let next = move |role: &str| {
        assert_eq!(role, ROLE);
        let effect = left.lock().unwrap().pop()?;
        Some(Fault { delay: Duration::ZERO, effect: Some(effect), told: "sts:it".to_owned() })
    };
    sts.emulator.set_faults(next, is_met);
    sts
}

async fn assume(sts: &Sts) -> Reply {
    sts.post(&sts.caller(USER), &FORM).await
}

#[tokio::test]
async fn refusals_look_like_those_of_aws_are_recorded_and_then_all_is_well() {
    let own = Effect::Status { status: 418, code: Some("Own".to_owned()), message: Some("Own words.".to_owned()) };
    let status = |status| Effect::Status { status, code: None, message: None };
    let sts = failing([Effect::Throttling, Effect::AccessDenied, own, status(503), status(500)]).await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    sts.emulator.on_call(move |call| tell.lock().unwrap().push(call.clone()));
    let mut seen = Vec::new();
    for _ in 0..6 {
        let reply = assume(&sts).await;
        seen.push((reply.status, reply.code().to_owned()));
    }
    let expected = [
        (400, "Throttling"),
        (403, "AccessDenied"),
        (418, "Own"),
        (503, "ServiceUnavailable"),
        (500, "InternalFailure"),
        (200, "Success"),
    ];
    assert_eq!(seen, expected.map(|(status, code)| (status, code.to_owned())));
    let calls = sts.emulator.calls();
    let recorded: Vec<_> = calls.iter().map(|call| (call.status.unwrap(), call.outcome.to_string())).collect();
    assert_eq!(recorded, seen);
    assert_eq!(calls.iter().filter(|call| call.fault.as_deref() == Some("sts:it")).count(), 5);
    assert_eq!(*told.lock().unwrap(), calls);
}

#[tokio::test]
async fn a_request_that_is_refused_anyway_meets_no_fault_and_its_record_names_none() {
    let sts = Sts::start(Roles::Listed(Vec::new())).await;
    let effects = Mutex::new(vec![Effect::Malformed, Effect::Throttling]);
    let next = move |_: &str| {
        let effect = effects.lock().unwrap().pop();
        Some(Fault { delay: Duration::ZERO, effect, told: "sts:it".to_owned() })
    };
    sts.emulator.set_faults(next, |_| unreachable!("there is no good answer"));
    let stranger = aws_credential_types::Credentials::new("AKIASTRANGER", "secret", None, None, "test");
    assert_eq!(sts.post(&stranger, &FORM).await.code(), "InvalidClientTokenId");
    let nameless = sts.post(&sts.caller(USER), &FORM[..3]).await;
    assert_eq!(nameless.code(), "ValidationError");
    // What stands in for an answer is still there, and there is nothing to be made malformed.
    assert_eq!(assume(&sts).await.code(), "Throttling");
    assert_eq!(assume(&sts).await.code(), "AccessDenied");
    let told: Vec<_> = sts.emulator.calls().into_iter().map(|call| call.fault).collect();
    assert_eq!(told, [None, None, Some("sts:it".to_owned()), None]);
}

#[tokio::test]
async fn sessions_that_are_asked_to_be_short_or_over_are() {
    let sts = failing([Effect::Short(2), Effect::Expired]).await;
    let expirations: Vec<_> = [assume(&sts).await, assume(&sts).await, assume(&sts).await]
        .iter()
        .map(|reply| humantime(reply.element("Expiration").unwrap()) - humantime(&now(&sts)))
        .collect();
    assert_eq!(expirations, [3, -1, 3600]);
}

#[tokio::test]
async fn every_session_is_as_short_as_is_asked_for_and_really_ends() {
    let sts = Sts::start_with(Options { session_seconds: Some(1), ..Options::default() }).await;
    let session = sts.session(900).await;
    let identity = [("Action", "GetCallerIdentity"), ("Version", "2011-06-15")];
    sts.advance(1);
    assert_eq!(sts.post(&session, &identity).await.status, 200);
    sts.advance(1);
    assert_eq!(sts.post(&session, &identity).await.code(), "ExpiredToken");
}

#[tokio::test]
async fn a_clock_that_is_fast_refuses_signatures_of_now() {
    let sts = failing([Effect::Skew(3600), Effect::Skew(-60)]).await;
    let reply = assume(&sts).await;
    assert_eq!((reply.status, reply.code()), (403, "SignatureDoesNotMatch"));
    let reply = assume(&sts).await;
    assert_eq!(humantime(reply.element("Expiration").unwrap()) - humantime(&now(&sts)), 3540);
}

#[tokio::test]
async fn an_answer_is_spoiled_as_asked() {
    let sts = failing([
        Effect::Malformed,
        Effect::Missing("SecretAccessKey".to_owned()),
        Effect::WrongType("Expiration".to_owned()),
        Effect::Truncated,
    ])
    .await;
    assert!(assume(&sts).await.body.ends_with('&'));
    let reply = assume(&sts).await;
    assert!(reply.element("SecretAccessKey").is_none() && reply.element("AccessKeyId").is_some());
    assert_eq!(assume(&sts).await.element("Expiration"), Some("soon"));
    let reply = assume(&sts).await;
    let announced: usize = reply.header("content-length").unwrap().parse().unwrap();
    assert_eq!(reply.body.len(), announced / 2);
}

#[tokio::test]
async fn a_dropped_request_is_closed_at_once_and_a_hanging_one_is_held_and_both_are_recorded() {
    let sts = failing([Effect::Drop, Effect::Hang]).await;
    let body = crate::harness::encode(&FORM);
    let head = sts.signed(&sts.caller(USER), &body);
    let read = |patience: u64| {
        let mut stream = TcpStream::connect(sts.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(patience))).unwrap();
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        tokio::task::spawn_blocking(move || stream.read(&mut [0; 64]).map_err(|error| error.kind()))
    };
    assert!(matches!(read(20_000).await.unwrap(), Ok(0) | Err(std::io::ErrorKind::ConnectionReset)));
    let start = Instant::now();
    assert_eq!(read(300).await.unwrap(), Err(std::io::ErrorKind::WouldBlock));
    assert!(start.elapsed() >= Duration::from_millis(300));
    let calls = sts.emulator.calls();
    assert!(calls.iter().all(|call| call.outcome == "Unanswered" && call.status.is_none()));
    assert!(calls.iter().all(|call| call.issued_access_key_id.is_none()));
}

/// Seconds since 1970.
fn humantime(text: &str) -> i64 {
    let time = ::humantime::parse_rfc3339(text).unwrap();
    i64::try_from(time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

fn now(sts: &Sts) -> String {
    ::humantime::format_rfc3339_seconds(sts.now()).to_string()
}
