//! What a record says. One JSON object a line, its keys in the API's camelCase.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use humantime::Rfc3339Timestamp;
pub(super) use humantime::format_rfc3339_millis as time;
use serde::{Deserialize, Serialize, Serializer};
use taskcreds_core::{IdDigest, Session, Settled, Task};

/// An answer of the credentials endpoint.
pub struct Answered<'a> {
    /// When.
    pub time: SystemTime,
    /// The status that was answered.
    pub status: u16,
    /// The error code; none with a 200.
    pub code: Option<&'a str>,
    /// Who has asked.
    pub peer: SocketAddr,
    /// The path without the id; none where it was none of ours.
    pub path: Option<&'static str>,
    /// `User-Agent` as it came.
    pub user_agent: Option<&'a [u8]>,
    /// What the caller is not told of the refusal.
    pub reason: Option<&'static str>,
    /// The digest of the id that was asked for.
    pub id: Option<IdDigest>,
    /// The task whose id was asked for, whether or not it was handed out.
    pub task: Option<&'a Task>,
    /// What was handed out.
    pub session: Option<&'a Session>,
}

/// The longest part of a user agent that is kept, in bytes.
const USER_AGENT: usize = 256;

/// The line of an answer as it grows: by hand, because answers come a hundred thousand times a second, and what a record costs, each of them
/// costs more.
struct Line(Vec<u8>);

impl Line {
    fn begin() -> Self {
        // Most have 400 to 700 bytes.
        let mut line = Vec::with_capacity(1024);
        line.push(b'{');
        Self(line)
    }

    fn name(&mut self, name: &'static str) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    /// A text that is known to need no escape.
    fn plain(&mut self, name: &'static str, text: &str) {
        self.name(name);
        self.0.push(b'"');
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(b'"');
    }

    /// The same of what displays itself so.
    fn shown(&mut self, name: &'static str, it: impl Display) {
        self.name(name);
        // A vector takes all.
        let _ = write!(self.0, "\"{it}\"");
    }

    /// Any text, or a number.
    fn any(&mut self, name: &'static str, it: &(impl Serialize + ?Sized)) {
        self.name(name);
        self.part(it);
    }

    fn part(&mut self, it: &(impl Serialize + ?Sized)) {
        // Texts and numbers do not fail to serialize, and a vector takes all.
        let _ = serde_json::to_writer(&mut self.0, it);
    }

    /// An address and port; `Display` takes five times as long.
    fn address(&mut self, name: &'static str, address: SocketAddr) {
        let SocketAddr::V4(address) = address else { return self.shown(name, address) };
        self.name(name);
        for (before, octet) in b"\"...".iter().zip(address.ip().octets()) {
            self.0.push(*before);
            self.part(&octet);
        }
        self.0.push(b':');
        self.part(&address.port());
        self.0.push(b'"');
    }
}

/// What all records of a task have in common: of an answer and of a call to STS.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TaskLine<'a> {
    id_digest: Shown<IdDigest>,
    task_arn: &'a str,
    role_kind: &'static str,
    role_arn: &'a str,
    session_name: &'a str,
}

impl<'a> TaskLine<'a> {
    fn of(task: &'a Task) -> Self {
        Self {
            id_digest: Shown(task.id()),
            task_arn: task.arn().as_str(),
            role_kind: task.role_kind().word(),
            role_arn: task.spec().role_arn.as_str(),
            session_name: task.spec().session_name.as_str(),
        }
    }

    /// With it the line of an answer ends.
    fn end(task: &Task) -> Box<str> {
        let object = serde_json::to_string(&TaskLine::of(task)).unwrap_or_default();
        format!("{}\n", object.trim_start_matches('{')).into()
    }
}

/// What it displays, as a JSON string.
struct Shown<T>(T);

impl<T: Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl Answered<'_> {
    /// The record of an answer to bytes that were no HTTP request.
    pub(super) fn unparsable(time: SystemTime, peer: SocketAddr) -> Self {
        let code = Some("InvalidRequest");
        Self {
            time,
            status: 400,
            code,
            peer,
            path: None,
            user_agent: None,
            reason: None,
            id: None,
            task: None,
            session: None,
        }
    }

    /// The user agent, as much of it as is kept.
    pub(super) fn user_agent(&self) -> Option<Cow<'_, str>> {
        let agent = self.user_agent?;
        Some(String::from_utf8_lossy(agent.get(..USER_AGENT).unwrap_or(agent)))
    }

    /// One line, with its end.
    #[must_use]
    pub fn json(&self) -> Vec<u8> {
        let mut line = Line::begin();
        line.shown("time", time(self.time));
        line.plain("event", "answer");
        line.any("status", &self.status);
        if let Some(code) = self.code {
            line.any("code", code);
        }
        if let Some(reason) = self.reason {
            line.plain("reason", reason);
        }
        line.address("peer", self.peer);
        if let Some(path) = self.path {
            line.plain("path", path);
        }
        if let Some(agent) = self.user_agent() {
            line.any("userAgent", &agent);
        }
        if let Some(session) = self.session {
            line.plain("accessKeyId", session.access_key_id());
        }
        let end = match self.task {
            Some(task) => {
                line.0.push(b',');
                task.described(TaskLine::end)
            }
            None => {
                if let Some(id) = self.id {
                    line.shown("idDigest", id);
                }
                "}\n"
            }
        };
        line.0.extend_from_slice(end.as_bytes());
        line.0
    }
}

/// A call to STS and what came of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Mint<'a> {
    time: Shown<Rfc3339Timestamp>,
    event: &'static str,
    /// `loaded`, or the code or kind of the failure.
    outcome: &'a str,
    #[serde(flatten)]
    task: TaskLine<'a>,
    duration_seconds: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<&'a str>,
    tag_keys: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_identity: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    assumed_role_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    assumed_role_arn: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_key_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiration: Option<Shown<Rfc3339Timestamp>>,
    /// The `requestID` of the CloudTrail event.
    #[serde(skip_serializing_if = "Option::is_none")]
    sts_request_id: Option<&'a str>,
    took_ms: u64,
}

impl<'a> Mint<'a> {
    pub(super) fn of(now: SystemTime, task: &'a Task, settled: &'a Settled, took: Duration) -> Self {
        let (session, outcome, request_id) = match settled {
            Settled::Fresh(session) => (Some(session), "loaded", session.request_id()),
            Settled::Failed { error, .. } => {
                let word = error.code.as_deref().unwrap_or(error.kind.word());
                (None, word, error.request_id.as_deref())
            }
        };
        let spec = task.spec();
        Self {
            time: Shown(time(now)),
            event: "mint",
            outcome,
            task: TaskLine::of(task),
            duration_seconds: spec.duration.seconds(),
            region: spec.region.as_ref().map(taskcreds_core::Region::as_str),
            tag_keys: spec.tags.iter().map(taskcreds_core::SessionTag::key).collect(),
            source_identity: spec.source_identity.as_ref().map(taskcreds_core::SourceIdentity::as_str),
            assumed_role_id: session.map(|session| session.assumed_role_id()),
            assumed_role_arn: session.map(|session| session.assumed_role_arn()),
            access_key_id: session.map(|session| session.access_key_id()),
            expiration: session.map(|session| Shown(time(session.expiration()))),
            sts_request_id: request_id,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }
    }

    pub(super) fn json(&self) -> Vec<u8> {
        let mut line = Vec::with_capacity(1024);
        // Plain fields do not fail to serialize, and a vector takes all.
        let _ = serde_json::to_writer(&mut line, self);
        line.push(b'\n');
        line
    }
}

/// A record as it is read again: what a question can be about and what a table shows; the line itself has all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    /// When, RFC 3339.
    pub time: String,
    /// `answer` or `mint`.
    pub event: String,
    /// The status of an answer.
    pub status: Option<u16>,
    /// The error code of an answer.
    pub code: Option<String>,
    /// What the caller was not told of a refusal.
    pub reason: Option<String>,
    /// What came of a call to STS.
    pub outcome: Option<String>,
    /// Who has asked.
    pub peer: Option<String>,
    /// The task.
    pub task_arn: Option<String>,
    /// The role.
    pub role_arn: Option<String>,
    /// The role session name.
    pub session_name: Option<String>,
    /// The access key id of the session.
    pub access_key_id: Option<String>,
    /// The line that it was read from.
    #[serde(skip)]
    pub line: String,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use taskcreds_core::test_util::{new_task, session_until};
    use taskcreds_core::{Registration, Registry};

    use super::*;

    fn read(answered: &Answered<'_>) -> Value {
        let line = answered.json();
        assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1), "one line");
        serde_json::from_slice(&line).unwrap()
    }

    #[test]
    fn a_line_is_an_object_with_what_was_answered_whatever_was_asked() {
        let registry = Registry::new(1);
        let task = registry.register(Registration::configured(new_task("web"))).unwrap();
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_299_684_021);
        let session = session_until(at);
        let answered = |peer: &str| Answered {
            path: Some("/v2/credentials"),
            id: Some(task.id()),
            ..Answered::unparsable(at, peer.parse().unwrap())
        };
        let mut wanted = json!({
            "time": "2026-11-21T22:21:24.021Z",
            "event": "answer",
            "status": 400,
            "code": "InvalidRequest",
            "peer": "10.0.200.3:7",
            "path": "/v2/credentials",
            "idDigest": task.id().to_string(),
        });
        assert_eq!(read(&answered("10.0.200.3:7")), wanted);
        wanted["peer"] = "[fd00:ec2::23]:47110".into();
        for agent in ["Boto3/1.40", "", "\"}\\\n\r\t\0\u{7f}\u{2028}é", "{\"a\": 1},"] {
            wanted["userAgent"] = agent.into();
            let answered = Answered { user_agent: Some(agent.as_bytes()), ..answered("[fd00:ec2::23]:47110") };
            assert_eq!(read(&answered), wanted);
        }
        let odd = Answered { user_agent: Some(b"\xff\"\xc3"), code: Some("a\"b\n"), ..answered("[::1]:1") };
        assert_eq!((&read(&odd)["userAgent"], &read(&odd)["code"]), (&json!("\u{fffd}\"\u{fffd}"), &json!("a\"b\n")));
        let long = "é".repeat(USER_AGENT);
        let cut = read(&Answered { user_agent: Some(long.as_bytes()), ..answered("[::1]:1") });
        assert_eq!(cut["userAgent"], "é".repeat(USER_AGENT / 2));

        let served = Answered {
            status: 200,
            code: None,
            task: Some(&task),
            session: Some(&session),
            ..answered("127.0.0.1:65535")
        };
        let wanted = json!({
            "time": "2026-11-21T22:21:24.021Z",
            "event": "answer",
            "status": 200,
            "peer": "127.0.0.1:65535",
            "path": "/v2/credentials",
            "accessKeyId": session.access_key_id(),
            "idDigest": task.id().to_string(),
            "taskArn": task.arn().as_str(),
            "roleKind": "task",
            "roleArn": task.spec().role_arn.as_str(),
            "sessionName": task.spec().session_name.as_str(),
        });
        assert_eq!((read(&served), read(&served)), (wanted.clone(), wanted));
    }
}
