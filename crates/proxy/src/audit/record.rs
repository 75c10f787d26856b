//! What a record says. One JSON object a line, its keys in the API's camelCase.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AnswerLine<'a> {
    time: String,
    event: &'static str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    peer: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_arn: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role_kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role_arn: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_key_id: Option<&'a str>,
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
    pub(super) fn user_agent(&self) -> Option<String> {
        let agent = self.user_agent?;
        Some(String::from_utf8_lossy(agent.get(..USER_AGENT).unwrap_or(agent)).into_owned())
    }

    /// One line, with its end.
    #[must_use]
    pub fn json(&self) -> Vec<u8> {
        line(&AnswerLine {
            time: time(self.time),
            event: "answer",
            status: self.status,
            code: self.code,
            reason: self.reason,
            peer: self.peer,
            path: self.path,
            user_agent: self.user_agent(),
            id_digest: self.id.map(|id| id.to_string()),
            task_arn: self.task.map(|task| task.arn().as_str()),
            role_kind: self.task.map(|task| task.role_kind().word()),
            role_arn: self.task.map(|task| task.spec().role_arn.as_str()),
            session_name: self.task.map(|task| task.spec().session_name.as_str()),
            access_key_id: self.session.map(Session::access_key_id),
        })
    }
}

/// A call to STS and what came of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Mint<'a> {
    time: String,
    event: &'static str,
    /// `loaded`, or the code or kind of the failure.
    outcome: &'a str,
    id_digest: String,
    task_arn: &'a str,
    role_kind: &'static str,
    role_arn: &'a str,
    session_name: &'a str,
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
    expiration: Option<String>,
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
            time: time(now),
            event: "mint",
            outcome,
            id_digest: task.id().to_string(),
            task_arn: task.arn().as_str(),
            role_kind: task.role_kind().word(),
            role_arn: spec.role_arn.as_str(),
            session_name: spec.session_name.as_str(),
            duration_seconds: spec.duration.seconds(),
            region: spec.region.as_ref().map(taskcreds_core::Region::as_str),
            tag_keys: spec.tags.iter().map(taskcreds_core::SessionTag::key).collect(),
            source_identity: spec.source_identity.as_ref().map(taskcreds_core::SourceIdentity::as_str),
            assumed_role_id: session.map(|session| session.assumed_role_id()),
            assumed_role_arn: session.map(|session| session.assumed_role_arn()),
            access_key_id: session.map(|session| session.access_key_id()),
            expiration: session.map(|session| time(session.expiration())),
            sts_request_id: request_id,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }
    }

    pub(super) fn json(&self) -> Vec<u8> {
        line(self)
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

pub(super) fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

fn line(record: &impl Serialize) -> Vec<u8> {
    let mut line = Vec::with_capacity(512);
    // Plain fields do not fail to serialize, and a vector takes all.
    let _ = serde_json::to_writer(&mut line, record);
    line.push(b'\n');
    line
}
