//! Behind a reverse proxy that shares its kept connections among its callers, the requests that taskcreds sees are those that
//! the front has sent on: none more, none fewer, none of another caller.
//!
//! All of `tests/files/raw` goes through, and requests with a whole request as their body behind every framing that two readers may
//! read in two ways; each with a user agent of its own, its body with another one, several at once. Compared are two counts for each
//! user agent: the requests that the front's log tells as sent on (haproxy: to a server it was connected to; nginx: bytes were
//! written to it), and the audit records of the front's address. What taskcreds cannot parse is a record without a user agent, so
//! of those only the number is compared. Meanwhile somebody asks honestly through the same front and always gets its own answer.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
#![expect(clippy::print_stdout, reason = "the figures")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::fronts::{FROM, Front};
use crate::audit::{all_records, audited};
use crate::http::{Connection, get};
use crate::operations::metric;
use crate::raw;
use crate::rig;
use crate::skip;
use crate::sts::Sts;
use crate::tasks::{Config, Task};

/// Longer than a front waits for anything.
const PATIENCE: Duration = Duration::from_secs(25);
const AT_ONCE: usize = 8;

/// Headers that announce a body of `{length}` bytes, or of one chunk, or seem to; written as in `tests/files/raw`.
const FRAMINGS: [&str; 30] = [
    "Content-Length: {length}",
    "Content-Length: {length}\\r\\nContent-Length: {length}",
    "Content-Length: 0\\r\\nContent-Length: {length}",
    "Content-Length: {length}\\r\\nContent-Length: 0",
    "Content-Length: {length}, {length}",
    "Content-Length: +{length}",
    "Content-Length: 0{length}",
    "Content-Length : {length}",
    "Content-Length:\\r\\n {length}",
    "Content-Length:\\x0b{length}",
    "Content-Length\\x00: {length}",
    "Content_Length: {length}",
    "X-A: b\\nContent-Length: {length}",
    "X-A: b\\rContent-Length: {length}",
    "X-A: b\\r\\n Content-Length: {length}",
    "Connection: Content-Length\\r\\nContent-Length: {length}",
    "Expect: 100-continue\\r\\nContent-Length: {length}",
    "Connection: Upgrade\\r\\nUpgrade: websocket\\r\\nContent-Length: {length}",
    "Transfer-Encoding: identity\\r\\nContent-Length: {length}",
    "Transfer-Encoding: xchunked\\r\\nContent-Length: {length}",
    "Transfer-Encoding: chunked\\r\\nContent-Length: {length}",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding:\\x0bchunked",
    "Transfer-Encoding:\\r\\n chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: chunked\\r\\nTransfer-Encoding: x",
    "Transfer_Encoding: chunked",
    "Connection: Transfer-Encoding\\r\\nTransfer-Encoding: chunked",
];

/// What goes through, as (what it is, how its bytes are written). `{smuggled}` stands for a user agent, `{length}` and `{hex}` for the
/// length of `{inner}`.
fn cases() -> Vec<(String, String)> {
    let mut all: Vec<_> = raw::cases().into_iter().map(|case| (case.place, case.bytes)).collect();
    for framing in FRAMINGS {
        for method in ["GET", "HEAD", "POST"] {
            for body in ["{inner}", "{hex}\\r\\n{inner}\\r\\n0\\r\\n\\r\\n", "0\\r\\n\\r\\n{inner}"] {
                let text = format!("{method} {{path}} HTTP/1.1\\r\\n{{H}}{framing}\\r\\n\\r\\n{body}");
                all.push((format!("{method}, {framing}, {body}"), text));
            }
        }
    }
    all
}

/// The bytes of a case with its user agents, and one more request behind it that has the front close: a next one, or a part of a body.
fn bytes(text: &str, number: usize, host: SocketAddr, tasks: [&Task; 3]) -> Vec<u8> {
    let more = format!("User-Agent: case-{number}\\r\\n");
    let mut words = raw::words(&host.to_string(), &more, tasks);
    let inner = format!("GET {{path}} HTTP/1.1\\r\\nHost: {host}\\r\\nUser-Agent: smuggled-{number}\\r\\n\\r\\n");
    let length = raw::bytes(&inner, &words).len();
    words.extend([("inner", inner), ("length", length.to_string()), ("hex", format!("{length:x}"))]);
    raw::bytes(&format!("{text}{{get}}Connection: close\\r\\n\\r\\n"), &words)
}

/// Sends a case and reads to the end. What comes is the front's business. This side closes nothing before: of a request whose sender has
/// gone, the logs do not tell for certain whether it was sent on.
fn send(front: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(front).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // A front that refuses closes before all is sent.
    let _ = stream.write_all(bytes);
    let mut read = [0; 4096];
    while let Ok(1..) = stream.read(&mut read) {}
}

/// Asks until the others are done; how often, or that an answer was not its own.
fn honest(front: SocketAddr, host: SocketAddr, task: &Task, body: &str, is_over: &AtomicBool) -> Result<usize, String> {
    let request = format!("GET {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: honest\r\n\r\n", task.path());
    let (mut connection, mut count) = (Connection::open(front), 0);
    while !is_over.load(Ordering::Relaxed) {
        let answer = connection.send(&request).answer();
        if (answer.status, answer.body.as_str()) != (200, body) {
            is_over.store(true, Ordering::Relaxed);
            return Err(format!(
                "after {count} answers an honest request was answered with another one: {}",
                answer.line
            ));
        }
        count += 1;
        // nginx has had enough of a connection after 1,000 requests.
        if answer.header("connection") == Some("close") {
            connection = Connection::open(front);
        }
    }
    Ok(count)
}

/// A comparison.
enum Compared {
    /// How many requests of the cases were sent on, and all figures.
    Alike(usize, String),
    /// Nothing that was smuggled was seen and nobody got another's answer, but the counts differ.
    Differ(String),
}

/// Sends everything through this front.
fn compare(start: impl Fn(SocketAddr) -> Result<Front, String>) -> Option<Compared> {
    let sts = Sts::new();
    let tasks = [Task::new("web"), Task::with_token("web"), raw::longest(), Task::new("honest")];
    let [plain, secured, longest, polite] = &tasks;
    let (_folder, file, _, settings) = audited();
    let config = Config::with(&format!("operations_listen = \"127.0.0.1:0\"\n[audit]\n{settings}"), &tasks);
    let proxy = rig::serve(config).envs(sts.environment()).spawn();
    let address = proxy.address();
    let front = skip::unless("smuggling", start(address))?;
    let body = get(address, &polite.path()).body;

    let cases = cases();
    let (next, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let honest = std::thread::scope(|scope| {
        let polite = scope.spawn(|| honest(front.address, address, polite, &body, &is_over));
        let senders = [(); AT_ONCE].map(|()| {
            scope.spawn(|| {
                while let number = next.fetch_add(1, Ordering::Relaxed)
                    && let Some((_, text)) = cases.get(number)
                    && !is_over.load(Ordering::Relaxed)
                {
                    send(front.address, &bytes(text, number, address, [plain, secured, longest]));
                }
            })
        });
        let ended = senders.map(|sender| sender.join().is_ok());
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(ended, [true; AT_ONCE]);
        polite.join().unwrap()
    });
    let honest = honest.unwrap_or_else(|wrong| unreachable!("{wrong}"));
    let mut sent_on = front.end();
    let lost = metric(&proxy, "taskcreds_audit_records_total{outcome=\"lost\"}");
    assert!(lost.abs() < f64::EPSILON, "{lost} records were lost");
    assert_eq!(proxy.end().code(), 0);

    let mut seen = BTreeMap::<String, usize>::new();
    let records = all_records(&file);
    for record in records.iter().filter(|it| it["peer"].as_str().is_some_and(|it| it.starts_with(FROM))) {
        // haproxy makes one line of a folded one, so other words may follow.
        let user_agent = record["userAgent"].as_str().and_then(|it| it.split_ascii_whitespace().next());
        *seen.entry(user_agent.unwrap_or("-").to_owned()).or_default() += 1;
    }
    let total = |counts: &BTreeMap<String, usize>| counts.values().sum::<usize>();
    let (sent, all) = (total(&sent_on), total(&seen));
    let unparsed = seen.remove("-").unwrap_or_default();
    sent_on.remove("-");
    let mut differences = Vec::new();
    for (user_agent, count) in &seen {
        let sent = sent_on.get(user_agent).copied().unwrap_or_default();
        if *count > sent {
            let number = user_agent.split_once('-').and_then(|(_, number)| number.parse::<usize>().ok());
            let case = number.and_then(|number| cases.get(number));
            let told = format!("{user_agent}: {count} seen, {sent} sent on: {case:?}");
            assert!(!user_agent.starts_with("smuggled-"), "{told}");
            differences.push(told);
        }
    }
    if all != sent {
        differences.push(format!("{all} seen and {sent} sent on; {unparsed} had no user agent"));
    }
    if !differences.is_empty() {
        return Some(Compared::Differ(differences.join("\n")));
    }
    let count = cases.len();
    let told = format!(
        "{count} cases beside {honest} honest requests: {sent} sent on, as many seen, {unparsed} without a user agent"
    );
    Some(Compared::Alike(sent - honest, told))
}

/// Fewer would mean that a front was not what it should be.
const FEWEST: usize = 800;

/// Readers who disagree on a case disagree each time, but of a request whose kept connection breaks haproxy logs nothing
/// (`abort_keep_alive` in its src/http_ana.c). So counts that differ are a fault when they differ twice.
fn nothing_is_smuggled(start: impl Fn(SocketAddr) -> Result<Front, String>) {
    let mut before = None;
    loop {
        match (compare(&start), before) {
            (None, _) => return,
            (Some(Compared::Alike(sent, told)), _) => {
                println!("{told}");
                assert!(sent >= FEWEST, "{told}");
                return;
            }
            (Some(Compared::Differ(told)), None) => {
                println!("once more, as the counts differ: {told}");
                before = Some(told);
            }
            (Some(Compared::Differ(told)), Some(before)) => unreachable!("the counts differ twice: {before}\n{told}"),
        }
    }
}

#[test]
fn behind_haproxy_the_requests_seen_are_those_sent_on() {
    nothing_is_smuggled(|to| Front::haproxy(to, ""));
}

#[test]
fn behind_a_haproxy_that_takes_invalid_requests_they_are_too() {
    nothing_is_smuggled(|to| Front::haproxy(to, "option accept-invalid-http-request"));
}

#[test]
fn behind_nginx_they_are_too() {
    nothing_is_smuggled(|to| Front::nginx(to, ""));
}
