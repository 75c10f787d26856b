//! The body of a good answer, made wrong.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use taskcreds_sts_emulator::Effect;
use zeroize::Zeroizing;

/// A body of [`wire::credentials`](crate::http::wire::credentials) with one thing wrong in it, at `now`.
pub(super) fn spoil(body: &[u8], effect: &Effect, now: SystemTime) -> Bytes {
    if *effect == Effect::Malformed {
        return Bytes::from_static(br#"{"RoleArn":"#);
    }
    let text = std::str::from_utf8(body).unwrap_or_default();
    let mut fields = fields(text);
    let until = |fields: &[(&str, Zeroizing<String>)]| {
        let expiration =
            fields.iter().find(|(name, _)| *name == "Expiration").map(|(_, value)| value.trim_matches('"'));
        expiration.and_then(|text| humantime::parse_rfc3339(text).ok()).unwrap_or(now)
    };
    let expiration = match effect {
        Effect::Expired => now.checked_sub(Duration::from_secs(1)),
        // Its fraction must not be taken from it.
        Effect::Short(seconds) => Some((now + Duration::from_secs(u64::from(*seconds) + 1)).min(until(&fields))),
        Effect::Skew(seconds) => skewed(until(&fields), *seconds),
        _ => None,
    };
    for (name, value) in &mut fields {
        if *name == "Expiration"
            && let Some(expiration) = expiration
        {
            *value = Zeroizing::new(format!("\"{}\"", humantime::format_rfc3339_seconds(expiration)));
        }
        if matches!(effect, Effect::WrongType(field) if field == name) {
            *value = Zeroizing::new("17".to_owned());
        }
    }
    let kept = fields.iter().filter(|(name, _)| !matches!(effect, Effect::Missing(field) if field == name));
    let pairs: Vec<_> = kept.map(|(name, value)| Zeroizing::new(format!("\"{name}\":{}", value.as_str()))).collect();
    let mut spoiled = Zeroizing::new(Vec::with_capacity(body.len() + 64));
    for (number, pair) in pairs.iter().enumerate() {
        spoiled.extend_from_slice(if number == 0 { b"{" } else { b"," });
        spoiled.extend_from_slice(pair.as_bytes());
    }
    spoiled.push(b'}');
    Bytes::from_owner(spoiled)
}

/// A time by a clock that is so many seconds fast, or slow if less than 0.
pub(super) fn skewed(time: SystemTime, seconds: i64) -> Option<SystemTime> {
    let size = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { time.checked_sub(size) } else { time.checked_add(size) }
}

/// The names and the quoted values of a body that has texts alone and no escapes.
fn fields(text: &str) -> Vec<(&str, Zeroizing<String>)> {
    let inner = text.strip_prefix("{\"").and_then(|rest| rest.strip_suffix("\"}")).unwrap_or_default();
    let pairs = inner.split("\",\"").filter_map(|pair| pair.split_once("\":\""));
    pairs.map(|(name, value)| (name, Zeroizing::new(format!("\"{value}\"")))).collect()
}

#[cfg(test)]
mod tests {
    use taskcreds_core::test_util::{EPOCH, session_until};

    use super::*;

    fn spoiled(effect: &Effect) -> String {
        let now = EPOCH + Duration::from_secs(1_795_299_684);
        let good = crate::http::wire::credentials(&session_until(now + Duration::from_secs(3600)));
        String::from_utf8(spoil(&good, effect, now).to_vec()).unwrap()
    }

    #[test]
    fn one_thing_is_wrong_and_the_rest_is_as_it_was() {
        let good = spoiled(&Effect::Drop);
        let start = r#"{"RoleArn":"arn:aws:iam::111122223333:role/web","AccessKeyId":"ASIATESTTESTTESTTEST","SecretAccessKey":"#;
        assert!(good.starts_with(start) && good.ends_with(r#","Expiration":"2026-11-21T23:21:24Z"}"#), "{good}");
        let ends =
            |effect: Effect, end: &str| assert!(spoiled(&effect).ends_with(end), "{effect:?}: {}", spoiled(&effect));
        ends(Effect::Expired, r#""Expiration":"2026-11-21T22:21:23Z"}"#);
        ends(Effect::Short(2), r#""Expiration":"2026-11-21T22:21:27Z"}"#);
        ends(Effect::Short(7200), r#""Expiration":"2026-11-21T23:21:24Z"}"#);
        ends(Effect::Skew(-60), r#""Expiration":"2026-11-21T23:20:24Z"}"#);
        ends(Effect::WrongType("Expiration".to_owned()), r#""Expiration":17}"#);
        ends(Effect::Missing("Expiration".to_owned()), r#""Token":"test-session-token"}"#);
        assert!(spoiled(&Effect::Missing("RoleArn".to_owned())).starts_with(r#"{"AccessKeyId":"#));
        assert!(serde_json::from_str::<serde_json::Value>(&spoiled(&Effect::Malformed)).is_err());
        for field in ["RoleArn", "AccessKeyId", "SecretAccessKey", "Token", "Expiration"] {
            let json: serde_json::Value = serde_json::from_str(&spoiled(&Effect::Missing(field.to_owned()))).unwrap();
            assert!(json.get(field).is_none() && json.as_object().unwrap().len() == 4);
        }
    }
}
