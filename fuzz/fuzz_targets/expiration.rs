//! A session with any expiration and any texts is refused or rendered as the five strings that it has, with the expiration to
//! the second.
//!
//! The input is eight bytes, the milliseconds since 1970, and then the secret access key, a line end and the session token. Where
//! the eight bytes are `RFC3339:`, the first line is the expiration as a text, read as the command line and the audit search do.

#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use libfuzzer_sys::{Corpus, fuzz_target};
use taskcreds::http::wire;
use taskcreds_core::{NewSession, RoleArn, Session};

const ROLE: &str = "arn:aws:iam::111122223333:role/web";
static ROLE_ARN: LazyLock<RoleArn> = LazyLock::new(|| RoleArn::new(ROLE).unwrap());

fn expiration<'a>(first: &[u8; 8], rest: &'a str) -> Option<(SystemTime, &'a str)> {
    if first == b"RFC3339:" {
        let (time, rest) = rest.split_once('\n')?;
        return Some((humantime::parse_rfc3339(time).ok()?, rest));
    }
    let since = Duration::from_millis(u64::from_le_bytes(*first));
    Some((SystemTime::UNIX_EPOCH.checked_add(since)?, rest))
}

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Some((first, rest)) = bytes.split_first_chunk::<8>() else { return Corpus::Reject };
    let Ok(rest) = std::str::from_utf8(rest) else { return Corpus::Reject };
    let Some((expiration, rest)) = expiration(first, rest) else { return Corpus::Reject };
    let (secret, token) = rest.split_once('\n').unwrap_or((rest, "token"));
    let session = Session::new(NewSession {
        role_arn: ROLE_ARN.clone(),
        access_key_id: "ASIATESTTESTTESTTEST".to_owned(),
        secret_access_key: secret.into(),
        session_token: token.into(),
        expiration,
        assumed_role_arn: String::new(),
        assumed_role_id: String::new(),
        request_id: None,
    });
    let Ok(session) = session else { return Corpus::Keep };
    let body = session.body(wire::credentials);
    assert!(body.len() <= Session::MAX_BODY && !body.contains(&b'\\'));
    let json: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&body).unwrap();
    assert_eq!(json.len(), 5);
    assert!(json["RoleArn"] == ROLE && json["SecretAccessKey"] == secret && json["Token"] == token);
    let told = json["Expiration"].as_str().unwrap();
    assert_eq!(told.len(), "2026-11-21T22:21:24Z".len());
    let told = humantime::parse_rfc3339(told).unwrap();
    assert!(told <= expiration && expiration.duration_since(told).unwrap() < Duration::from_secs(1));
    Corpus::Keep
});
