//! The bytes of a 200: five keys, this order, all strings, no escapes, no whitespace.
//!
//! What each rule is for: s3fs wants just these five; `Code`, `Type` and `LastUpdated` break aws-config, Kotlin and .NET;
//! an offset or a fraction in `Expiration` breaks JavaScript v3, aws-config and Swift.

use bytes::Bytes;
use secrecy::ExposeSecret;
use taskcreds_core::Session;
use zeroize::Zeroizing;

/// Renders the body of a session; wiped from memory when the last answer that holds it is gone.
///
/// [`Session::new`] has let through only texts that need no escape in JSON and an expiration of four-digit years.
#[must_use]
pub fn credentials(session: &Session) -> Bytes {
    let expiration = humantime::format_rfc3339_seconds(session.expiration());
    // Written into a buffer that never grows, so that no half of it stays behind in memory.
    let mut body = Zeroizing::new(Vec::with_capacity(Session::MAX_BODY));
    let mut put = |text: &str| body.extend_from_slice(text.as_bytes());
    put(r#"{"RoleArn":""#);
    put(session.role_arn().as_str());
    put(r#"","AccessKeyId":""#);
    put(session.access_key_id());
    put(r#"","SecretAccessKey":""#);
    put(session.secret_access_key().expose_secret());
    put(r#"","Token":""#);
    put(session.session_token().expose_secret());
    put(r#"","Expiration":""#);
    put(&expiration.to_string());
    put("\"}");
    let exact = Zeroizing::new(body.as_slice().to_vec());
    Bytes::from_owner(exact)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use taskcreds_core::NewSession;
    use taskcreds_core::test_util::{EPOCH, new_session, session_until};

    use super::*;

    #[test]
    fn the_body_is_the_five_keys_in_their_order_and_nothing_else() {
        let session = session_until(EPOCH + Duration::from_millis(1_795_299_684_900));
        assert_eq!(
            credentials(&session),
            concat!(
                r#"{"RoleArn":"arn:aws:iam::111122223333:role/web","AccessKeyId":"ASIATESTTESTTESTTEST","#,
                r#""SecretAccessKey":"test-secret-access-key-0123456789-abcdef","Token":"test-session-token","#,
                r#""Expiration":"2026-11-21T22:21:24Z"}"#
            )
        );
    }

    #[test]
    fn the_longest_session_that_is_let_through_fills_the_limit_to_the_byte() {
        let longest =
            |token: usize| Session::new(NewSession { session_token: "t".repeat(token).into(), ..new_session(EPOCH) });
        let frame = credentials(&longest(1).unwrap()).len() - 1;
        let fits = longest(Session::MAX_BODY - frame).unwrap();
        assert_eq!(credentials(&fits).len(), Session::MAX_BODY);
        assert!(longest(Session::MAX_BODY - frame + 1).is_err());
    }
}
