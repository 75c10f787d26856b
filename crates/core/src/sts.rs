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

/// Why there is no session. `Display` is what the log keeps; [`told`](AssumeRoleError::told) is what the caller gets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}{}; {remedy}", .code.as_deref().unwrap_or(.kind.without_code()), request(.request_id.as_deref()))]
pub struct AssumeRoleError {
    /// What kind of failure it is, which decides when to try again.
    pub kind: FailureKind,
    /// STS's error code, where STS answered with one.
    pub code: Option<String>,
    /// What happened, in STS's or the SDK's words; one line, no secrets.
    pub message: String,
    /// What to do about it.
    pub remedy: &'static str,
    /// The `x-amzn-requestid` of the answer: the `requestID` of the CloudTrail event.
    pub request_id: Option<String>,
    /// How long STS asked to be left alone.
    pub retry_after: Option<Duration>,
}

fn request(id: Option<&str>) -> String {
    id.map(|id| format!(" (STS request {id})")).unwrap_or_default()
}

impl AssumeRoleError {
    /// A failure that STS did not name.
    #[must_use]
    pub fn new(kind: FailureKind, message: impl Into<String>, remedy: &'static str) -> Self {
        Self { kind, code: None, message: message.into(), remedy, request_id: None, retry_after: None }
    }

    /// What the caller is told: STS's code and what to do, without STS's own words, which name the proxy's principal and are in its log.
    #[must_use]
    pub fn told(&self) -> String {
        let cause = self.code.as_deref().unwrap_or(self.kind.without_code());
        let log = if self.kind == FailureKind::Refused { "; the proxy's log has STS's own words" } else { "" };
        format!("{cause}; {}{log}", self.remedy)
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

impl FailureKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Refused, Self::Throttled, Self::Unavailable, Self::BaseCredentials];

    /// The kind in a word: `refused`, `throttled`, `unavailable`, `base_credentials`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::BaseCredentials => "base_credentials",
        }
    }

    /// What is said where STS has given no code.
    fn without_code(self) -> &'static str {
        match self {
            Self::Refused => "STS refused",
            Self::Throttled => "STS is throttling",
            Self::Unavailable => "STS is unavailable",
            Self::BaseCredentials => "the proxy has no valid AWS credentials of its own",
        }
    }
}
