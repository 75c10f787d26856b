//! A task: who may ask, and for which session. Ids and tokens are secrets and are kept as digests only.

use std::fmt;
use std::sync::{Arc, OnceLock};

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::grammar::{Invalid, check};
use crate::lease::Lease;
use crate::origin::Origin;
use crate::registry::NewTask;
use crate::role::SessionSpec;
use crate::task_arn::TaskArn;

/// What a task is registered with, its secrets as digests only: what may be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The task's ARN.
    pub arn: TaskArn,
    /// Which of the task's roles this is.
    pub role_kind: RoleKind,
    /// What is asked of STS.
    pub spec: SessionSpec,
    /// The credentials id that opens it.
    pub id: IdDigest,
    /// The tokens that are accepted.
    pub tokens: Vec<TokenDigest>,
    /// Where the token is demanded.
    pub token_rule: TokenRule,
    /// Where it may be asked from; empty: anywhere.
    pub origins: Vec<Origin>,
    /// Who has registered it.
    pub source: Source,
}

/// Where registrations come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The configuration file, or the flags of a command.
    Configuration,
    /// The admin socket: this user of it.
    Admin {
        /// The user's id.
        uid: u32,
    },
}

impl Registration {
    /// What the configuration registers.
    #[must_use]
    pub fn configured(new: NewTask) -> Self {
        Self::of(new, Source::Configuration)
    }

    /// What this source registers.
    #[must_use]
    pub fn of(new: NewTask, source: Source) -> Self {
        let NewTask { arn, role_kind, spec, id, tokens, token_rule, origins } = new;
        let tokens = tokens.iter().map(Token::digest).collect();
        Self { arn, role_kind, spec, id: id.digest(), tokens, token_rule, origins, source }
    }

    /// Whether the other one asks for the same, whatever opens it.
    #[must_use]
    pub fn is_same_but_for_secrets(&self, other: &Self) -> bool {
        let Self { arn, role_kind, spec, token_rule, origins, source, id: _, tokens: _ } = self;
        *arn == other.arn
            && *role_kind == other.role_kind
            && *spec == other.spec
            && *token_rule == other.token_rule
            && *origins == other.origins
            && *source == other.source
    }
}

/// A registration that stands, or has stood.
#[derive(Debug)]
pub struct Task {
    pub(crate) registration: Registration,
    pub(crate) lease: Lease,
    /// Whether its last token is one that the configuration has replaced, and not one that it names.
    remembers: bool,
    described: OnceLock<Box<str>>,
}

impl Task {
    /// A registration with a lease of its own.
    pub(crate) fn begin(registration: Registration) -> Self {
        Self { registration, lease: Lease::begin(), remembers: false, described: OnceLock::new() }
    }

    /// The same registration, lease included, with these tokens; where there is one, the last present one stays valid beside it. One that
    /// was named beside it and is not any more is taken back.
    pub(crate) fn with_tokens(self: &Arc<Self>, mut tokens: Vec<TokenDigest>) -> Arc<Self> {
        let mut remembers = false;
        match (tokens.as_slice(), self.registration.tokens.first()) {
            ([present], Some(last)) if present == last && self.remembers => return Arc::clone(self),
            (named, _) if *named == self.registration.tokens && !self.remembers => return Arc::clone(self),
            ([present], Some(last)) if present != last => {
                tokens.push(last.clone());
                remembers = true;
            }
            _ => {}
        }
        let registration = Registration { tokens, ..self.registration.clone() };
        Arc::new(Self { registration, lease: self.lease.clone(), remembers, described: OnceLock::new() })
    }

    /// What it was registered with.
    #[must_use]
    pub fn registration(&self) -> &Registration {
        &self.registration
    }

    /// The task's ARN.
    #[must_use]
    pub fn arn(&self) -> &TaskArn {
        &self.registration.arn
    }

    /// Which of the task's roles this is.
    #[must_use]
    pub fn role_kind(&self) -> RoleKind {
        self.registration.role_kind
    }

    /// What is asked of STS for this task.
    #[must_use]
    pub fn spec(&self) -> &SessionSpec {
        &self.registration.spec
    }

    /// The digest of the credentials id; its `Display` is safe to log.
    #[must_use]
    pub fn id(&self) -> IdDigest {
        self.registration.id
    }

    /// Whether this registration still stands.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// What every record of an answer says of this task. It is rendered by the first who asks, because nothing of it changes.
    pub fn described(&self, render: impl FnOnce(&Self) -> Box<str>) -> &str {
        self.described.get_or_init(|| render(self))
    }

    /// Whether one of the task's tokens is the one presented. Takes the same time whichever it is.
    pub(crate) fn accepts(&self, presented: &[u8]) -> bool {
        let presented = TokenDigest::of(presented);
        let tokens = &self.registration.tokens;
        let any = tokens.iter().fold(Choice::from(0), |any, token| any | token.0.ct_eq(&presented.0));
        any.into()
    }
}

/// The two roles of one task; each has a credentials id of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RoleKind {
    /// What the application in the task runs with.
    Task,
    /// What the agent uses on the task's behalf: pulling images, sending logs, reading secrets.
    Execution,
}

impl RoleKind {
    /// The kind in a word: `task` or `execution`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Execution => "execution",
        }
    }
}

impl fmt::Display for RoleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Task => "task role",
            Self::Execution => "execution role",
        })
    }
}

/// The unguessable id in the path of the credentials endpoint: a bearer secret.
#[derive(Clone)]
pub struct CredentialsId(SecretString);

impl CredentialsId {
    /// A random id: a version 4 UUID, 122 random bits.
    #[must_use]
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().to_string().into())
    }

    /// Checks an id: 22 to 128 characters of `A-Z a-z 0-9 - _`. 22 is what 128 random bits take in base64url; a UUID has 36.
    ///
    /// # Errors
    /// [`Invalid`] with the rule that the id breaks.
    pub fn new(text: impl Into<String>) -> Result<Self, Invalid> {
        let text = SecretString::from(text.into());
        let alphabet = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        check("credentials id", text.expose_secret(), 22..=128, alphabet, "A-Z a-z 0-9 - _ (use a random UUID)")?;
        Ok(Self(text))
    }

    /// What the map of tasks is keyed by.
    #[must_use]
    pub fn digest(&self) -> IdDigest {
        IdDigest::of(self.expose())
    }

    /// The id itself, for the one who registers the task.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for CredentialsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CredentialsId({})", self.digest())
    }
}

/// The SHA-256 of a credentials id. Its `Display` is the first 8 hex digits, enough to tell tasks apart in a log.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdDigest([u8; 32]);

impl IdDigest {
    /// The digest of an id as it stands in a request; nothing is allocated.
    #[must_use]
    pub fn of(id: &str) -> Self {
        Self(Sha256::digest(id.as_bytes()).into())
    }

    /// The digest that these bytes are.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// All of it, for a file that keeps it.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for IdDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for IdDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An authorization token: the whole value of the `Authorization` header, without a scheme.
#[derive(Clone)]
pub struct Token(SecretString);

impl Token {
    /// A random token: 244 random bits.
    #[must_use]
    pub fn random() -> Self {
        let halves = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
        Self(halves.map(|half| half.simple().to_string()).concat().into())
    }

    /// Checks a token: 1 to 4096 visible ASCII characters. Clients refuse a line end in it, and a header cannot begin or
    /// end with a space.
    ///
    /// # Errors
    /// [`Invalid`] with the rule that the token breaks.
    pub fn new(text: impl Into<String>) -> Result<Self, Invalid> {
        let text = SecretString::from(text.into());
        check(
            "token",
            text.expose_secret(),
            1..=4096,
            |c| c.is_ascii_graphic(),
            "visible ASCII, no spaces or line ends",
        )?;
        Ok(Self(text))
    }

    /// The token itself, for the one who registers the task.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// What is kept of it.
    #[must_use]
    pub fn digest(&self) -> TokenDigest {
        TokenDigest::of(self.expose().as_bytes())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

/// The SHA-256 of a token: equal in length whatever the token's, so that comparing leaks nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// The digest that these bytes are.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// All of it, for a file that keeps it.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(redacted)")
    }
}

/// Where a task that has a token demands it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenRule {
    /// On loopback (`FULL_URI`), not on 169.254.170.2 (`RELATIVE_URI`), where many clients send none.
    #[default]
    Loopback,
    /// Everywhere.
    Always,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_shows_no_id_and_no_token() {
        let (id, token) = (CredentialsId::random(), Token::random());
        let shown = format!("{id:?} {token:?} {:?} {}", token.digest(), id.digest());
        assert!(!shown.contains(id.expose()) && !shown.contains(token.expose()), "{shown}");
        assert_eq!(id.digest().to_string().len(), 8);
    }

    #[test]
    fn ids_too_short_to_be_unguessable_are_refused() {
        assert!(CredentialsId::new("a".repeat(21)).is_err() && CredentialsId::new("a".repeat(22)).is_ok());
        assert!(CredentialsId::new("a".repeat(128)).is_ok() && CredentialsId::new("a".repeat(129)).is_err());
        assert!(CredentialsId::new("../../../../../../../../etc").is_err());
        assert!(Token::new("").is_err() && Token::new("a b").is_err() && Token::new("a\n").is_err());
        assert!(Token::new("a-token").is_ok());
    }
}
