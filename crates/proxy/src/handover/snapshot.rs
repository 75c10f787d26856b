//! Sessions as bytes and back: what one process leaves to the next.
//!
//! What it guarantees: bytes that are not whole to the last bit are refused, and no bytes make it panic; a session is handed out for
//! the task that it was made for and no other (invariant 8): same credentials id, task ARN, kind of role and whole session spec;
//! no copy of a secret stays behind in memory.
//!
//! The form: one JSON document, a line end, the SHA-256 of the document in hex. The form of the spec is written out here, not
//! derived, so that a session is found again by a later version of the program too.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use taskcreds_core::{Kept, NewSession, Session, SessionSpec, Task};
use zeroize::Zeroizing;

/// The form of the document. Another one is refused.
const FORMAT: u32 = 1;
/// A line end and a SHA-256 in hex.
const TAIL: usize = 65;
/// What a clock may be moved back without notice.
const CLOCK_NOISE: Duration = Duration::from_secs(1);

/// What every form begins with.
#[derive(Deserialize)]
struct Header<'a> {
    format: u32,
    #[serde(borrow)]
    program: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct Document<'a> {
    format: u32,
    /// The version of the program that has written it.
    program: &'a str,
    /// Of two snapshots the one with the higher number counts.
    generation: u64,
    /// Milliseconds since 1970, like all times here.
    written_at: u64,
    /// Which STS the sessions are from; none: AWS itself.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    sts: Option<Cow<'a, str>>,
    #[serde(borrow)]
    sessions: Vec<Item<'a>>,
}

/// The secrets are borrowed both ways: they have no escapes in JSON, see [`Session::new`].
#[derive(Serialize, Deserialize)]
struct Item<'a> {
    /// The digest of the credentials id.
    id: Cow<'a, str>,
    made_for: Cow<'a, str>,
    access_key_id: &'a str,
    secret_access_key: &'a str,
    session_token: &'a str,
    expiration: u64,
    #[serde(borrow)]
    assumed_role_arn: Cow<'a, str>,
    #[serde(borrow)]
    assumed_role_id: Cow<'a, str>,
    #[serde(borrow)]
    request_id: Option<Cow<'a, str>>,
    refresh_at: u64,
    ends_at: u64,
}

/// Why bytes are no snapshot.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    /// Cut short, altered, or something else altogether.
    #[error("they are not whole")]
    Damaged,
    /// From a version of the program that writes another form.
    #[error("taskcreds {program} has written them in format {format}, and this version reads format {FORMAT}")]
    Format {
        /// The form.
        format: u32,
        /// The version that has written it.
        program: String,
    },
}

/// The bytes of these sessions.
///
/// # Errors
/// None but the memory's.
pub(super) fn write(
    kept: &[(Arc<Task>, Kept)],
    generation: u64,
    now: SystemTime,
    sts: Option<&str>,
) -> serde_json::Result<Zeroizing<Vec<u8>>> {
    let program = env!("CARGO_PKG_VERSION");
    let sessions = kept.iter().map(|(task, kept)| item(task, kept)).collect();
    let (written_at, sts) = (since_1970(now), sts.map(Cow::from));
    let document = Document { format: FORMAT, program, generation, written_at, sts, sessions };
    // Measured first and then written into a buffer that never grows, so that no half of it stays behind in memory.
    let mut length = Length(0);
    serde_json::to_writer(&mut length, &document)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.0 + TAIL));
    serde_json::to_writer(&mut *bytes, &document)?;
    let digest = hex(&Sha256::digest(&*bytes));
    bytes.push(b'\n');
    bytes.extend_from_slice(digest.as_bytes());
    Ok(bytes)
}

fn item<'a>(task: &Task, kept: &'a Kept) -> Item<'a> {
    let Kept { session, refresh_at, ends_at } = kept;
    Item {
        id: hex(task.id().bytes()).into(),
        made_for: made_for(task).into(),
        access_key_id: session.access_key_id(),
        secret_access_key: session.secret_access_key().expose_secret(),
        session_token: session.session_token().expose_secret(),
        expiration: since_1970(session.expiration()),
        assumed_role_arn: session.assumed_role_arn().into(),
        assumed_role_id: session.assumed_role_id().into(),
        request_id: session.request_id().map(Cow::from),
        refresh_at: since_1970(*refresh_at),
        ends_at: since_1970(*ends_at),
    }
}

/// What a session was made for: the task and the whole of what was asked of STS. The role ARN is in it, so a session needs none.
fn made_for(task: &Task) -> String {
    // Taken apart without `..`, so that no new part of a spec is forgotten here.
    let SessionSpec {
        role_arn,
        session_name,
        tags,
        transitive_tags,
        source_identity,
        external_id,
        policy,
        policy_arns,
        duration,
        region,
        fallback_region,
    } = task.spec();
    let whole = serde_json::json!({
        "task_arn": task.arn().to_string(),
        "role_kind": task.role_kind().word(),
        "role_arn": role_arn.as_str(),
        "session_name": session_name.to_string(),
        "tags": tags.iter().map(|tag| [tag.key(), tag.value()]).collect::<Vec<_>>(),
        "transitive_tags": transitive_tags,
        "source_identity": source_identity.as_ref().map(ToString::to_string),
        "external_id": external_id.as_ref().map(ToString::to_string),
        "policy": policy.as_ref().map(ToString::to_string),
        "policy_arns": policy_arns.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "duration": duration.seconds(),
        "region": region.as_ref().map(ToString::to_string),
        "fallback_region": fallback_region.to_string(),
    });
    hex(&Sha256::digest(Zeroizing::new(whole.to_string()).as_bytes()))
}

/// The sessions of the process before.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// Of two snapshots the one with the higher number counts.
    pub(super) generation: u64,
    written_at: SystemTime,
    /// Which STS the sessions are from; none: AWS itself.
    pub(super) sts: Option<String>,
    /// By the digest of the credentials id.
    sessions: HashMap<String, Left>,
}

/// One session that was left.
#[derive(Debug)]
struct Left {
    made_for: String,
    access_key_id: String,
    secret_access_key: SecretString,
    session_token: SecretString,
    expiration: SystemTime,
    assumed_role_arn: String,
    assumed_role_id: String,
    request_id: Option<String>,
    refresh_at: SystemTime,
    ends_at: SystemTime,
}

impl Snapshot {
    /// Reads what [`write`] has written.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        let json = bytes.len().checked_sub(TAIL).and_then(|end| bytes.split_at_checked(end));
        let (json, tail) = json.ok_or(Unreadable::Damaged)?;
        if tail.strip_prefix(b"\n") != Some(hex(&Sha256::digest(json)).as_bytes()) {
            return Err(Unreadable::Damaged);
        }
        let header: Header<'_> = serde_json::from_slice(json).map_err(|_| Unreadable::Damaged)?;
        if header.format != FORMAT {
            return Err(Unreadable::Format { format: header.format, program: header.program.into_owned() });
        }
        let document: Document<'_> = serde_json::from_slice(json).map_err(|_| Unreadable::Damaged)?;
        let written_at = time(document.written_at).ok_or(Unreadable::Damaged)?;
        let sessions = document.sessions.into_iter().map(|item| Some((item.id.to_string(), left(item)?)));
        let sessions = sessions.collect::<Option<_>>().ok_or(Unreadable::Damaged)?;
        let sts = document.sts.map(Cow::into_owned);
        Ok(Self { generation: document.generation, written_at, sts, sessions })
    }

    /// How many sessions are left.
    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Takes out the session that was made for this task. Where the clock was set back since, it ends so much earlier, as a running
    /// process would have it.
    pub(super) fn take(&mut self, task: &Task, now: SystemTime) -> Option<Kept> {
        let left = self.sessions.remove(&hex(task.id().bytes())).filter(|left| left.made_for == made_for(task))?;
        let back = self.written_at.duration_since(now).ok().filter(|back| *back > CLOCK_NOISE).unwrap_or_default();
        let earlier = |at: SystemTime| at.checked_sub(back).unwrap_or(SystemTime::UNIX_EPOCH);
        let session = Session::new(NewSession {
            role_arn: task.spec().role_arn.clone(),
            access_key_id: left.access_key_id,
            secret_access_key: left.secret_access_key,
            session_token: left.session_token,
            expiration: left.expiration,
            assumed_role_arn: left.assumed_role_arn,
            assumed_role_id: left.assumed_role_id,
            request_id: left.request_id,
        });
        let session = Arc::new(session.ok()?);
        Some(Kept { session, refresh_at: earlier(left.refresh_at), ends_at: earlier(left.ends_at) })
    }
}

fn left(item: Item<'_>) -> Option<Left> {
    Some(Left {
        made_for: item.made_for.into_owned(),
        access_key_id: item.access_key_id.to_owned(),
        secret_access_key: item.secret_access_key.into(),
        session_token: item.session_token.into(),
        expiration: time(item.expiration)?,
        assumed_role_arn: item.assumed_role_arn.into_owned(),
        assumed_role_id: item.assumed_role_id.into_owned(),
        request_id: item.request_id.map(Cow::into_owned),
        refresh_at: time(item.refresh_at)?,
        ends_at: time(item.ends_at)?,
    })
}

/// Milliseconds since 1970.
pub(super) fn since_1970(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn time(milliseconds: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Counts what would be written.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
