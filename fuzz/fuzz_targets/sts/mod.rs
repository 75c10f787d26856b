//! A reply of STS read from an input, and what holds of whatever it is made into.
//!
//! The input is the status, then one `NAME:VALUE` a line, an empty line and the body.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use aws_sdk_sts::config::http::HttpResponse;
use aws_sdk_sts::error::SdkError;
use aws_sdk_sts::operation::assume_role::{AssumeRoleError as SdkAssumeRoleError, AssumeRoleOutput};
use secrecy::ExposeSecret;
use taskcreds::aws::outcome;
use taskcreds_core::{RoleArn, SessionSpec, TaskArn};

/// A secret that no word of a failure holds, where a reply has it as one.
const SECRET: &[u8] = b"SECRETsecretSECRET";

static SPEC: LazyLock<SessionSpec> = LazyLock::new(|| {
    let task = TaskArn::new("arn:aws:ecs:us-west-2:111122223333:task/prod/t1").unwrap();
    SessionSpec::new(RoleArn::new("arn:aws:iam::111122223333:role/web").unwrap(), &task)
});

/// The reply.
pub fn reply(bytes: &[u8]) -> Option<HttpResponse> {
    let (first, mut rest) = bytes.split_first_chunk::<3>()?;
    let mut reply = http::Response::builder().status(&first[..]);
    rest = rest.strip_prefix(b"\n")?;
    while !rest.starts_with(b"\n") {
        let line = rest.split(|byte| *byte == b'\n').next()?;
        let colon = line.iter().position(|byte| *byte == b':')?;
        reply = reply.header(&line[..colon], &line[colon + 1..]);
        rest = rest.get(line.len() + 1..)?;
    }
    reply.body(rest[1..].to_vec().into()).ok()?.try_into().ok()
}

fn is_plain(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b))
}

fn holds(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// The input has the secret once, as the text of an element of a session or at the end of it.
fn has_secret(input: &[u8]) -> bool {
    let mut secrets = input.windows(SECRET.len()).enumerate().filter(|(_, window)| *window == SECRET);
    let (Some((at, _)), None) = (secrets.next(), secrets.next()) else { return false };
    let before = &input[..at];
    let Some(end) = before.iter().rposition(|byte| matches!(byte, b'<' | b'>')) else { return false };
    ["<SecretAccessKey>", "<SessionToken>"].iter().any(|element| before[..=end].ends_with(element.as_bytes()))
}

/// What the proxy makes of this outcome keeps what is promised of sessions and of failures.
pub fn check(asked: Result<AssumeRoleOutput, SdkError<SdkAssumeRoleError, HttpResponse>>, status: u16, input: &[u8]) {
    match outcome(&SPEC, asked) {
        Ok(session) => {
            assert!((200..300).contains(&status));
            let expires = session.expiration().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            assert!(expires >= Duration::from_secs(1) && expires < Duration::from_secs(253_402_300_800));
            let texts = [
                session.access_key_id(),
                session.secret_access_key().expose_secret(),
                session.session_token().expose_secret(),
            ];
            for text in texts {
                assert!(!text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\'));
                assert!(input.contains(&b'&') || holds(input, text.as_bytes()));
            }
            assert!(!session.assumed_role_arn().is_empty() && !session.assumed_role_id().is_empty());
            assert!(session.request_id().is_none_or(is_plain));
        }
        Err(error) => {
            assert!(error.code.as_deref().is_none_or(is_plain) && error.request_id.as_deref().is_none_or(is_plain));
            // Of the reply a caller is told the code and nothing else.
            let told = error.told();
            let cause = told.strip_suffix(error.remedy).unwrap().strip_suffix("; ").unwrap();
            match &error.code {
                Some(code) => assert_eq!(code, cause),
                None => assert!(["STS refused", "STS is throttling", "STS is unavailable"].contains(&cause)),
            }
            assert!(!error.message.is_empty() && error.message.chars().count() <= 1_000);
            assert!(!error.message.chars().any(char::is_control));
            if (200..300).contains(&status) && has_secret(input) {
                assert!(!holds(error.to_string().as_bytes(), SECRET));
            }
        }
    }
}
