//! The secrets of the whole suite, and the search for them in what a process has logged.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;

/// What must stay out of logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The last part of a credentials URI.
    CredentialsId,
    /// What `Authorization` holds.
    Token,
    /// The secret of the proxy's own credentials.
    BaseSecret,
    /// What `aws sso login` leaves in its cache: access token, refresh token, client secret.
    Login,
    /// `SecretAccessKey` of a session.
    SecretAccessKey,
    /// `Token` of a session.
    SessionToken,
}

static KNOWN: Mutex<BTreeMap<String, Kind>> = Mutex::new(BTreeMap::new());
/// Shorter texts turn up by chance, so no test may use them as secrets.
const SHORTEST: usize = 16;

/// From now on this must not be found in any log.
pub(crate) fn remember(kind: Kind, secret: &str) {
    assert!(secret.len() >= SHORTEST, "a secret of a test has at least {SHORTEST} characters: {kind:?}");
    KNOWN.lock().unwrap().insert(secret.to_owned(), kind);
}

/// Remembers the credentials in the body of a 200, or whatever else has its keys.
pub(crate) fn remember_session(body: &serde_json::Value) {
    for (key, kind) in [("SecretAccessKey", Kind::SecretAccessKey), ("Token", Kind::SessionToken)] {
        if let Some(secret) = body.get(key).and_then(serde_json::Value::as_str) {
            remember(kind, secret);
        }
    }
}

/// The kinds of the secrets that stand in the text, of which some may stand there by design.
pub(crate) fn found_in(text: &str, by_design: &[Kind]) -> Vec<Kind> {
    let begins: HashSet<&[u8]> = text.as_bytes().windows(SHORTEST).collect();
    let known = KNOWN.lock().unwrap();
    let found = known.iter().filter(|(secret, kind)| {
        let begin = secret.as_bytes().get(..SHORTEST).unwrap_or_default();
        !by_design.contains(kind) && begins.contains(begin) && text.contains(secret.as_str())
    });
    found.map(|(_, kind)| *kind).collect()
}

#[test]
fn a_secret_in_a_text_is_found_and_named_by_its_kind() {
    remember(Kind::Token, "only-for-the-test-of-the-search");
    let text = "a line\nwith only-for-the-test-of-the-search in it\n";
    assert_eq!(found_in(text, &[]), [Kind::Token]);
    assert_eq!(found_in(text, &[Kind::Token]), []);
    assert_eq!(found_in("a line\nwith only-for-the-test-of in it\n", &[]), []);
}
