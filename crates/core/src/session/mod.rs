//! A session: temporary credentials with an expiration. What cannot be served whole is never made into one.

pub mod cache;
pub mod cell;
pub mod policy;

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};

use crate::role::RoleArn;
use crate::sts::{AssumeRoleError, FailureKind};

/// What STS answered, before anybody has looked at it.
#[derive(Debug)]
pub struct NewSession {
    /// The role that was asked for; it cannot be told from the assumed-role ARN, which has no path.
    pub role_arn: RoleArn,
    /// `AccessKeyId`, which is no secret.
    pub access_key_id: String,
    /// `SecretAccessKey`.
    pub secret_access_key: SecretString,
    /// `SessionToken`.
    pub session_token: SecretString,
    /// `Expiration`.
    pub expiration: SystemTime,
    /// `AssumedRoleUser.Arn`.
    pub assumed_role_arn: String,
    /// `AssumedRoleUser.AssumedRoleId`.
    pub assumed_role_id: String,
    /// The `x-amzn-requestid` of the answer.
    pub request_id: Option<String>,
}

/// Temporary credentials, whole and fit for every client.
pub struct Session {
    parts: NewSession,
    body: OnceLock<Bytes>,
}

impl Session {
    /// The longest body of an answer in bytes; aws-c-auth refuses a longer one.
    pub const MAX_BODY: usize = 10_000;
    /// What the body has beside the four texts: `{"RoleArn":"","AccessKeyId":"",…}` and the expiration.
    const BODY_FRAME: usize = 99;
    /// 9999-12-31T23:59:59Z, the last second that an `Expiration` of four-digit years can name.
    const LAST_EXPIRATION: Duration = Duration::from_secs(253_402_300_799);

    /// Checks that a session can be served: nothing is empty, every text is visible ASCII without quotation mark and backslash
    /// (clients do not unescape), the body is at most [`Session::MAX_BODY`] bytes long.
    ///
    /// # Errors
    /// A failure of kind [`FailureKind::Unavailable`] that names the field, never its value.
    pub fn new(parts: NewSession) -> Result<Self, AssumeRoleError> {
        let unusable = |what: &str| {
            let message = format!("STS answered a session that no client can use: {what}");
            AssumeRoleError {
                request_id: parts.request_id.clone(),
                ..AssumeRoleError::new(FailureKind::Unavailable, message, "see what answers as STS")
            }
        };
        let texts = [
            ("RoleArn", parts.role_arn.as_str()),
            ("AccessKeyId", &parts.access_key_id),
            ("SecretAccessKey", parts.secret_access_key.expose_secret()),
            ("SessionToken", parts.session_token.expose_secret()),
        ];
        for (name, text) in texts {
            if text.is_empty() {
                return Err(unusable(&format!("{name} is empty")));
            }
            if !text.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\') {
                return Err(unusable(&format!("{name} holds a character that would need an escape in JSON")));
            }
        }
        if Self::BODY_FRAME + texts.iter().map(|(_, text)| text.len()).sum::<usize>() > Self::MAX_BODY {
            return Err(unusable("it is longer than 10,000 bytes"));
        }
        match parts.expiration.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) if since <= Self::LAST_EXPIRATION => Ok(Self { parts, body: OnceLock::new() }),
            _ => Err(unusable("Expiration is not a time between 1970 and 9999")),
        }
    }

    /// The role.
    #[must_use]
    pub fn role_arn(&self) -> &RoleArn {
        &self.parts.role_arn
    }

    /// The access key id, which is no secret.
    #[must_use]
    pub fn access_key_id(&self) -> &str {
        &self.parts.access_key_id
    }

    /// The secret access key.
    #[must_use]
    pub fn secret_access_key(&self) -> &SecretString {
        &self.parts.secret_access_key
    }

    /// The session token.
    #[must_use]
    pub fn session_token(&self) -> &SecretString {
        &self.parts.session_token
    }

    /// When STS ends the session.
    #[must_use]
    pub fn expiration(&self) -> SystemTime {
        self.parts.expiration
    }

    /// `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION-NAME`.
    #[must_use]
    pub fn assumed_role_arn(&self) -> &str {
        &self.parts.assumed_role_arn
    }

    /// `AROA…:SESSION-NAME`.
    #[must_use]
    pub fn assumed_role_id(&self) -> &str {
        &self.parts.assumed_role_id
    }

    /// The `requestID` of the CloudTrail event.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.parts.request_id.as_deref()
    }

    /// How long the session lasts from `now` on; zero once it has ended.
    #[must_use]
    pub fn remaining(&self, now: SystemTime) -> Duration {
        self.parts.expiration.duration_since(now).unwrap_or_default()
    }

    /// The answer made of this session. It is rendered by the first who asks and shared by all others, so one session has
    /// one body, byte for byte.
    pub fn body(&self, render: impl FnOnce(&Self) -> Bytes) -> Bytes {
        self.body.get_or_init(|| render(self)).clone()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("role_arn", &self.parts.role_arn.as_str())
            .field("access_key_id", &self.parts.access_key_id)
            .field("expiration", &self.parts.expiration)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::{EPOCH, new_session};

    #[test]
    fn invariant_4_a_session_with_an_empty_or_unservable_field_is_never_made() {
        assert!(Session::new(new_session(EPOCH)).is_ok());
        type Change = fn(&mut NewSession);
        let changes: [(Change, &str); 7] = [
            (|s| s.access_key_id = String::new(), "AccessKeyId is empty"),
            (|s| s.secret_access_key = "".into(), "SecretAccessKey is empty"),
            (|s| s.session_token = "".into(), "SessionToken is empty"),
            (|s| s.session_token = "a\"b".into(), "SessionToken holds a character"),
            (|s| s.secret_access_key = "a\\b".into(), "SecretAccessKey holds a character"),
            (|s| s.session_token = "a".repeat(10_000).into(), "longer than 10,000 bytes"),
            (|s| s.expiration = EPOCH + Duration::from_secs(300_000_000_000), "Expiration is not a time"),
        ];
        for (change, message) in changes {
            let mut parts = new_session(EPOCH);
            change(&mut parts);
            let fault = Session::new(parts).unwrap_err();
            assert!(fault.message.contains(message), "{fault}");
        }
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let parts = new_session(EPOCH);
        let secrets = [parts.secret_access_key.clone(), parts.session_token.clone()];
        let shown = format!("{parts:?} {:?}", Session::new(new_session(EPOCH)).unwrap());
        for secret in secrets {
            assert!(!shown.contains(secret.expose_secret()), "{shown}");
        }
    }
}
