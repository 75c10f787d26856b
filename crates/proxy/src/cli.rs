//! The command line. Every setting of a proxy has an environment variable beside its flag; a flag comes before its variable, both
//! before the file. A variable that is empty is not set. What names the object of one call, as of `task` and `audit`, is a flag only.

mod advice;
mod audit;
pub mod local;
#[cfg(target_os = "linux")]
mod network;
mod policy;
mod testing;
mod variables;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use taskcreds_core::RoleArn;

pub use self::audit::Audit;
pub use self::policy::{
    Callers, Emulated, Format, PermissionsOf, Policy, PolicyAction, PolicyLint, PolicyPermissions, PolicyTest,
    PolicyTrust, TrustOf, Written,
};
pub use self::testing::{At, Entries, Fault, FaultAction, Journal, JournalAction, ShortSessions, Testing};
pub use self::variables::is_empty_variable;
#[cfg(target_os = "linux")]
pub use network::{Choice, Network, NetworkAction, NetworkUp};

use crate::config::{listen_address, loopback_address};
use crate::telemetry::{LogFormat, LogLevel};

/// Gives task roles to programs that are no ECS tasks, by the protocol that every AWS SDK speaks.
#[derive(Debug, Parser)]
#[command(name = "taskcreds", version, max_term_width = 120)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How much is logged to standard error: off, error, warn, info, debug, trace. [default: info; for exec, whose standard error is
    /// CMD's, warn]
    #[arg(
        long,
        global = true,
        env = "TASKCREDS_LOG_LEVEL",
        value_enum,
        hide_possible_values = true,
        help_heading = "Log",
        value_name = "LEVEL"
    )]
    pub log_level: Option<LogLevel>,
    /// How log lines look: text or json.
    #[arg(
        long,
        global = true,
        env = "TASKCREDS_LOG_FORMAT",
        value_enum,
        hide_possible_values = true,
        default_value_t,
        help_heading = "Log",
        value_name = "FORMAT"
    )]
    pub log_format: LogFormat,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the tasks of a configuration file and of the admin socket with sessions from STS, or from the endpoint that
    /// AWS_ENDPOINT_URL_STS names.
    Serve(Serve),
    /// Serve on a laptop, with an embedded STS and no AWS account, unless --aws is given; prints lines to paste.
    Dev(Dev),
    /// Run one command with a role's credentials, of your AWS account unless --emulate is given.
    Exec(Exec),
    /// Check a configuration file: all faults, what is in force, and whether each role can be assumed; or the network.
    Check(Check),
    /// Have containers reach the proxy at 169.254.170.2, and nothing else; keep them from the instance metadata service.
    #[cfg(target_os = "linux")]
    Network(Network),
    /// Ask a running proxy whether it answers; for images without a shell. Exit status 0 or 1.
    Healthcheck(Healthcheck),
    /// Have answers fail on purpose, for tests: over the control interface of dev, exec or serve.
    Fault(Fault),
    /// Look at what was asked and answered, wait for it and assert it, over the control interface.
    Journal(Journal),
    /// Search the audit log: which task had this key, when, and from where?
    Audit(Audit),
    /// Test, check and write the trust policies and permissions of roles, with no AWS account.
    Policy(Policy),
    /// Register, revoke and look at the tasks of a running proxy, over its admin socket.
    #[cfg(unix)]
    Task(Task),
}

/// Where to listen.
#[derive(Debug, Args)]
pub struct Listen {
    /// ADDRESS:PORT to listen on; port 0 lets the system choose. [default: port 51679 of loopback, IPv4 and IPv6]
    #[arg(long, env = "TASKCREDS_LISTEN", value_delimiter = ',', value_name = "ADDR:PORT", value_parser = listen_address)]
    pub listen: Vec<SocketAddr>,
    /// Add 169.254.170.2 to lo and listen on its port 80 too: for containers that share this network namespace (compose, Kubernetes).
    /// Needs CAP_NET_ADMIN, unless the address is there. Linux only.
    #[arg(
        long,
        env = "TASKCREDS_LINK_LOCAL",
        value_parser = FalseyValueParser::new(),
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_name = "true|false"
    )]
    pub link_local: Option<bool>,
}

/// `taskcreds serve`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  taskcreds serve --config /etc/taskcreds/taskcreds.toml\n  \
                        taskcreds serve --admin-socket /run/taskcreds/admin.sock\n  \
                        taskcreds exec --emulate -- taskcreds serve --admin-socket admin.sock --state-dir state   (no AWS account)")]
pub struct Serve {
    /// The configuration file, in TOML; not needed where --admin-socket is given.
    #[arg(long, env = "TASKCREDS_CONFIG", value_name = "FILE", required_unless_present = "admin_socket")]
    pub config: Option<PathBuf>,
    /// Where to listen.
    #[command(flatten)]
    pub listen: Listen,
    /// Where to make the admin socket, on which tasks are registered. [default: none]
    #[arg(long, env = "TASKCREDS_ADMIN_SOCKET", value_name = "PATH")]
    pub admin_socket: Option<PathBuf>,
    /// The folder in which registrations of the admin socket are kept. [default: /var/lib/taskcreds]
    #[arg(long, env = "TASKCREDS_STATE_DIR", value_name = "PATH")]
    pub state_dir: Option<PathBuf>,
    /// ADDRESS:PORT of loopback for /healthz, /readyz and /metrics. [default: none]
    #[arg(long, env = "TASKCREDS_OPERATIONS_LISTEN", value_name = "ADDR:PORT", value_parser = loopback_address)]
    pub operations_listen: Option<SocketAddr>,
    /// What may go wrong.
    #[command(flatten)]
    pub testing: Testing,
}

/// `taskcreds dev`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  taskcreds dev\n  \
                        taskcreds dev --role web=arn:aws:iam::111122223333:role/web --role db=arn:aws:iam::111122223333:role/db\n  \
                        taskcreds dev --local-endpoints --task-definition task-definition.json")]
pub struct Dev {
    /// A role to serve, as NAME=ARN; any number of times (in the variable, separated by spaces). [default: one demo role]
    #[arg(long = "role", env = "TASKCREDS_ROLES", value_delimiter = ' ', value_parser = named_role)]
    pub roles: Vec<(String, RoleArn)>,
    /// Serve the tasks of this configuration file too.
    #[arg(long, env = "TASKCREDS_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Take sessions from the real STS, through your own profile, instead of from the embedded one.
    #[arg(long, env = "TASKCREDS_AWS", value_parser = FalseyValueParser::new())]
    pub aws: bool,
    /// Whether the sessions of --role carry session tags, for which the role must allow sts:TagSession.
    #[arg(long, env = "TASKCREDS_SESSION_TAGS", value_enum, default_value_t)]
    pub session_tags: SessionTagging,
    /// The embedded STS.
    #[command(flatten)]
    pub emulated: Emulated,
    /// Where to listen.
    #[command(flatten)]
    pub listen: Listen,
    /// A task definition to serve.
    #[command(flatten)]
    pub definition: local::Definition,
    /// The paths that name a role.
    #[command(flatten)]
    pub local: local::LocalEndpoints,
    /// How long sessions last.
    #[command(flatten)]
    pub short: ShortSessions,
    /// What may go wrong.
    #[command(flatten)]
    pub testing: Testing,
}

/// `taskcreds exec`
#[derive(Debug, Args)]
#[command(
    override_usage = "taskcreds exec [OPTIONS] -- CMD [ARGS]...",
    after_help = "Examples:\n  taskcreds exec --emulate -- aws sts get-caller-identity\n  \
                  taskcreds exec --role arn:aws:iam::111122223333:role/web -- ./my-program --its-flag\n  \
                  taskcreds exec --emulate --task-definition task-definition.json --container app -- ./my-program"
)]
pub struct Exec {
    /// The role to run as; needed unless --emulate or --task-definition is given.
    #[arg(long, env = "TASKCREDS_ROLE")]
    pub role: Option<RoleArn>,
    /// Use the embedded STS: no AWS account needed. CMD gets its address as AWS_ENDPOINT_URL_STS.
    #[arg(long, env = "TASKCREDS_EMULATE", value_parser = FalseyValueParser::new())]
    pub emulate: bool,
    /// Whether the session carries session tags, for which the role must allow sts:TagSession.
    #[arg(long, env = "TASKCREDS_SESSION_TAGS", value_enum, default_value_t)]
    pub session_tags: SessionTagging,
    /// A task definition in place of a role, and which of its containers CMD is.
    #[command(flatten)]
    pub container: local::ContainerOfDefinition,
    /// The embedded STS.
    #[command(flatten)]
    pub emulated: Emulated,
    /// How long sessions last.
    #[command(flatten)]
    pub short: ShortSessions,
    /// What may go wrong.
    #[command(flatten)]
    pub testing: Testing,
    /// The command to run and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// Whether a session carries the tags that tell its task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SessionTagging {
    /// Always: without sts:TagSession the role is refused.
    #[default]
    Required,
    /// Never.
    Off,
}

/// `taskcreds check`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  taskcreds check --config taskcreds.toml --assume\n  taskcreds check --network   (Linux; exit status 1: something is missing)"
)]
pub struct Check {
    /// The configuration file, in TOML; not needed where --network is given.
    #[arg(long, env = "TASKCREDS_CONFIG", value_name = "FILE")]
    #[cfg_attr(target_os = "linux", arg(required_unless_present = "network"))]
    #[cfg_attr(not(target_os = "linux"), arg(required = true))]
    pub config: Option<PathBuf>,
    /// Assume each role once and tell what STS says.
    #[arg(long, env = "TASKCREDS_ASSUME", value_parser = FalseyValueParser::new())]
    pub assume: bool,
    /// Tell what reaches the proxy and the instance metadata service, and what mends what is missing.
    #[cfg(target_os = "linux")]
    #[arg(long)]
    pub network: bool,
    /// Where `taskcreds network` keeps what it has found.
    #[cfg(target_os = "linux")]
    #[arg(long, env = "TASKCREDS_NETWORK_STATE", value_name = "FILE", default_value = crate::network::STATE, hide = true)]
    pub state: PathBuf,
}

/// `taskcreds healthcheck`
#[derive(Debug, Args)]
pub struct Healthcheck {
    /// The address of the proxy.
    #[arg(long, env = "TASKCREDS_ADDRESS", value_name = "ADDR:PORT", value_parser = listen_address, default_value = "127.0.0.1:51679")]
    pub address: SocketAddr,
}

/// `taskcreds task`
#[cfg(unix)]
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
                        taskcreds task add --task-arn arn:aws:ecs:us-west-2:111122223333:task/prod/0123456789abcdef \\\n    \
                        --role-arn arn:aws:iam::111122223333:role/web\n  \
                        taskcreds task rm arn:aws:ecs:us-west-2:111122223333:task/prod/0123456789abcdef\n\n\
                        Exit status: 0 done; 1 no such task, or it stands otherwise; 64 the request has faults; 69 nobody answers at the socket; \
                        70 the store failed; 75 too slow; 77 not allowed.")]
pub struct Task {
    /// What to do.
    #[command(subcommand)]
    pub action: TaskAction,
    /// The admin socket of the proxy.
    #[arg(long, global = true, help_heading = "Proxy", env = "TASKCREDS_ADMIN_SOCKET", default_value = crate::admin::DEFAULT_SOCKET, value_name = "PATH")]
    pub socket: PathBuf,
    /// Print the answer as JSON.
    #[arg(long, global = true, help_heading = "Proxy")]
    pub json: bool,
}

/// What `taskcreds task` does.
#[cfg(unix)]
#[derive(Debug, Subcommand)]
pub enum TaskAction {
    /// Register a task and print what opens it. The same again prints the same.
    Add(Box<TaskAdd>),
    /// Revoke a task, or one of its roles.
    Rm(TaskRole),
    /// List the tasks and how their sessions stand.
    Ls,
    /// Show one task.
    Show(TaskName),
    /// Give a role of a task another id and print it; the old one is worth nothing from then on.
    Rotate(TaskRotate),
    /// Have a new session loaded now.
    Refresh(TaskRole),
}

/// A task by its ARN.
#[cfg(unix)]
#[derive(Debug, Args)]
pub struct TaskName {
    /// The task's ARN; --task-arn ARN is the same.
    #[arg(value_name = "TASK_ARN", required_unless_present = "task_arn", conflicts_with = "task_arn")]
    arn: Option<String>,
    /// The task's ARN.
    #[arg(long, hide = true)]
    task_arn: Option<String>,
}

#[cfg(unix)]
impl TaskName {
    /// The ARN, whichever way it was given; the proxy checks it.
    #[must_use]
    pub fn arn(self) -> String {
        self.arn.or(self.task_arn).unwrap_or_default()
    }
}

/// A task, or one of its roles.
#[cfg(unix)]
#[derive(Debug, Args)]
pub struct TaskRole {
    /// The task.
    #[command(flatten)]
    pub name: TaskName,
    /// This role only. [default: both]
    #[arg(long, value_enum)]
    pub role_kind: Option<crate::admin::messages::Kind>,
}

/// `taskcreds task rotate`
#[cfg(unix)]
#[derive(Debug, Args)]
pub struct TaskRotate {
    /// The task.
    #[command(flatten)]
    pub name: TaskName,
    /// Which of its roles.
    #[arg(long, value_enum, default_value = "task")]
    pub role_kind: crate::admin::messages::Kind,
}

/// `taskcreds task add`: what the configuration file has in `[[task]]`.
#[cfg(unix)]
#[derive(Debug, Args)]
#[command(
    group = clap::ArgGroup::new("fields").multiple(true),
    after_help = "Example:\n  taskcreds task add --task-arn arn:aws:ecs:us-west-2:111122223333:task/prod/0123456789abcdef \\\n    \
                        --role-arn arn:aws:iam::111122223333:role/web"
)]
pub struct TaskAdd {
    /// A file with the request as JSON, as POST /v1/tasks takes it, instead of the flags below; - is standard input. For ids and
    /// tokens of your own, which other users could read in a command line.
    #[arg(long, value_name = "FILE", conflicts_with = "fields")]
    pub request: Option<PathBuf>,
    /// arn:aws:ecs:REGION:ACCOUNT:task/CLUSTER/TASK-ID; the task id is the role session name.
    #[arg(group = "fields", long, required_unless_present = "request")]
    pub task_arn: Option<String>,
    /// The task role.
    #[arg(group = "fields", long)]
    pub role_arn: Option<String>,
    /// The execution role, which gets an id of its own.
    #[arg(group = "fields", long)]
    pub execution_role_arn: Option<String>,
    /// Make a token, which readers must send.
    #[arg(group = "fields", long)]
    pub with_token: bool,
    /// Where the token is demanded: everywhere but at 169.254.170.2 (loopback), or there too (always).
    #[arg(group = "fields", long, value_name = "WHERE")]
    pub token_required: Option<String>,
    /// Where the task may be asked from: an address, a network, interface:NAME or netns:/PATH; any number of times. [default: anywhere]
    #[arg(group = "fields", long = "source", value_name = "SOURCE")]
    pub sources: Vec<String>,
    /// The role session name, if not the task id.
    #[arg(group = "fields", long)]
    pub session_name: Option<String>,
    /// The family of the task definition, for the session tags.
    #[arg(group = "fields", long)]
    pub family: Option<String>,
    /// The service of the task, for the session tags.
    #[arg(group = "fields", long)]
    pub service: Option<String>,
    /// 900 to 43200. [default: 3600]
    #[arg(group = "fields", long, value_parser = whole::<u32>("a number of seconds, as 3600"))]
    pub duration_seconds: Option<u32>,
    /// The region of STS.
    #[arg(group = "fields", long)]
    pub region: Option<String>,
    /// Passed to STS.
    #[arg(group = "fields", long)]
    pub source_identity: Option<String>,
    /// Passed to STS.
    #[arg(group = "fields", long)]
    pub external_id: Option<String>,
    /// A session policy of the task role: a JSON document.
    #[arg(group = "fields", long)]
    pub policy: Option<String>,
    /// A managed policy that narrows the task role; any number of times.
    #[arg(group = "fields", long = "policy-arn", value_name = "ARN")]
    pub policy_arns: Vec<String>,
    /// A further session tag; any number of times.
    #[arg(group = "fields", long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    pub tags: Vec<(String, String)>,
    /// Pass the tags down a chain of roles.
    #[arg(group = "fields", long)]
    pub transitive_tags: bool,
    /// required, or off for roles that do not allow sts:TagSession.
    #[arg(group = "fields", long, value_name = "WHICH")]
    pub session_tags: Option<String>,
}

/// A whole number; `what` is what it stands for, with an example.
fn whole<T: FromStr>(what: &'static str) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| text.parse().map_err(|_| format!("must be {what}"))
}

fn tag(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// `NAME=ARN`, or an ARN alone, whose role's name is the name.
fn named_role(text: &str) -> Result<(String, RoleArn), String> {
    let (name, arn) = match text.split_once('=') {
        Some((name, arn)) if !name.starts_with("arn:") => (Some(name), arn),
        _ => (None, text),
    };
    let arn = RoleArn::new(arn).map_err(|invalid| invalid.to_string())?;
    let name = name.unwrap_or(arn.name());
    // It becomes the family of the task: up to 255 letters, digits, hyphens and underscores (Amazon ECS, RegisterTaskDefinition).
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_+=,.@".contains(&b));
    if name.is_empty() || name.len() > 255 || !plain {
        return Err("NAME must be 1 to 255 characters of A-Z a-z 0-9 - _ + = , . @".to_owned());
    }
    Ok((name.to_owned(), arn))
}
