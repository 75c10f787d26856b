//! Hundreds of requests after RFC 9112 as raw bytes, and what the real binary makes of each: `tests/files/raw/*.txt`.
//!
//! A case is a line, `OUTCOME | BYTES`; the heading above it, `== SECTION: TITLE`, says where it comes from; `#` begins a comment.
//! The outcome is the answers in their order, each `STATUS CODE` or `STATUS HEAD` (no body) or `200` with the whole credentials, and
//! then `open` (one more request on the connection is answered) or `close`. No answer but those of 200 holds credentials.
//! The bytes are one line: `\r`, `\n`, `\t`, `\\` and `\xFF` stand for bytes, `{63*TEXT}` for so many of a text, and the words
//! in [`Words`] for themselves.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::collections::HashMap;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::http::{self, Answer};
use crate::rig;
use crate::secrets::{self, Kind};
use crate::sts::Sts;
use crate::tasks::{Config, Task};

/// Longer than the five seconds after which the head that never ends is cut.
const PATIENCE: Duration = Duration::from_secs(8);
/// The cases that wait for those five seconds wait together.
const AT_ONCE: usize = 8;
/// Fewer would mean that a file was not read.
const FEWEST: usize = 215;

/// A line of the files.
pub(crate) struct Case {
    /// The file and the line.
    pub(crate) place: String,
    section: String,
    outcome: String,
    /// What is sent, to be read by [`bytes`].
    pub(crate) bytes: String,
}

/// All cases of all files.
pub(crate) fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files/raw");
    let mut cases = Vec::new();
    for file in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let mut section = String::new();
        for (line, number) in fs::read_to_string(&file).unwrap().lines().zip(1..) {
            let place = format!("{}:{number}", file.file_name().unwrap().display());
            if let Some(title) = line.strip_prefix("== ") {
                title.clone_into(&mut section);
            } else if !line.is_empty() && !line.starts_with('#') {
                let (outcome, bytes) =
                    line.split_once(" | ").unwrap_or_else(|| unreachable!("{place}: OUTCOME | BYTES"));
                assert!(section.contains(": "), "{place}: which section?");
                let (section, outcome, bytes) = (section.clone(), outcome.to_owned(), bytes.to_owned());
                cases.push(Case { place, section, outcome, bytes });
            }
        }
    }
    cases
}

/// What the words in braces stand for.
pub(crate) type Words = HashMap<&'static str, String>;

/// The words for a proxy that is asked by this Host, with these headers besides it.
pub(crate) fn words(host: &str, more: &str, [plain, secured, longest]: [&Task; 3]) -> Words {
    Words::from([
        ("host", host.to_owned()),
        ("H", format!("Host: {{host}}\\r\\n{more}")),
        ("id", plain.id.clone().unwrap_or_default()),
        ("path", plain.path()),
        ("longest", longest.path()),
        ("secured", secured.path()),
        ("token", secured.token.clone().unwrap_or_default()),
        ("to", "GET {path} HTTP/1.1\\r\\n".to_owned()),
        ("get", "{to}{H}".to_owned()),
        ("good", "{get}\\r\\n".to_owned()),
    ])
}

/// A task whose id is as long as one may be.
pub(crate) fn longest() -> Task {
    let mut task = Task::new("web");
    task.id = task.id.map(|id| format!("{id:-<128}"));
    secrets::remember(Kind::CredentialsId, task.id.as_deref().unwrap_or_default());
    task
}

/// The bytes of a case. A word may hold other words; a brace that is none of theirs is a byte like any other.
pub(crate) fn bytes(text: &str, words: &Words) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some(c) = rest.chars().next() {
        let escape = |at: usize| rest.get(at..at + 1).unwrap_or_default();
        let inner = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map(|(inner, _)| inner);
        let word = inner.and_then(|inner| match inner.split_once('*') {
            Some((count, text)) => Some(text.repeat(count.parse().ok()?)),
            None => words.get(inner).cloned(),
        });
        let length = if let Some(word) = word {
            bytes.extend(self::bytes(&word, words));
            inner.unwrap_or_default().len() + 2
        } else if c == '\\' {
            let (byte, length) = match escape(1) {
                "r" => (b'\r', 2),
                "n" => (b'\n', 2),
                "t" => (b'\t', 2),
                "\\" => (b'\\', 2),
                "x" => (u8::from_str_radix(&rest[2..4], 16).unwrap(), 4),
                other => unreachable!("no escape: \\{other}"),
            };
            bytes.push(byte);
            length
        } else {
            bytes.extend(c.to_string().as_bytes());
            c.len_utf8()
        };
        rest = &rest[length..];
    }
    bytes
}

/// Reads what comes until there are so many answers, or the end, or nothing for too long. Returns whether it was the end.
fn read(stream: &mut TcpStream, read: &mut Vec<u8>, enough: impl Fn(&[u8]) -> bool) -> bool {
    let mut buffer = [0; 16 * 1024];
    while !enough(read) {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(more) => read.extend_from_slice(&buffer[..more]),
            // What was sent and not read is reset; what was answered before has come.
            Err(error) => return error.kind() == ErrorKind::ConnectionReset,
        }
    }
    false
}

/// The answers in these bytes, and what is left of them. What is no answer is told by the panic of the parser.
fn answers(mut bytes: &[u8], outcome: &str) -> (Vec<Answer>, String) {
    let mut heads = outcome.split(", ").map(|answer| answer.ends_with("HEAD"));
    let mut answers = Vec::new();
    while let Some((answer, length)) = Answer::parse(bytes, !heads.next().unwrap_or_default()) {
        answers.push(answer);
        bytes = &bytes[length..];
    }
    (answers, String::from_utf8_lossy(bytes).into_owned())
}

/// Sends a case and says what became of it, in the words of an outcome.
fn send(address: SocketAddr, case: &Case, words: &Words, bodies: &[String]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // A head that is too long is refused before it has been sent.
    let _ = stream.write_all(&bytes(&case.bytes, words));
    let (count, stays) = (case.outcome.split(", ").count() - 1, case.outcome.ends_with("open"));
    let mut got = Vec::new();
    let mut ended = read(&mut stream, &mut got, |got| stays && answers(got, &case.outcome).0.len() >= count);
    let asked_again = stays && !ended;
    if asked_again {
        let _ = stream.write_all(&bytes("{get}Connection: close\\r\\n\\r\\n", words));
        ended = read(&mut stream, &mut got, |_| false);
    }
    let (mut answers, rest) = answers(&got, &case.outcome);
    let again = if asked_again { answers.pop().filter(|answer| bodies.contains(&answer.body)) } else { None };
    let mut told: Vec<_> = answers.iter().map(|answer| word(answer, bodies)).collect();
    told.extend((!rest.is_empty()).then(|| format!("and then {} bytes", rest.len())));
    told.push(
        if !ended {
            "still open"
        } else if again.is_some() {
            "open"
        } else {
            "close"
        }
        .to_owned(),
    );

    // All that came, without the bodies of the answers of 200.
    let others = answers.iter().filter(|answer| answer.status != 200);
    let others = others.fold(rest, |text, answer| format!("{text}{}{:?}{}", answer.line, answer.headers, answer.body));
    let leaked = secrets::found_in(&others, &[]);
    told.extend((!leaked.is_empty()).then(|| format!("with {leaked:?} in a refusal")));
    told.join(", ")
}

fn word(answer: &Answer, bodies: &[String]) -> String {
    let status = answer.status;
    let is_last = answer.header("connection").is_some_and(|options| options.split(", ").any(|one| one == "close"));
    match answer.body.as_str() {
        "" => format!("{status} HEAD"),
        body if status == 200 && bodies.iter().any(|one| one == body) => "200".to_owned(),
        _ if status == 200 => "200 with something else".to_owned(),
        _ if !is_last && status < 500 => format!("{status} {} that does not say close", answer.error().0),
        _ => format!("{status} {}", answer.error().0),
    }
}

#[test]
fn every_raw_request_has_the_outcome_that_stands_beside_it() {
    let (plain, secured, longest) = (Task::new("web"), Task::with_token("web"), longest());
    let sts = Sts::new();
    let tasks = [plain.clone(), secured.clone(), longest.clone()];
    let serve = rig::serve(Config::new(&tasks)).envs(sts.environment()).spawn();
    let address = serve.address();
    let token = secured.token.clone().unwrap_or_default();
    let bodies = [&plain, &secured, &longest].map(|task| http::get_with_token(address, &task.path(), &token).body);
    let words = words(&address.to_string(), "", [&plain, &secured, &longest]);
    let cases = cases();
    assert!(cases.len() >= FEWEST, "only {} cases", cases.len());
    let (next, mismatches) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let told = std::panic::catch_unwind(|| send(address, case, &words, &bodies));
                    let told = told.unwrap_or_else(|_| "no answer (a panic above)".to_owned());
                    if told != case.outcome {
                        let Case { place, section, outcome, bytes } = case;
                        let bytes: String = bytes.chars().take(200).collect();
                        let mismatch = format!("{place} ({section})\n  sent {bytes}\n  want {outcome}\n  have {told}");
                        mismatches.lock().unwrap().push(mismatch);
                    }
                }
            });
        }
    });
    let mut mismatches = mismatches.into_inner().unwrap();
    mismatches.sort();
    assert!(mismatches.is_empty(), "{} of {} cases:\n{}", mismatches.len(), cases.len(), mismatches.join("\n"));
}
