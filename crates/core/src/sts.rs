//! The border to STS: one call, no caching, no policy.

use std::pin::Pin;
use std::time::Duration;

use crate::role::SessionSpec;
use crate::session::Session;

/// What [`AssumeRole::assume_role`] returns: boxed, because a load happens twice an hour and one word more costs nothing.
pub type Pending<'a> = Pin<Box<dyn Future<Output = Result<Session, AssumeRoleError>> + Send + 'a>>;

/// Calls sts:AssumeRole once.
pub trait AssumeRole: Send + Sync + 'static {
    /// Asks for one session. Whether, when and how often to ask is decided elsewhere.
    fn assume_role<'a>(&'a self, spec: &'a SessionSpec) -> Pending<'a>;
}

/// Why there is no session: what to tell the caller, what to log, and when trying again makes sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}{}", code_prefix(.code.as_deref()), request_suffix(.request_id.as_deref()))]
pub struct AssumeRoleError {
    /// What kind of failure it is, which decides when to try again.
    pub kind: FailureKind,
    /// STS's error code, where STS answered.
    pub code: Option<String>,
    /// What happened and what to do about it; one line, no secrets.
    pub message: String,
    /// The `x-amzn-requestid` of the answer: the `requestID` of the CloudTrail event.
    pub request_id: Option<String>,
    /// How long STS asked to be left alone.
    pub retry_after: Option<Duration>,
}

fn code_prefix(code: Option<&str>) -> String {
    code.map(|code| format!("{code}: ")).unwrap_or_default()
}

fn request_suffix(id: Option<&str>) -> String {
    id.map(|id| format!(" (STS request {id})")).unwrap_or_default()
}

impl AssumeRoleError {
    /// A failure that STS did not name.
    #[must_use]
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, code: None, message: message.into(), request_id: None, retry_after: None }
    }
}

/// The classes of failure that are treated differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// STS says no, and will until somebody changes a policy or the configuration.
    Refused,
    /// STS asks for fewer calls.
    Throttled,
    /// STS could not be reached, failed, or answered something unusable.
    Unavailable,
    /// The proxy's own credentials are missing, expired or wrong.
    BaseCredentials,
}
