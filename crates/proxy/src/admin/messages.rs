//! What the requests of the admin interface ask and what its answers say, for both ends.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use taskcreds_core::RoleKind;

/// A registration that is asked for: the keys of `[[task]]` in the configuration file, in camelCase.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Register {
    /// `arn:aws:ecs:REGION:ACCOUNT:task/CLUSTER/TASK-ID`; the task id is the role session name.
    pub task_arn: String,
    /// The task role. One of this and `executionRoleArn` is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    /// The execution role, which gets an id of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_role_arn: Option<String>,
    /// The id that opens the task role, 22 to 128 characters of `A-Z a-z 0-9 - _`; a random UUID is made if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_id: Option<String>,
    /// The same for the execution role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_credentials_id: Option<String>,
    /// Whether a token is made, which readers must send as `Authorization`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with_token: Option<bool>,
    /// A token of the caller's choice instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The token before this one, accepted too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_token: Option<String>,
    /// `loopback`: the token is demanded everywhere but at 169.254.170.2; `always`: there too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_required: Option<String>,
    /// Where the task may be asked from: addresses, networks, `interface:NAME`, `netns:/PATH`; anywhere if left out. Of each of these
    /// kinds that is there, one must be met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sources: Option<Vec<String>>,
    /// The role session name, if not the task's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_name: Option<String>,
    /// The family of the task definition, for the session tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// The service of the task, for the session tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// 900 to 43200; 3600 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<u32>,
    /// The region of STS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Passed to STS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_identity: Option<String>,
    /// Passed to STS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// A session policy of the task role: a JSON document as a string.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Managed policies that narrow the task role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_arns: Option<Vec<String>>,
    /// Further session tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
    /// Whether the tags are passed down a chain of roles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transitive_tags: Option<bool>,
    /// `required` or `off`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_tags: Option<String>,
}

/// Which task, and which of its roles.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Which {
    /// The task's ARN.
    pub task_arn: String,
    /// Which of its roles: for `rotate` the task role if left out, for the others both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_kind: Option<Kind>,
    /// `rotate`: the new id; a random UUID is made if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_id: Option<String>,
}

/// One of the two roles of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// What the application runs with.
    Task,
    /// What the agent uses on the task's behalf.
    Execution,
}

impl From<RoleKind> for Kind {
    fn from(kind: RoleKind) -> Self {
        match kind {
            RoleKind::Task => Self::Task,
            RoleKind::Execution => Self::Execution,
        }
    }
}

impl From<Kind> for RoleKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Task => Self::Task,
            Kind::Execution => Self::Execution,
        }
    }
}

/// A task: its task role in place, its execution role within.
#[derive(Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TaskView {
    /// The task's ARN.
    pub task_arn: String,
    /// Who has registered it: `configuration`, or `admin` for this socket.
    pub source: String,
    /// The user who has registered it over the socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The task role, where the task has one.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleView>,
    /// The execution role, where the task has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<RoleView>,
    /// Whether this request has registered something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<bool>,
    /// What works but deserves attention.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// One role of a task and how its session stands.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RoleView {
    /// The role.
    pub role_arn: String,
    /// The role session name.
    pub session_name: String,
    /// The first 8 hex digits of the SHA-256 of the credentials id, as in the log.
    pub id_digest: String,
    /// `served`; `served_failing`: an older session is served while loads fail; `loading`; `failing`.
    pub state: String,
    /// When the session ends that is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration: Option<String>,
    /// How the last load failed, if no session has come since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The credentials id, a secret: told by `register` and `rotate` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_id: Option<String>,
    /// For `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative_uri: Option<String>,
    /// For `AWS_CONTAINER_CREDENTIALS_FULL_URI`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_uri: Option<String>,
    /// The token that readers of this role send as `Authorization`, a secret: told like the id, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// Tasks, in the order of their ARNs.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct TaskList {
    /// The tasks.
    pub tasks: Vec<TaskView>,
}

/// What was revoked.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Revoked {
    /// The task's ARN.
    pub task_arn: String,
}
