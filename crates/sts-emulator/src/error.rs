//! Every refusal has one HTTP status, one code of the STS API and one sentence.
//!
//! Codes and wording are those of AWS wherever they are known (STS API Reference, `AssumeRole` and "Common Errors", and
//! replies quoted in public issues), because that is what the error handling of applications was written against.
//! Where the emulator refuses something on its own account, the sentence says what to do instead.

use std::borrow::Cow;

use http::StatusCode;

/// Why a request was refused. The text is the `Message` of the answer: it never holds a secret, a token or a signature.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No `Authorization` header.
    #[error("Request is missing Authentication Token")]
    MissingAuthenticationToken,
    /// The signature cannot even be read.
    #[error("{0}")]
    IncompleteSignature(String),
    /// The signature was read and is not the right one, or not for here and now.
    #[error("{0}")]
    SignatureDoesNotMatch(String),
    /// The access key is unknown, or the session token is not the one that belongs to it.
    #[error("The security token included in the request is invalid.")]
    InvalidClientTokenId,
    /// The session of the caller has ended.
    #[error("The security token included in the request is expired")]
    ExpiredToken,
    /// The form has no `Action`.
    #[error("Missing Action")]
    MissingAction,
    /// No such operation in that version of the API.
    #[error("Could not find operation {action} for version {version}")]
    InvalidAction { action: String, version: String },
    /// The form, or a list in it, cannot be read.
    #[error("{0}")]
    MalformedInput(String),
    /// Parameters outside the limits of the API.
    #[error("{0}")]
    Validation(String),
    /// Parameters that contradict each other or the caller's session.
    #[error("{0}")]
    InvalidParameterValue(String),
    /// The session policy is not a policy.
    #[error("{0}")]
    MalformedPolicyDocument(String),
    /// Policies and tags do not fit into a session.
    #[error("{0}")]
    PackedPolicyTooLarge(String),
    /// The caller may not do that.
    #[error("{0}")]
    AccessDenied(String),
    /// Only `/` is served.
    #[error("STS answers at / only. Set the endpoint URL to the emulator's address without a path.")]
    NotFound,
    /// Only `POST` is served.
    #[error("The emulator speaks the query protocol over POST only. Send the parameters as a form in the body.")]
    MethodNotAllowed,
    /// The body is larger than any valid request.
    #[error("The request body is longer than {limit} bytes, more than any valid STS request.")]
    RequestEntityTooLarge { limit: usize },
    /// The body did not arrive.
    #[error("The request body did not arrive in time. Send it again on a new connection.")]
    RequestTimeout,
    /// What somebody has asked for who wants to see it.
    #[error("{message}")]
    AskedFor { status: StatusCode, code: String, message: String },
    /// There is to be no answer.
    #[error("There is no answer.")]
    Unanswered,
}

impl Error {
    /// The status and the code of the answer.
    pub(crate) fn status_and_code(&self) -> (StatusCode, Cow<'static, str>) {
        let (status, code) = match self {
            Self::AskedFor { status, code, .. } => return (*status, Cow::Owned(code.clone())),
            // Nobody sees the status.
            Self::Unanswered => (StatusCode::INTERNAL_SERVER_ERROR, "Unanswered"),
            Self::MissingAuthenticationToken => (StatusCode::FORBIDDEN, "MissingAuthenticationToken"),
            Self::IncompleteSignature(_) => (StatusCode::BAD_REQUEST, "IncompleteSignature"),
            Self::SignatureDoesNotMatch(_) => (StatusCode::FORBIDDEN, "SignatureDoesNotMatch"),
            Self::InvalidClientTokenId => (StatusCode::FORBIDDEN, "InvalidClientTokenId"),
            Self::ExpiredToken => (StatusCode::FORBIDDEN, "ExpiredToken"),
            Self::MissingAction => (StatusCode::BAD_REQUEST, "MissingAction"),
            Self::InvalidAction { .. } => (StatusCode::BAD_REQUEST, "InvalidAction"),
            Self::MalformedInput(_) => (StatusCode::BAD_REQUEST, "MalformedInput"),
            Self::Validation(_) => (StatusCode::BAD_REQUEST, "ValidationError"),
            Self::InvalidParameterValue(_) => (StatusCode::BAD_REQUEST, "InvalidParameterValue"),
            Self::MalformedPolicyDocument(_) => (StatusCode::BAD_REQUEST, "MalformedPolicyDocument"),
            Self::PackedPolicyTooLarge(_) => (StatusCode::BAD_REQUEST, "PackedPolicyTooLarge"),
            Self::AccessDenied(_) => (StatusCode::FORBIDDEN, "AccessDenied"),
            Self::NotFound => (StatusCode::NOT_FOUND, "NotFound"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
            Self::RequestEntityTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge"),
            Self::RequestTimeout => (StatusCode::REQUEST_TIMEOUT, "RequestTimeout"),
        };
        (status, Cow::Borrowed(code))
    }
}
