//! The bytes of good answers, and what a connection may do: rest, pipeline, half-close, dawdle.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use crate::http::{Answer, Connection, get, request};
use crate::rig::{self, Process};
use crate::sts::Sts;
use crate::tasks::{Config, Task};

/// A proxy with one task whose session is there.
pub(crate) struct Warm {
    pub(crate) address: SocketAddr,
    pub(crate) task: Task,
    /// The session's body.
    pub(crate) body: String,
    // Before the STS, so that it ends first.
    _serve: Process,
    _sts: Sts,
}

impl Warm {
    /// One with this task.
    pub(crate) fn with(task: Task) -> Self {
        let sts = Sts::new();
        let serve = rig::serve(Config::new(std::slice::from_ref(&task))).envs(sts.environment()).spawn();
        let address = serve.address();
        let ask = request(address, &task.path(), task.token.as_deref());
        let body = Connection::open(address).send(ask).answer().body;
        Self { address, task, body, _serve: serve, _sts: sts }
    }

    fn new() -> Self {
        Self::with(Task::new("web"))
    }

    /// The head of a good request.
    pub(crate) fn request(&self) -> String {
        request(self.address, &self.task.path(), self.task.token.as_deref())
    }

    fn assert_credentials(&self, answer: &Answer) {
        assert_eq!((answer.status, &answer.body), (200, &self.body));
    }
}

/// The value behind the key, and what follows it.
fn take<'a>(text: &'a str, key: &str) -> (&'a str, &'a str) {
    let rest = text.strip_prefix(&format!("\"{key}\":\"")).unwrap_or_else(|| unreachable!("{key} is next"));
    rest.split_once('"').unwrap()
}

#[test]
fn a_200_has_exactly_the_four_headers_and_the_five_keys_in_their_order() {
    let warm = Warm::new();
    let answer = get(warm.address, &warm.task.path());
    assert_eq!(answer.line, "HTTP/1.1 200 OK");
    let mut names: Vec<_> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["cache-control", "content-length", "content-type", "date"]);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
    let date = httpdate::parse_http_date(answer.header("date").unwrap()).unwrap();
    let off = SystemTime::now().duration_since(date).unwrap_or_default();
    assert!(off < Duration::from_secs(5), "the date is right: {off:?}");

    let (role_arn, rest) = take(answer.body.strip_prefix('{').unwrap(), "RoleArn");
    let (access_key_id, rest) = take(rest.strip_prefix(',').unwrap(), "AccessKeyId");
    let (secret, rest) = take(rest.strip_prefix(',').unwrap(), "SecretAccessKey");
    let (token, rest) = take(rest.strip_prefix(',').unwrap(), "Token");
    let (expiration, rest) = take(rest.strip_prefix(',').unwrap(), "Expiration");
    assert_eq!(rest, "}");
    assert_eq!(role_arn, warm.task.role_arn());
    assert!(access_key_id.starts_with("ASIA") && !secret.is_empty() && !token.is_empty());
    assert!(!answer.body.contains('\\') && answer.body.len() <= 10_000);
    let shape: String = expiration.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00Z");
    let left = humantime::parse_rfc3339(expiration).unwrap().duration_since(SystemTime::now()).unwrap();
    assert!(left > Duration::from_secs(3500) && left <= Duration::from_secs(3600), "{left:?}");
}

#[test]
fn the_same_session_is_the_same_bytes_by_every_uri() {
    let warm = Warm::new();
    let id = warm.task.id.clone().unwrap();
    for path in [
        warm.task.path(),
        format!("/{}", warm.task.path()),
        format!("/v1/credentials?id={id}"),
        format!("//v1/credentials?id={id}"),
        format!("/v1/credentials?a=b&id={id}&id=another"),
        format!("{}?a=b", warm.task.path()),
    ] {
        warm.assert_credentials(&get(warm.address, &path));
    }
}

#[test]
fn head_is_answered_with_the_headers_of_get_and_no_body() {
    let warm = Warm::new();
    let head = warm.request().replace("GET ", "HEAD ");
    let mut connection = Connection::open(warm.address);
    let answer = connection.send(head).answer_to_head();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("content-length"), Some(warm.body.len().to_string().as_str()));
    // Had there been a body, it would be in the way of this answer.
    warm.assert_credentials(&connection.send(warm.request()).answer());
}

#[test]
fn one_connection_answers_many_requests() {
    let warm = Warm::new();
    let mut connection = Connection::open(warm.address);
    for _ in 0..50 {
        warm.assert_credentials(&connection.send(warm.request()).answer());
    }
}

#[test]
fn http_1_0_is_answered_and_ended_or_kept_as_it_asks() {
    let warm = Warm::new();
    let old = warm.request().replace("HTTP/1.1", "HTTP/1.0");
    let mut connection = Connection::open(warm.address);
    let answer = connection.send(&old).answer();
    warm.assert_credentials(&answer);
    assert!(connection.closed_after() < Duration::from_secs(2));

    let keep = old.replace("\r\n\r\n", "\r\nConnection: keep-alive\r\n\r\n");
    let mut connection = Connection::open(warm.address);
    for _ in 0..2 {
        let answer = connection.send(&keep).answer();
        warm.assert_credentials(&answer);
        assert_eq!(answer.header("connection"), Some("keep-alive"));
    }
}

#[test]
fn connection_close_is_honoured() {
    let warm = Warm::new();
    let mut connection = Connection::open(warm.address);
    let answer = connection.send(warm.request().replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).answer();
    warm.assert_credentials(&answer);
    assert!(connection.closed_after() < Duration::from_secs(2));
}

#[test]
fn header_names_in_any_case_and_headers_nobody_knows_are_fine() {
    let warm = Warm::with(Task::with_token("web"));
    let odd = warm.request().replace("Host:", "hOST:").replace("Authorization:", "AUTHORIZATION:");
    let odd = odd.replace("\r\n\r\n", "\r\nAmz-Sdk-Request: attempt=1; max=3\r\nX-Of-My-Own: \u{fc}\r\n\r\n");
    warm.assert_credentials(&Connection::open(warm.address).send(odd).answer());
}

#[test]
fn a_host_header_needs_no_port_and_may_have_each_name_of_the_protocol() {
    let warm = Warm::new();
    for host in ["127.0.0.1", "localhost", "[::1]:80", "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"] {
        let asked = warm.request().replace(&warm.address.to_string(), host);
        warm.assert_credentials(&Connection::open(warm.address).send(asked).answer());
    }
}

#[test]
fn two_pipelined_requests_get_two_answers() {
    let warm = Warm::new();
    let mut connection = Connection::open(warm.address);
    connection.send(warm.request() + &warm.request());
    warm.assert_credentials(&connection.answer());
    warm.assert_credentials(&connection.answer());
}

#[test]
fn a_request_in_small_pieces_is_one_request() {
    let warm = Warm::new();
    let mut connection = Connection::open(warm.address);
    for piece in warm.request().as_bytes().chunks(7) {
        connection.send(piece);
    }
    warm.assert_credentials(&connection.answer());
}

#[test]
fn a_client_that_has_finished_sending_still_gets_its_answer() {
    let warm = Warm::new();
    let mut connection = Connection::open(warm.address);
    connection.send(warm.request()).finish_sending();
    warm.assert_credentials(&connection.answer());
    assert!(connection.closed_after() < Duration::from_secs(2));
}

#[test]
fn a_head_that_never_ends_is_cut_after_five_seconds() {
    let warm = Warm::new();
    let heads = ["GET /v2/credentials/", "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n", ""];
    std::thread::scope(|scope| {
        for head in heads {
            let address = warm.address;
            scope.spawn(move || {
                let took = Connection::open(address).send(head).closed_after();
                assert!(took > Duration::from_secs(4) && took < Duration::from_secs(8), "{took:?}");
            });
        }
        // A connection that has had an answer may rest longer than that, but not its next head.
        scope.spawn(|| {
            let mut connection = Connection::open(warm.address);
            warm.assert_credentials(&connection.send(warm.request()).answer());
            let took = connection.send("GET /v2").closed_after();
            assert!(took > Duration::from_secs(4) && took < Duration::from_secs(8), "{took:?}");
        });
        // Nor where a part of that came with the request before.
        scope.spawn(|| {
            let mut connection = Connection::open(warm.address);
            warm.assert_credentials(&connection.send(warm.request() + "GET /v2").answer());
            let took = connection.closed_after();
            assert!(took > Duration::from_secs(4) && took < Duration::from_secs(8), "{took:?}");
        });
    });
}

#[test]
fn a_connection_that_rests_for_ten_seconds_is_still_there() {
    let warm = Warm::new();
    let mut connection = Connection::open(warm.address);
    warm.assert_credentials(&connection.send(warm.request()).answer());
    assert!(connection.is_open_for(Duration::from_secs(10)));
    warm.assert_credentials(&connection.send(warm.request()).answer());
}
