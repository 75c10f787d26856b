//! What a client of the admin socket is told when nothing is done: status, code and message by one exhaustive match.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use taskcreds_core::{RegisterError, RoleKind, TaskArn};

use super::store::StoreError;
use crate::config::Fault;

/// Why a request was refused. Nothing has changed, but where the message says so.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The request breaks rules.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Fault>),
    /// No such path.
    #[error("no such path; GET /openapi.json has them all")]
    Path,
    /// The path is known, the method is not.
    #[error("this path has other methods; GET /openapi.json has them all")]
    Method,
    /// The body is too long.
    #[error("the body of a request may have {} bytes", super::MAX_BODY)]
    TooLarge,
    /// The request did not come in time.
    #[error("a request must be whole within {} s", super::DEADLINE.as_secs())]
    TooSlow,
    /// The request ended early.
    #[error("the request ended before it was whole")]
    Incomplete,
    /// The user has no rule.
    #[error("uid {0} has no rule: [[admin.allow]] in the configuration gives it one")]
    NoRule(u32),
    /// The user's rule does not allow it.
    #[error("the rule for uid {uid} does not allow {what}")]
    NotAllowed {
        /// The user.
        uid: u32,
        /// What it asked for.
        what: String,
    },
    /// The user has as many registrations as its rule allows.
    #[error("uid {uid} has {count} registrations and asks for {more} more; its rule allows {max} (max_tasks)")]
    UserFull {
        /// The user.
        uid: u32,
        /// How many it has.
        count: usize,
        /// How many it asks for.
        more: usize,
        /// How many it may have.
        max: usize,
    },
    /// There is no such registration, or it is another user's.
    #[error("no such task is registered over this socket: {0}")]
    NotFound(Box<TaskArn>),
    /// The task is there, this role of it is not.
    #[error("the task {1} has no {0} that is registered over this socket")]
    NoSuchRole(RoleKind, Box<TaskArn>),
    /// Another user has registered it.
    #[error("another user has registered {0}: only it, root and the proxy's own user can change it")]
    AnothersTask(Box<TaskArn>),
    /// The configuration file has it.
    #[error("{0} is registered by the configuration file: change it there")]
    Configured(Box<TaskArn>),
    /// It is registered otherwise than asked for.
    #[error("the {0} of {1} is registered already and {2}: taskcreds task rm takes it back")]
    Differs(RoleKind, Box<TaskArn>, &'static str),
    /// The registration stands; what opens it was told before the last start.
    #[error(
        "the {0} of {1} stands and its readers are served, but its {2} was told before a restart and is kept as a digest only: send \
         what was told, or rotate it"
    )]
    NotKept(RoleKind, Box<TaskArn>, &'static str),
    /// The registry refuses.
    #[error("{0}")]
    Register(#[from] RegisterError),
    /// The store refuses.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// Something half done, in the direction that is safe.
    #[error(
        "{0} is revoked now, but the store did not take it, so it would be back after a restart; it is tried again every few seconds ({1})"
    )]
    NotRecorded(Box<TaskArn>, Box<StoreError>),
    /// The same.
    #[error(
        "{0} is revoked now, but its session is still kept for the next process, which would go on with it if the task were registered \
         again with the same id; it is tried again every few seconds ({1})"
    )]
    StillKept(Box<TaskArn>, std::io::Error),
    /// A defect of this program.
    #[error("a defect of this program; the log has more")]
    Internal,
}

/// A refusal.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct Refusal {
    /// What kind of refusal it is.
    pub code: String,
    /// What happened and what to do.
    pub message: String,
    /// Every fault of the request, where it has several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
}

impl AdminError {
    /// The status and the code.
    #[must_use]
    pub fn parts(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Invalid(_) => (StatusCode::BAD_REQUEST, "ValidationError"),
            Self::Path => (StatusCode::NOT_FOUND, "NotFound"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "RequestTooLarge"),
            Self::Incomplete => (StatusCode::BAD_REQUEST, "IncompleteRequest"),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "RequestTimeout"),
            Self::NoRule(_) | Self::NotAllowed { .. } => (StatusCode::FORBIDDEN, "AccessDenied"),
            Self::UserFull { .. } => (StatusCode::FORBIDDEN, "TooManyTasks"),
            Self::NotFound(_) | Self::NoSuchRole(..) => (StatusCode::NOT_FOUND, "TaskNotFound"),
            Self::AnothersTask(_) | Self::Configured(_) | Self::Differs(..) => (StatusCode::CONFLICT, "TaskConflict"),
            Self::NotKept(..) => (StatusCode::CONFLICT, "CredentialsIdNotKept"),
            Self::Register(RegisterError::IdTaken(_)) => (StatusCode::CONFLICT, "CredentialsIdTaken"),
            Self::Register(RegisterError::TaskTaken(..)) => (StatusCode::CONFLICT, "TaskConflict"),
            Self::Register(RegisterError::Full(_)) => (StatusCode::CONFLICT, "TooManyTasks"),
            Self::Store(_) | Self::NotRecorded(..) | Self::StillKept(..) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "StoreFailed")
            }
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError"),
        }
    }

    /// What stands in the answer.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let faults = match self {
            Self::Invalid(faults) => faults.iter().map(ToString::to_string).collect(),
            _ => Vec::new(),
        };
        Refusal { code: self.parts().1.to_owned(), message: self.to_string(), faults }
    }
}
