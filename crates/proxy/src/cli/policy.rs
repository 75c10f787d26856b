//! `taskcreds policy`, and which roles the embedded STS has.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use taskcreds_core::{ExternalId, Region, RoleArn, SourceIdentity, TaskArn};

use super::{SessionTagging, tag};

/// What the embedded STS of `dev` and `exec --emulate` is like.
#[derive(Debug, Default, Args)]
pub struct Emulated {
    /// Give the embedded STS these roles and no others: a folder of JSON files, each as `aws iam get-role` prints it. Their trust policies
    /// decide who may assume them.
    #[arg(long, env = "TASKCREDS_EMULATED_ROLES", value_name = "DIR")]
    pub emulated_roles: Option<PathBuf>,
    /// As whom the embedded STS is called: the ARN of a user or role, or `ecs` for Amazon ECS, which passes no session tags.
    /// [default: the user `taskcreds` of the role's account]
    #[arg(long, env = "TASKCREDS_EMULATED_CALLER", value_name = "ARN|ecs")]
    pub emulated_caller: Option<String>,
}

/// `taskcreds policy`
#[derive(Debug, Args)]
pub struct Policy {
    /// What to do.
    #[command(subcommand)]
    pub action: PolicyAction,
}

/// What `taskcreds policy` does.
#[derive(Debug, Subcommand)]
pub enum PolicyAction {
    /// Would AWS let this task's role be assumed, by ECS and by this proxy? Exit status 0 if both may, 77 if one may not.
    Test(Box<PolicyTest>),
    /// Find the traps of trust policies. Exit status 0 without traps (there may be notes), 1 with traps, 64 if IAM would refuse the file.
    Lint(PolicyLint),
    /// Write a trust policy.
    Trust(PolicyTrust),
    /// Write what a role may do.
    Permissions(PolicyPermissions),
}

/// `taskcreds policy test`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  taskcreds policy test --trust trust.json --task-arn arn:aws:ecs:us-west-2:111122223333:task/prod/0123456789abcdef\n\n\
                        Exit status 0: all that were asked for may assume the role; 77: one may not; 64: the file is no trust policy."
)]
pub struct PolicyTest {
    /// The trust policy, or a role as `aws iam get-role` prints it; - is standard input.
    #[arg(long, value_name = "FILE")]
    pub trust: PathBuf,
    /// The task.
    #[arg(long)]
    pub task_arn: TaskArn,
    /// The role. [default: the one of FILE, else the role `task-role` of the task's account]
    #[arg(long)]
    pub role: Option<RoleArn>,
    /// A further session tag of the proxy; any number of times.
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    pub tags: Vec<(String, String)>,
    /// Pass the tags down a chain of roles.
    #[arg(long)]
    pub transitive_tags: bool,
    /// As whom the proxy calls: a role, a session of a role, or a user. [default: the role `taskcreds-proxy` of the role's account]
    #[arg(long, value_name = "ARN")]
    pub proxy: Option<String>,
    /// What the proxy passes to STS.
    #[arg(long)]
    pub external_id: Option<ExternalId>,
    /// Whether the proxy passes session tags.
    #[arg(long, value_enum, default_value_t)]
    pub session_tags: SessionTagging,
    /// What the proxy passes to STS.
    #[arg(long)]
    pub source_identity: Option<SourceIdentity>,
    /// The region whose STS is asked. [default: the task's]
    #[arg(long)]
    pub region: Option<Region>,
    /// The value of a key that nobody here knows, as aws:SourceIp=203.0.113.1, for each caller that may bring it.
    #[arg(long = "context", value_name = "KEY=VALUE", value_parser = tag)]
    pub context: Vec<(String, String)>,
    /// Where AWS asks for an Allow in the proxy's own policies too, there is none.
    #[arg(long)]
    pub without_identity_policy: bool,
    /// Whose verdicts count.
    #[arg(long = "as", value_enum, default_value_t)]
    pub callers: Callers,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Whose verdicts count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Callers {
    /// Both.
    #[default]
    Both,
    /// Amazon ECS: the service ecs-tasks.amazonaws.com, for the task.
    Ecs,
    /// This proxy: an IAM principal.
    Proxy,
}

/// `taskcreds policy lint`
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status 0: no traps (there may be notes); 1: traps; 64: a file that IAM would refuse, or that cannot be read."
)]
pub struct PolicyLint {
    /// Trust policies, or roles as `aws iam get-role` prints them; - is standard input.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// What is written, and for what.
#[derive(Debug, Args)]
pub struct Written {
    /// The account.
    #[arg(long)]
    pub account: Option<String>,
    /// The region.
    #[arg(long)]
    pub region: Option<Region>,
    /// The partition: aws, aws-cn, aws-us-gov. [default: the region's, else aws]
    #[arg(long)]
    pub partition: Option<String>,
    /// The name of the role. [default: task-role, ecsTaskExecutionRole, ecsAnywhereRole or taskcreds-proxy]
    #[arg(long)]
    pub name: Option<String>,
    /// How it is written.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// How documents are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The document itself.
    #[default]
    Json,
    /// Commands of the AWS CLI.
    Cli,
    /// A CloudFormation template, in JSON.
    Cloudformation,
    /// A Terraform file, in its JSON syntax: save it as NAME.tf.json.
    Terraform,
}

/// `taskcreds policy trust`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taskcreds policy trust task --account 111122223333 --region us-west-2 \\\n    \
                        --proxy arn:aws:iam::111122223333:role/taskcreds-proxy --cluster prod > trust.json")]
pub struct PolicyTrust {
    /// Whose trust policy.
    #[arg(value_enum)]
    pub of: TrustOf,
    /// What is written.
    #[command(flatten)]
    pub written: Written,
    /// Trust this proxy too: the ARN of its role or user.
    #[arg(long, value_name = "ARN")]
    pub proxy: Option<String>,
    /// Trust the proxy for tasks of this cluster only, which its session tags name.
    #[arg(long, requires = "proxy")]
    pub cluster: Option<String>,
    /// Whether the proxy passes session tags.
    #[arg(long, value_enum, default_value_t)]
    pub session_tags: SessionTagging,
    /// The proxy sets a source identity.
    #[arg(long, requires = "proxy")]
    pub source_identity: bool,
    /// Trust the proxy only, and not the AWS service.
    #[arg(long, requires = "proxy")]
    pub without_service: bool,
    /// Leave out aws:SourceAccount and aws:SourceArn.
    #[arg(long)]
    pub without_source: bool,
}

/// Whose trust policy is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TrustOf {
    /// A task role.
    Task,
    /// A task execution role.
    Execution,
    /// The role of ECS Anywhere instances.
    Anywhere,
}

/// `taskcreds policy permissions`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  taskcreds policy permissions proxy --role arn:aws:iam::111122223333:role/web --format cli"
)]
pub struct PolicyPermissions {
    /// Whose permissions.
    #[arg(value_enum)]
    pub of: PermissionsOf,
    /// What is written.
    #[command(flatten)]
    pub written: Written,
    /// For proxy: a role that it may assume; any number of times.
    #[arg(long = "role", required_if_eq("of", "proxy"))]
    pub roles: Vec<RoleArn>,
    /// For proxy: whether it passes session tags.
    #[arg(long, value_enum, default_value_t)]
    pub session_tags: SessionTagging,
    /// For proxy: it sets a source identity.
    #[arg(long)]
    pub source_identity: bool,
    /// For execution and anywhere: a policy of its own that allows less, in place of the managed ones of AWS.
    #[arg(long)]
    pub narrow: bool,
    /// For anywhere with --narrow: the cluster of the instances. [default: any]
    #[arg(long, requires = "narrow")]
    pub cluster: Option<String>,
}

/// Whose permissions are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PermissionsOf {
    /// This proxy: which task roles it may assume.
    Proxy,
    /// A task execution role.
    Execution,
    /// A task role whose containers are reached by ECS Exec.
    Exec,
    /// The role of ECS Anywhere instances.
    Anywhere,
}
