//! `taskcreds audit`

use std::path::PathBuf;
use std::time::SystemTime;

use clap::Args;
use taskcreds_core::{SessionName, TaskArn};

/// `taskcreds audit`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  taskcreds audit --file /var/log/taskcreds/audit.log --access-key-id ASIAIOSFODNN7EXAMPLE\n\n\
                        Times are as 2026-11-21T20:00:00Z, in UTC. Exit status: 1 no record fits; 64 the question or the file is none; \
                        77 the file may not be read."
)]
pub struct Audit {
    /// The audit log, in JSON; those that were put aside from it are searched too.
    #[arg(long, env = "TASKCREDS_AUDIT_FILE", default_value = "/var/log/taskcreds/audit.log")]
    pub file: PathBuf,
    /// The access key id of a session, as CloudTrail has it.
    #[arg(long)]
    pub access_key_id: Option<String>,
    /// A role session name, or an assumed-role ARN.
    #[arg(long, value_parser = session)]
    pub session_name: Option<String>,
    /// A task.
    #[arg(long)]
    pub task_arn: Option<TaskArn>,
    /// Not before this time.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub since: Option<SystemTime>,
    /// Not after this time.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub until: Option<SystemTime>,
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
}

fn time(text: &str) -> Result<SystemTime, &'static str> {
    humantime::parse_rfc3339(text).map_err(|_| "must be as 2026-11-21T20:00:00Z, in UTC")
}

/// What is neither a role session name nor the ARN of a session would fit no record.
fn session(text: &str) -> Result<String, &'static str> {
    let is_arn = matches!(text.split(':').collect::<Vec<_>>()[..], ["arn", _, "sts", _, account, session]
        if account.len() == 12 && session.starts_with("assumed-role/") && session.split('/').count() == 3);
    if is_arn || (!text.starts_with("arn:") && SessionName::new(text).is_ok()) {
        return Ok(text.to_owned());
    }
    Err("must be the role session name alone, or the ARN of a session: arn:aws:sts::ACCOUNT:assumed-role/ROLE/NAME")
}
