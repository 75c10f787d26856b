//! Flags for who comes from ECS: a task definition for `dev` and `exec`, the paths of the local endpoints for `dev`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::FalseyValueParser;

/// A task definition.
#[derive(Debug, Default, Args)]
pub struct Definition {
    /// An ECS task definition in JSON, as register-task-definition takes it or describe-task-definition prints it: its roles, its
    /// family and its containers.
    #[arg(long, env = "TASKCREDS_TASK_DEFINITION", value_name = "FILE")]
    pub task_definition: Option<PathBuf>,
    /// What run-task would be given as --overrides: a file, or the JSON itself.
    #[arg(long, env = "TASKCREDS_OVERRIDES", value_name = "FILE|JSON", requires = "task_definition")]
    pub overrides: Option<String>,
    /// The account of roles that the definition gives by name alone. [default: the definition's own, or with the embedded STS
    /// 111122223333]
    #[arg(long, env = "TASKCREDS_ACCOUNT", value_parser = account, value_name = "ACCOUNT")]
    pub account: Option<String>,
}

/// The same, for one of its containers.
#[derive(Debug, Args)]
pub struct ContainerOfDefinition {
    /// The definition.
    #[command(flatten)]
    pub definition: Definition,
    /// The container whose environment CMD gets. [default: the only one]
    #[arg(long, env = "TASKCREDS_CONTAINER", value_name = "NAME", requires = "task_definition")]
    pub container: Option<String>,
}

/// The paths of amazon-ecs-local-container-endpoints.
#[derive(Debug, Args)]
pub struct LocalEndpoints {
    /// Answer at /creds, /role/NAME and /role-arn/ARN too, as amazon-ecs-local-container-endpoints does: with the roles that are
    /// served here and no others, and at 169.254.170.2 to whoever asks.
    #[arg(long, env = "TASKCREDS_LOCAL_ENDPOINTS", value_parser = FalseyValueParser::new())]
    pub local_endpoints: bool,
    /// The role, by name or ARN, whose session /creds is. [default: the only one]
    #[arg(long, env = "TASKCREDS_CREDS_ROLE", value_name = "ROLE", requires = "local_endpoints")]
    pub creds_role: Option<String>,
}

fn account(text: &str) -> Result<String, &'static str> {
    let is_one = text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit());
    if is_one { Ok(text.to_owned()) } else { Err("must be the 12 digits of an account") }
}
