//! What a caller is told when there are no credentials: status, code and message by one exhaustive match.
//!
//! Transient trouble is 503 and nothing else, permanent trouble a 4xx, and never 429: several SDKs take it for "no
//! credentials here" and fail the application.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde::Serialize;
use taskcreds_core::{Refusal, SessionError};

/// The form of the request's URI, which its messages begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `/v1/credentials?id=ID`
    V1,
    /// `/v2/credentials/ID`
    V2,
    /// `/creds`, of the local endpoints.
    Creds,
    /// `/role/NAME`, of the local endpoints.
    Role,
    /// `/role-arn/ARN`, of the local endpoints.
    RoleArn,
}

impl Version {
    fn request(self) -> &'static str {
        match self {
            Self::V1 => "CredentialsV1Request",
            Self::V2 => "CredentialsV2Request",
            Self::Creds => "CredsRequest",
            Self::Role => "RoleRequest",
            Self::RoleArn => "RoleArnRequest",
        }
    }

    /// What to do where there is nothing under what was asked for. The same whether it is unknown or not for whoever asks.
    fn remedy(self) -> &'static str {
        match self {
            Self::V1 | Self::V2 | Self::Creds => "",
            Self::Role | Self::RoleArn => {
                ": roles that are listed are served and no others; list it with --role NAME=ARN"
            }
        }
    }

    /// The path without the id.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::V1 => "/v1/credentials",
            Self::V2 => "/v2/credentials",
            Self::Creds => "/creds",
            Self::Role => "/role",
            Self::RoleArn => "/role-arn",
        }
    }
}

/// Why a request is not answered with credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not a request that the endpoint understands: what is wrong with it.
    Malformed(&'static str),
    /// A header or the Host is refused: which rule.
    Forbidden(Cow<'static, str>),
    /// Another method than GET and HEAD.
    Method,
    /// A path that is none of the endpoint's.
    Path,
    /// The same where the local endpoints are: what is there, or why this is not.
    NotServed(&'static str),
    /// No credentials id in the request.
    NoId(Version),
    /// The registry has no such task, or the token is not the task's.
    Refused(Version, Refusal),
    /// The task is known and has no session to serve.
    Session(Version, SessionError),
    /// There is a session, but records are required and this answer could not be recorded.
    Unrecorded(Version),
    /// A defect of this program; the log has more under this request id.
    Internal(uuid::Uuid),
}

impl Fault {
    fn parts(&self) -> (StatusCode, &'static str, Cow<'static, str>) {
        match self {
            Self::Malformed(what) => (StatusCode::BAD_REQUEST, "InvalidRequest", Cow::Borrowed(what)),
            Self::Forbidden(rule) => (StatusCode::FORBIDDEN, "AccessDenied", rule.clone()),
            Self::Method => {
                (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "only GET and HEAD are answered".into())
            }
            Self::Path => (
                StatusCode::NOT_FOUND,
                "NotFound",
                "credentials are at /v2/credentials/ID and /v1/credentials?id=ID".into(),
            ),
            Self::NotServed(what) => (StatusCode::NOT_FOUND, "NotFound", Cow::Borrowed(what)),
            Self::NoId(version) => (
                StatusCode::BAD_REQUEST,
                "NoIdInRequest",
                format!("{}: No Credential ID in the request", version.request()).into(),
            ),
            // Whoever asks cannot tell an id that never was from one that has ended or may not be asked for from there.
            Self::Refused(version, Refusal::Unknown | Refusal::WrongSource)
            | Self::Session(version, SessionError::Revoked) => (
                StatusCode::BAD_REQUEST,
                "InvalidIdInRequest",
                format!("{}: Credentials not found{}", version.request(), version.remedy()).into(),
            ),
            Self::Refused(version, Refusal::TokenMissing) => (
                StatusCode::UNAUTHORIZED,
                "Unauthorized",
                format!(
                    "{}: this task demands a token: set AWS_CONTAINER_AUTHORIZATION_TOKEN or \
                     AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                    version.request()
                )
                .into(),
            ),
            Self::Refused(version, Refusal::TokenWrong) => (
                StatusCode::UNAUTHORIZED,
                "Unauthorized",
                format!(
                    "{}: the token is not this task's: it is sent whole, without a scheme or a line end",
                    version.request()
                )
                .into(),
            ),
            Self::Session(version, SessionError::NotReady(cause)) => {
                let cause = cause
                    .as_ref()
                    .map_or(Cow::Borrowed("the first load is under way; try again"), |cause| cause.told().into());
                let message = format!("{}: Credentials uninitialized for ID: {cause}", version.request());
                (StatusCode::SERVICE_UNAVAILABLE, "CredentialsUninitialized", message.into())
            }
            Self::Session(version, SessionError::Refused(cause)) => (
                StatusCode::FORBIDDEN,
                "AssumeRoleDenied",
                format!("{}: the role cannot be assumed: {}", version.request(), cause.told()).into(),
            ),
            Self::Unrecorded(version) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "CredentialsUninitialized",
                format!(
                    "{}: Credentials uninitialized for ID: the audit log cannot be written, and it is required; make room for it",
                    version.request()
                )
                .into(),
            ),
            Self::Internal(request_id) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", format!("request id {request_id}").into())
            }
        }
    }

    /// The status and the code.
    #[must_use]
    pub fn status_and_code(&self) -> (StatusCode, &'static str) {
        let (status, code, _) = self.parts();
        (status, code)
    }

    /// The answer. Every 4xx closes the connection, so that nothing behind a request that was misread is ever read.
    #[must_use]
    pub fn response(&self) -> Response<Full<Bytes>> {
        let (status, code, message) = self.parts();
        let mut response = super::response(status, "application/json", body(status, code, &message));
        let headers = response.headers_mut();
        if status.is_client_error() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if *self == Self::Method {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }
}

/// `code`, `message` and `HTTPErrorCode` are the ECS agent's and what Go and Java read; `Code` and `Message` are what JavaScript
/// and Kotlin read.
#[derive(Serialize)]
struct Body<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(rename = "HTTPErrorCode")]
    status: u16,
    #[serde(rename = "Code")]
    code_again: &'a str,
    #[serde(rename = "Message")]
    message_again: &'a str,
}

pub(crate) fn body(status: StatusCode, code: &str, message: &str) -> Bytes {
    let body = Body { code, message, status: status.as_u16(), code_again: code, message_again: message };
    // Five plain fields cannot fail to serialize; an empty body would be the least harmful answer if they did.
    serde_json::to_vec(&body).unwrap_or_default().into()
}

/// The whole answer to bytes that are no HTTP request, for which hyper makes no request to answer.
#[must_use]
pub fn unparsable(date: std::time::SystemTime) -> Vec<u8> {
    let message = "this is no HTTP/1.1 request, or its head is longer than 16 KiB or has more than 64 headers";
    let status = StatusCode::BAD_REQUEST;
    raw(status, &body(status, "InvalidRequest", message), date)
}

/// A whole answer, head and JSON, after which the connection is closed.
#[must_use]
pub fn raw(status: StatusCode, body: &[u8], date: std::time::SystemTime) -> Vec<u8> {
    let mut answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncache-control: no-store\r\nconnection: close\r\n\
         content-length: {}\r\ndate: {}\r\n\r\n",
        body.len(),
        httpdate::fmt_http_date(date)
    )
    .into_bytes();
    answer.extend_from_slice(body);
    answer
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt;
    use taskcreds_core::{AssumeRoleError, FailureKind};

    use super::*;

    fn failure(kind: FailureKind) -> Arc<AssumeRoleError> {
        let error = AssumeRoleError::new(kind, "User: arn:aws:iam::1:role/proxy is not authorized", "do \"this\"");
        Arc::new(AssumeRoleError { code: Some("AccessDenied".to_owned()), ..error })
    }

    #[tokio::test]
    async fn every_fault_has_its_status_code_and_message() {
        use Version::{Creds, Role, RoleArn, V1, V2};
        let down = SessionError::NotReady(Some(failure(FailureKind::Unavailable)));
        let table = [
            (Fault::NoId(V2), 400, "NoIdInRequest", "CredentialsV2Request: No Credential ID in the request"),
            (Fault::NoId(V1), 400, "NoIdInRequest", "CredentialsV1Request: No Credential ID in the request"),
            (
                Fault::Refused(V2, Refusal::Unknown),
                400,
                "InvalidIdInRequest",
                "CredentialsV2Request: Credentials not found",
            ),
            (
                Fault::Refused(V2, Refusal::WrongSource),
                400,
                "InvalidIdInRequest",
                "CredentialsV2Request: Credentials not found",
            ),
            (
                Fault::Refused(Role, Refusal::Unknown),
                400,
                "InvalidIdInRequest",
                "RoleRequest: Credentials not found: roles that are listed",
            ),
            (
                Fault::Refused(RoleArn, Refusal::WrongSource),
                400,
                "InvalidIdInRequest",
                "RoleArnRequest: Credentials not found: roles that are listed",
            ),
            (Fault::Refused(Creds, Refusal::TokenMissing), 401, "Unauthorized", "CredsRequest: "),
            (
                Fault::Session(V1, SessionError::Revoked),
                400,
                "InvalidIdInRequest",
                "CredentialsV1Request: Credentials not found",
            ),
            (
                Fault::Session(V2, down),
                503,
                "CredentialsUninitialized",
                "CredentialsV2Request: Credentials uninitialized for ID",
            ),
            (
                Fault::Session(V2, SessionError::Refused(failure(FailureKind::Refused))),
                403,
                "AssumeRoleDenied",
                "CredentialsV2Request: the role cannot be assumed: AccessDenied; do \"this\"",
            ),
            (Fault::Refused(V2, Refusal::TokenMissing), 401, "Unauthorized", "CredentialsV2Request: "),
            (Fault::Refused(V2, Refusal::TokenWrong), 401, "Unauthorized", "CredentialsV2Request: "),
            (Fault::Forbidden("rule".into()), 403, "AccessDenied", "rule"),
            (Fault::Malformed("what"), 400, "InvalidRequest", "what"),
            (Fault::Path, 404, "NotFound", ""),
            (Fault::NotServed("not here"), 404, "NotFound", "not here"),
            (Fault::Method, 405, "MethodNotAllowed", ""),
            (
                Fault::Unrecorded(V2),
                503,
                "CredentialsUninitialized",
                "CredentialsV2Request: Credentials uninitialized for ID",
            ),
            (Fault::Internal(uuid::Uuid::nil()), 500, "InternalServerError", "request id 00000000-"),
        ];
        for (fault, status, code, begins) in table {
            let response = fault.response();
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers()["content-type"], "application/json");
            assert_eq!(response.headers()["cache-control"], "no-store");
            assert_eq!(response.headers().get("connection").is_some(), status < 500, "{fault:?}");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let text = std::str::from_utf8(&body).unwrap();
            let json: serde_json::Value = serde_json::from_str(text).unwrap();
            let message = json["message"].as_str().unwrap();
            assert!(message.starts_with(begins) && !message.contains(['\n', '\r']), "{message}");
            assert!(!message.contains("role/proxy"), "the proxy's principal is for the log: {message}");
            let quoted = serde_json::to_string(message).unwrap();
            assert_eq!(
                text,
                format!(
                    r#"{{"code":"{code}","message":{quoted},"HTTPErrorCode":{status},"Code":"{code}","Message":{quoted}}}"#
                )
            );
        }
    }
}
