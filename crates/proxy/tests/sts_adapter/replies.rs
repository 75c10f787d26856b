//! Which answers of status 200 are made into a session, and which are not.

use secrecy::ExposeSecret;
use taskcreds_core::test_util::new_spec;
use taskcreds_core::{AssumeRole, FailureKind, Session};

use crate::canned::{Answer, Canned, REQUEST_ID, SUCCESS, SUCCESS_KEY, SUCCESS_SECRET, SUCCESS_TOKEN, reply};

/// The recorded answer without an element.
fn without(element: &str) -> String {
    let (before, rest) = SUCCESS.split_once(&format!("<{element}>")).unwrap();
    let (_, after) = rest.split_once(&format!("</{element}>")).unwrap();
    format!("{before}{after}")
}

#[tokio::test]
async fn the_recorded_answer_is_made_into_a_session_field_by_field() {
    let canned = Canned::start([reply(200, SUCCESS)]).await;
    let spec = new_spec("web");
    let session: Session = canned.sts().assume_role(&spec).await.unwrap();

    assert_eq!(session.role_arn(), &spec.role_arn);
    assert_eq!(session.access_key_id(), SUCCESS_KEY);
    assert_eq!(session.secret_access_key().expose_secret(), SUCCESS_SECRET);
    assert_eq!(session.session_token().expose_secret(), SUCCESS_TOKEN);
    assert_eq!(session.expiration(), humantime::parse_rfc3339("2026-11-21T17:11:28Z").unwrap());
    assert_eq!(session.assumed_role_arn(), "arn:aws:sts::111122223333:assumed-role/web/TestAR");
    assert_eq!(session.assumed_role_id(), "AROACLKWSDQRAOEXAMPLE:TestAR");
    assert_eq!(session.request_id(), Some(REQUEST_ID));
    canned.only_request();
}

#[tokio::test]
async fn an_answer_without_the_elements_that_came_in_2026_or_with_ones_nobody_knows_is_a_session() {
    let old = without("SessionTokenUtilization").replace("<SessionTokenSize>512</SessionTokenSize>", "");
    let bare = without("PackedPolicySize").replace("<SourceIdentity>Alice</SourceIdentity>", "");
    let newer = SUCCESS.replace("<PackedPolicySize>", "<Novelty><A>1</A></Novelty><PackedPolicySize>");
    let fraction = SUCCESS.replace("17:11:28Z", "17:11:28.000Z");
    for body in [old, bare, newer, fraction] {
        let canned = Canned::start([reply(200, &body)]).await;
        let session = canned.sts().assume_role(&new_spec("web")).await.unwrap();
        assert_eq!(session.access_key_id(), SUCCESS_KEY, "{body}");
        assert_eq!(session.expiration(), humantime::parse_rfc3339("2026-11-21T17:11:28Z").unwrap());
    }
}

#[tokio::test]
async fn a_request_id_that_is_not_one_of_sts_is_none() {
    let odd = REQUEST_ID.replace('-', " ");
    for body in [SUCCESS.to_owned(), without("Credentials")] {
        let Answer::Whole(bytes) = reply(200, &body) else { panic!("a whole answer") };
        let bytes = String::from_utf8(bytes).unwrap().replace(REQUEST_ID, &odd).into_bytes();
        let canned = Canned::start([Answer::Whole(bytes)]).await;
        match canned.sts().assume_role(&new_spec("web")).await {
            Ok(session) => assert_eq!(session.request_id(), None),
            Err(error) => assert_eq!(error.request_id, None, "{error}"),
        }
    }
}

/// Every body is refused as unusable, by words that hold no secret.
async fn assert_no_session(bodies: &[(&str, String)]) {
    for (what, body) in bodies {
        let canned = Canned::start([reply(200, body)]).await;
        let error = match canned.sts().assume_role(&new_spec("web")).await {
            Ok(session) => panic!("{what}: a session was made: {session:?}"),
            Err(error) => error,
        };
        assert_eq!((error.kind, &error.code), (FailureKind::Unavailable, &None), "{what}: {error}");
        let words = format!("{error} {error:?} {}", error.told());
        for secret in [SUCCESS_SECRET, SUCCESS_TOKEN, &SUCCESS_TOKEN[..20]] {
            assert!(!words.contains(secret), "{what}: {words}");
        }
        assert!(!error.message.is_empty() && !error.message.chars().any(char::is_control), "{what}: {error:?}");
        assert_eq!(error.request_id.as_deref(), Some(REQUEST_ID), "{what}: {error}");
        canned.only_request();
    }
}

#[tokio::test]
async fn garbage_with_status_200_is_not_a_session() {
    assert_no_session(&[
        ("nothing", String::new()),
        ("text", "welcome to the hotel's network".to_owned()),
        ("HTML", "<!doctype html><html><body><p>log in<br></body></html>".to_owned()),
        ("JSON", "{\"AccessKeyId\":\"ASIAIOSFODNN7EXAMPLE\"}".to_owned()),
        ("control characters", "\u{1b}[31m\r\n\0".to_owned()),
        ("another operation", SUCCESS.replace("AssumeRoleRes", "GetCallerIdentityRes")),
        ("an expiration that is no time", SUCCESS.replace("2026-11-21T17:11:28Z", "soon")),
    ])
    .await;
}

#[tokio::test]
async fn an_answer_without_an_element_that_a_client_needs_is_not_a_session() {
    assert_no_session(&[
        ("AccessKeyId", without("AccessKeyId")),
        ("SecretAccessKey", without("SecretAccessKey")),
        ("SessionToken", without("SessionToken")),
        ("empty AccessKeyId", SUCCESS.replace(SUCCESS_KEY, "")),
        ("empty SecretAccessKey", SUCCESS.replace(SUCCESS_SECRET, "")),
        ("empty SessionToken", SUCCESS.replace(SUCCESS_TOKEN, "")),
    ])
    .await;
}

#[tokio::test]
async fn an_answer_without_credentials_or_an_assumed_role_is_not_a_session() {
    assert_no_session(&[("Credentials", without("Credentials")), ("AssumedRoleUser", without("AssumedRoleUser"))])
        .await;
}

#[tokio::test]
async fn an_answer_without_an_expiration_is_not_a_session() {
    let first = |end: &str| SUCCESS.split_once(end).unwrap().0.to_owned();
    assert_no_session(&[
        ("Expiration", without("Expiration")),
        ("an end within the token", first("22wDOk4x4HIZ")),
        ("an end after the token", first("<Expiration>")),
    ])
    .await;
}

#[tokio::test]
async fn an_answer_without_the_arn_or_the_id_of_the_assumed_role_is_not_a_session() {
    assert_no_session(&[("Arn", without("Arn")), ("AssumedRoleId", without("AssumedRoleId"))]).await;
}

#[tokio::test]
async fn an_answer_that_no_client_could_use_is_not_a_session() {
    assert_no_session(&[
        ("a token too long", SUCCESS.replace(SUCCESS_TOKEN, &format!("{SUCCESS_TOKEN}{}", "x".repeat(10_000)))),
        ("a token with a quotation mark", SUCCESS.replace(SUCCESS_TOKEN, &format!("{SUCCESS_TOKEN}&quot;"))),
        ("a secret that XML would read otherwise", SUCCESS.replace(SUCCESS_SECRET, &format!("&{SUCCESS_SECRET};"))),
        ("a token that XML would read otherwise", SUCCESS.replace(SUCCESS_TOKEN, &format!("&#{SUCCESS_TOKEN};"))),
        ("a secret with a backslash", SUCCESS.replace(SUCCESS_SECRET, &format!("{SUCCESS_SECRET}\\"))),
        ("a token of two lines", SUCCESS.replace(SUCCESS_TOKEN, &format!("{SUCCESS_TOKEN}\n{SUCCESS_TOKEN}"))),
        ("an expiration before 1970", SUCCESS.replace("2026-11-21T17:11:28Z", "1969-12-31T23:59:59Z")),
    ])
    .await;
}
