//! What an error of sts:AssumeRole means for the proxy: one table from STS's codes to a kind and a remedy.
//!
//! Codes and statuses: AWS STS API Reference, AssumeRole, Errors; IAM API Reference, Common Errors.

use std::error::Error;
use std::time::Duration;

use aws_sdk_sts::config::http::HttpResponse;
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::operation::RequestId;
use aws_sdk_sts::operation::assume_role::AssumeRoleError as SdkAssumeRoleError;
use taskcreds_core::{AssumeRoleError, FailureKind};

/// Classes an error by its code first, its status second, its shape third. STS never refuses without a code: a 4xx that has none is
/// from something else, and what that says is not final.
pub(super) fn classify(error: &SdkError<SdkAssumeRoleError, HttpResponse>) -> AssumeRoleError {
    let response = error.raw_response();
    let status = response.map(|response| response.status().as_u16());
    let code = error.code().filter(|code| is_plain(code)).map(str::to_owned);
    let (kind, remedy) = match (&code, status) {
        (Some(code), status) => by_code(code, status),
        (None, Some(status)) => without_code(status),
        (None, None) => (FailureKind::Unavailable, REACH),
    };
    let message = match error.message().filter(|message| !message.trim().is_empty()) {
        Some(message) => message.to_owned(),
        None => causes(error),
    };
    AssumeRoleError {
        kind,
        code,
        message: one_line(&message),
        remedy,
        request_id: request_id(error),
        retry_after: response.and_then(retry_after),
    }
}

const REACH: &str = "see whether the proxy can reach STS: endpoint, DNS, TLS, firewall";
const OWN_KEY: &str = "mend the proxy's own AWS credentials: they are wrong, deleted or of another partition";
const EXPIRED: &str = "renew the proxy's own AWS credentials: they have expired";
const CLOCK: &str = "mend the proxy's secret key or set its clock: STS takes requests that are at most 15 minutes old";
const REQUEST: &str = "the request did not reach STS as it was signed: look for a proxy that changes it";
const TRUST: &str =
    "allow the proxy's principal sts:AssumeRole, and sts:TagSession for session tags, in the role's trust policy";
const POLICY: &str = "correct the session policy of this task";
const PACKED: &str = "shorten or remove session tags, the session policy or policy ARNs of this task";
const REGION: &str = "activate STS in this region for the account, or set another region for the task";
const VALUE: &str = "correct this task's settings";
const OPT_IN: &str = "subscribe the account to the service or region";
const THROTTLED: &str = "it goes on by itself; lower the number of STS calls in this account if it lasts";
const WAIT: &str = "it goes on by itself";
const ANSWERER: &str = "see what answers as STS: an HTTP proxy, a gateway or another endpoint";
const ASK: &str = "look this code up in the STS API Reference";

fn by_code(code: &str, status: Option<u16>) -> (FailureKind, &'static str) {
    use FailureKind::{BaseCredentials, Refused, Throttled, Unavailable};
    match code {
        "AccessDenied" | "AccessDeniedException" => (Refused, TRUST),
        "MalformedPolicyDocument" | "MalformedPolicyDocumentException" => (Refused, POLICY),
        "PackedPolicyTooLarge" | "PackedPolicyTooLargeException" => (Refused, PACKED),
        "RegionDisabledException" => (Refused, REGION),
        "ValidationError" | "ValidationException" => (Refused, VALUE),
        "IncompleteSignature" | "MissingAuthenticationToken" => (Refused, REQUEST),
        "OptInRequired" => (Refused, OPT_IN),
        "InvalidClientTokenId" | "UnrecognizedClientException" => (BaseCredentials, OWN_KEY),
        "ExpiredToken" | "ExpiredTokenException" => (BaseCredentials, EXPIRED),
        "SignatureDoesNotMatch" | "RequestExpired" => (BaseCredentials, CLOCK),
        "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestLimitExceeded"
        | "SlowDown"
        | "TooManyRequestsException" => (Throttled, THROTTLED),
        "InternalFailure"
        | "InternalError"
        | "ServiceUnavailable"
        | "IDPCommunicationError"
        | "RequestTimeout"
        | "RequestTimeoutException" => (Unavailable, WAIT),
        _ => by_status(status.unwrap_or(500)),
    }
}

fn by_status(status: u16) -> (FailureKind, &'static str) {
    match status {
        429 => (FailureKind::Throttled, THROTTLED),
        400..=499 if status != 408 => (FailureKind::Refused, ASK),
        _ => (FailureKind::Unavailable, WAIT),
    }
}

fn without_code(status: u16) -> (FailureKind, &'static str) {
    match by_status(status) {
        (FailureKind::Refused, _) => (FailureKind::Unavailable, ANSWERER),
        other => other,
    }
}

/// The error and what caused it, in words; the SDK's own rendering adds `Debug` output, which holds whole answers.
pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = words(error);
    let mut next = cause(error);
    while let Some(error) = next {
        let more = words(error);
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        next = cause(error);
    }
    one_line(&text)
}

/// An error's own words. Some of the SDK's, as for an endpoint that is no URI, hold the request with all its parameters; those for an
/// escape that XML has not hold the text around it, which may be a session token.
fn words(error: &dyn Error) -> String {
    let mut words = error.to_string();
    if words.contains("SdkBody") {
        return "(words that hold the whole request are left out)".to_owned();
    }
    if let Some(at) = words.find(ESCAPE) {
        words.truncate(at + ESCAPE.len());
    }
    words
}

const ESCAPE: &str = "invalid XML escape";

#[expect(
    deprecated,
    reason = "aws-config tells why a cached SSO token cannot be read by `cause` alone, which is `source` elsewhere"
)]
fn cause(error: &dyn Error) -> Option<&dyn Error> {
    error.cause()
}

/// `Retry-After` in seconds (RFC 9110 section 10.2.3) or AWS's `x-amz-retry-after` in milliseconds.
fn retry_after(response: &HttpResponse) -> Option<Duration> {
    let number = |name| response.headers().get(name)?.trim().parse().ok();
    number("retry-after").map(Duration::from_secs).or_else(|| number("x-amz-retry-after").map(Duration::from_millis))
}

/// The request id of a reply, where it looks like one.
pub(super) fn request_id(reply: &impl RequestId) -> Option<String> {
    reply.request_id().filter(|id| is_plain(id)).map(str::to_owned)
}

/// Whether a text is what STS's codes and request ids look like. Anything else comes from something that is not STS, and neither the
/// log nor a caller gets it.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.len() <= 128 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b))
}

/// Behind these words STS has told which request it would have signed, the session token of the caller included.
const CANONICAL: &str = "The Canonical String";

fn one_line(text: &str) -> String {
    let text = text.split_once(CANONICAL).map_or(text, |(before, _)| before.trim_end());
    text.chars().take(1_000).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_nobody_knows_is_classed_by_its_status() {
        assert_eq!(by_code("NewlyInvented", Some(403)).0, FailureKind::Refused);
        assert_eq!(by_code("NewlyInvented", Some(500)).0, FailureKind::Unavailable);
        assert_eq!(by_code("NewlyInvented", Some(429)).0, FailureKind::Throttled);
        assert_eq!(by_status(408).0, FailureKind::Unavailable);
    }

    #[test]
    fn a_code_that_could_forge_a_log_line_is_none() {
        assert!(is_plain("AccessDenied") && is_plain("1a5ae195-3b47-4404-b5d7-11d05aae8604"));
        for code in ["", "a\nb", "a b", "é", &"a".repeat(129)] {
            assert!(!is_plain(code), "{code:?}");
        }
    }

    #[test]
    fn words_that_hold_the_request_are_left_out_and_their_cause_is_told() {
        #[derive(Debug, thiserror::Error)]
        #[error("failed to apply to `Request {{ body: SdkBody {{ ExternalId=hidden }} }}`")]
        struct Outer(#[source] std::io::Error);
        let told = causes(&Outer(std::io::Error::other("invalid authority")));
        assert!(!told.contains("hidden") && told.ends_with(": invalid authority"), "{told}");
    }

    #[test]
    fn a_message_is_one_line_of_bounded_length() {
        assert_eq!(one_line("a\r\nb"), "a  b");
        let told = "The signature does not match. \n\nThe Canonical String for this request should have been\n'POST\n/\n\nx-amz-security-token:hidden";
        assert_eq!(one_line(told), "The signature does not match.");
        assert_eq!(one_line(&"x".repeat(5_000)).len(), 1_000);
    }
}
