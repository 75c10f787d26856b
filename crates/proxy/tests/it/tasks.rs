//! Tasks with ids and tokens of their own, and the configuration file that holds them.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use crate::secrets::{self, Kind};

/// The account of all roles.
pub(crate) const ACCOUNT: &str = "111122223333";

/// One task of a configuration.
#[derive(Clone)]
pub(crate) struct Task {
    /// The last part of the task ARN.
    pub(crate) task_id: String,
    /// The role's name.
    pub(crate) role: String,
    /// The credentials id; without one the program makes it.
    pub(crate) id: Option<String>,
    /// The token, if the task has one.
    pub(crate) token: Option<String>,
    more: String,
}

impl Task {
    /// A task with an id and without a token.
    pub(crate) fn new(role: &str) -> Self {
        Self {
            task_id: uuid::Uuid::new_v4().simple().to_string(),
            role: role.to_owned(),
            id: Some(new_id()),
            token: None,
            more: String::new(),
        }
    }

    /// The same with a token.
    pub(crate) fn with_token(role: &str) -> Self {
        let token = format!("tok-{}", uuid::Uuid::new_v4().simple());
        secrets::remember(Kind::Token, &token);
        Self { token: Some(token), ..Self::new(role) }
    }

    /// The same without an id.
    pub(crate) fn without_id(role: &str) -> Self {
        Self { id: None, ..Self::new(role) }
    }

    /// The same with more lines of TOML.
    pub(crate) fn and(self, more: &str) -> Self {
        Self { more: format!("{}\n{more}", self.more), ..self }
    }

    /// The path of its credentials.
    pub(crate) fn path(&self) -> String {
        format!("/v2/credentials/{}", self.id.as_ref().unwrap())
    }

    /// Who GetCallerIdentity says a holder of its credentials is.
    pub(crate) fn identity(&self) -> String {
        format!("arn:aws:sts::{ACCOUNT}:assumed-role/{}/{}", self.role, self.task_id)
    }

    /// The role's ARN.
    pub(crate) fn role_arn(&self) -> String {
        format!("arn:aws:iam::{ACCOUNT}:role/{}", self.role)
    }

    /// The task's ARN.
    pub(crate) fn arn(&self) -> String {
        format!("arn:aws:ecs:us-west-2:{ACCOUNT}:task/prod/{}", self.task_id)
    }

    fn toml(&self) -> String {
        let mut text = format!("[[task]]\ntask_arn = \"{}\"\nrole_arn = \"{}\"\n", self.arn(), self.role_arn());
        for (key, value) in [("credentials_id", &self.id), ("token", &self.token)] {
            if let Some(value) = value {
                writeln!(text, "{key} = \"{value}\"").unwrap();
            }
        }
        text + &self.more + "\n"
    }
}

/// A credentials id that nobody else has.
pub(crate) fn new_id() -> String {
    let id = uuid::Uuid::new_v4().to_string();
    secrets::remember(Kind::CredentialsId, &id);
    id
}

/// A configuration file that only its owner can read.
pub(crate) struct Config {
    folder: tempfile::TempDir,
    /// What is in it.
    pub(crate) tasks: Vec<Task>,
}

impl Config {
    /// A file with these tasks.
    pub(crate) fn new(tasks: &[Task]) -> Self {
        Self::with("", tasks)
    }

    /// A file with these lines before the tasks.
    pub(crate) fn with(head: &str, tasks: &[Task]) -> Self {
        let config = Self { folder: tempfile::tempdir().unwrap(), tasks: tasks.to_vec() };
        let tasks: String = tasks.iter().map(Task::toml).collect();
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(config.file()).unwrap();
        write!(file, "{head}\n{tasks}").unwrap();
        config
    }

    /// Where it is.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("taskcreds.toml")
    }
}
