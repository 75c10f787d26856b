//! What each refusal of STS is made into, and that it is asked for once only.

use std::time::Duration;

use taskcreds_core::test_util::new_spec;
use taskcreds_core::{AssumeRole, AssumeRoleError, FailureKind};

use crate::canned::{Answer, Canned, REQUEST_ID, refusal, reply, reply_with};

/// The proxy's principal as STS names it.
const PRINCIPAL: &str = "arn:aws:sts::111122223333:assumed-role/proxy/i-0123456789abcdef0";

use FailureKind::{BaseCredentials, Refused, Throttled, Unavailable};

/// Status, code, kind: AWS STS API Reference, AssumeRole, Errors; IAM API Reference, Common Errors; replies seen.
const CODES: &[(u16, &str, FailureKind)] = &[
    (403, "AccessDenied", Refused),
    (403, "AccessDeniedException", Refused),
    (400, "MalformedPolicyDocument", Refused),
    (400, "PackedPolicyTooLarge", Refused),
    (403, "RegionDisabledException", Refused),
    (400, "ValidationError", Refused),
    (400, "IncompleteSignature", Refused),
    (403, "MissingAuthenticationToken", Refused),
    (403, "OptInRequired", Refused),
    (403, "InvalidClientTokenId", BaseCredentials),
    (403, "SignatureDoesNotMatch", BaseCredentials),
    (403, "ExpiredToken", BaseCredentials),
    (400, "ExpiredTokenException", BaseCredentials),
    (403, "ExpiredTokenException", BaseCredentials),
    (400, "RequestExpired", BaseCredentials),
    (400, "Throttling", Throttled),
    (400, "ThrottlingException", Throttled),
    (503, "RequestLimitExceeded", Throttled),
    (503, "SlowDown", Throttled),
    (429, "TooManyRequestsException", Throttled),
    (400, "IDPCommunicationError", Unavailable),
    (500, "InternalFailure", Unavailable),
    (500, "InternalError", Unavailable),
    (503, "ServiceUnavailable", Unavailable),
    (400, "RequestTimeout", Unavailable),
    (408, "RequestTimeout", Unavailable),
    (400, "NobodyKnowsThisOne", Refused),
    (503, "NobodyKnowsThisOne", Unavailable),
];

/// The error that an answer is made into, after exactly one request.
async fn error(answer: Answer) -> AssumeRoleError {
    let canned = Canned::start([answer]).await;
    let error = canned.sts().assume_role(&new_spec("web")).await.unwrap_err();
    canned.only_request();
    error
}

#[tokio::test]
async fn each_code_of_sts_has_its_kind_and_is_asked_for_once_only() {
    for (status, code, kind) in CODES {
        let error = error(reply(*status, &refusal(code, "No."))).await;
        assert_eq!((error.kind, error.code.as_deref()), (*kind, Some(*code)), "{status} {error}");
        assert_eq!(error.request_id.as_deref(), Some(REQUEST_ID), "{error}");
        assert_eq!((error.message.as_str(), error.retry_after), ("No.", None), "{error}");
    }
}

#[tokio::test]
async fn the_caller_is_told_the_code_and_a_remedy_and_never_the_principal_of_the_proxy() {
    let words = format!("User: {PRINCIPAL} is not authorized\r\nto perform:\n\tsts:AssumeRole &amp; more");
    for (status, code, _) in CODES {
        let error = error(reply(*status, &refusal(code, &words))).await;
        let told = error.told();
        assert!(told.starts_with(&format!("{code}; ")) && told.len() > code.len() + 10, "{told}");
        assert!(!told.contains("arn:") && !told.contains("111122223333"), "{told}");

        let logged = error.to_string();
        for needle in [code, PRINCIPAL, REQUEST_ID, "sts:AssumeRole & more"] {
            assert!(logged.contains(needle), "{needle}: {logged}");
        }
        assert!(!logged.chars().any(char::is_control), "{logged:?}");
    }
}

#[tokio::test]
async fn how_long_sts_asks_to_be_left_alone_is_kept_in_seconds_or_milliseconds() {
    for (status, code, _) in CODES {
        for (header, expected) in [
            ("Retry-After: 7\r\n", Some(Duration::from_secs(7))),
            ("x-amz-retry-after: 1500\r\n", Some(Duration::from_millis(1500))),
            ("Retry-After: Wed, 21 Oct 2026 07:28:00 GMT\r\n", None),
            ("Retry-After: -1\r\n", None),
        ] {
            let error = error(reply_with(*status, header, &refusal(code, "No."))).await;
            assert_eq!(error.retry_after, expected, "{header} {error}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_not_from_sts_is_classed_by_its_status_and_asked_for_once_only() {
    const HTML: &str = "<html><head><title>Sorry</title><body>\r\n<h1>Bad gateway at arn:aws:iam::111122223333:role/x";
    for (status, kind) in [
        (400, Unavailable),
        (401, Unavailable),
        (403, Unavailable),
        (404, Unavailable),
        (407, Unavailable),
        (408, Unavailable),
        (429, Throttled),
        (500, Unavailable),
        (502, Unavailable),
        (503, Unavailable),
        (504, Unavailable),
    ] {
        let forged = refusal("Access Denied\r\nat the gateway", "No.");
        let json = "{\"code\":\"AccessDenied\",\"message\":\"no\"}";
        for body in [HTML, "", json, "<ErrorResponse><Error></Error></ErrorResponse>", &forged] {
            let error = error(reply(status, body)).await;
            assert_eq!((error.kind, error.code.as_deref()), (kind, None), "{status} {body:?} {error}");
            assert_eq!(error.request_id.as_deref(), Some(REQUEST_ID), "{status} {body:?} {error}");
            assert!(!error.message.is_empty() && !error.message.chars().any(char::is_control), "{error:?}");
            assert!(!error.message.contains("Bad gateway"), "{error}");
            let is_refusal = (400..500).contains(&status) && ![408, 429].contains(&status);
            assert_eq!(error.told().contains("see what answers as STS"), is_refusal, "{}", error.told());
            assert!(!error.told().contains("arn:") && !error.told().starts_with(';'), "{}", error.told());
        }
    }
}

#[tokio::test]
async fn a_refusal_without_a_message_still_has_words_for_the_log() {
    for message in ["", "<Message/>", "<Message> </Message>"] {
        let body = refusal("AccessDenied", "").replace("<Message></Message>", message);
        let error = error(reply(403, &body)).await;
        assert_eq!((error.kind, error.code.as_deref()), (Refused, Some("AccessDenied")));
        assert!(!error.message.trim().is_empty(), "{message}: {error:?}");
    }
}

#[tokio::test]
async fn a_connection_that_ends_before_or_within_the_answer_is_unavailable_and_not_tried_again() {
    let half =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 5000\r\n\r\n<AssumeRoleResponse>".to_vec();
    for bytes in [Vec::new(), b"HTTP/1.1 ".to_vec(), b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(), half] {
        let error = error(Answer::Whole(bytes.clone())).await;
        assert_eq!((error.kind, &error.code), (Unavailable, &None), "{bytes:?} {error}");
        assert!(error.told().contains("STS is unavailable"), "{}", error.told());
    }
}
