//! The proxy under test: the real binary, `taskcreds serve --config FILE`, with one task that demands a token.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use taskcreds_sts_emulator::AccessKey;

use crate::answer;

/// How to start the proxy and what to ask it.
#[derive(Debug)]
pub struct Proxy {
    program: PathBuf,
    folder: tempfile::TempDir,
    environment: Vec<(&'static str, String)>,
    id: String,
    token: String,
}

impl Proxy {
    /// Writes the configuration. `sts` is the address of an STS over plain HTTP that knows `key`; `audit` switches the audit log
    /// on, in a file of 50 MB that is put aside once.
    ///
    /// # Errors
    /// The program or the configuration's folder: what is the matter with it.
    pub fn new(program: &Path, sts: SocketAddr, key: &AccessKey, workers: usize, audit: bool) -> io::Result<Self> {
        if !program.is_file() {
            let message = format!(
                "there is no {}: build it with: cargo build --release (or the profile of this program)",
                program.display()
            );
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        let (id, token) = (uuid::Uuid::new_v4().to_string(), uuid::Uuid::new_v4().simple().to_string());
        let folder = tempfile::Builder::new().prefix("taskcreds-benches-").tempdir()?;
        // The session is refreshed at about half its life: after hours, not in the middle of a round.
        let audit = if audit { "[audit]\nfile = \"audit.log\"\nkeep = 1\n" } else { "" };
        let config = format!(
            "{audit}[[task]]\ntask_arn = \"arn:aws:ecs:us-west-2:111122223333:task/bench/6d4ad9b0a7c54a6d8d7b0d0d9d6b6f01\"\n\
             role_arn = \"arn:aws:iam::111122223333:role/bench\"\ncredentials_id = \"{id}\"\ntoken = \"{token}\"\n\
             duration_seconds = 43200\n"
        );
        std::fs::write(folder.path().join("taskcreds.toml"), config)?;
        let environment = vec![
            ("AWS_ENDPOINT_URL_STS", format!("http://{sts}")),
            ("AWS_ACCESS_KEY_ID", key.access_key_id.clone()),
            ("AWS_SECRET_ACCESS_KEY", key.secret_access_key.clone()),
            ("AWS_REGION", "us-west-2".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("HOME", folder.path().display().to_string()),
            ("TOKIO_WORKER_THREADS", workers.to_string()),
        ];
        Ok(Self { program: program.to_owned(), folder, environment, id, token })
    }

    /// The command that starts it; nothing of this process's environment goes with it.
    ///
    /// # Errors
    /// The log cannot be written.
    pub fn command(&self, listen: SocketAddr) -> io::Result<Command> {
        let log = File::options().create(true).append(true).open(self.folder.path().join("log"))?;
        let mut command = Command::new(&self.program);
        command
            .args([OsStr::new("serve"), OsStr::new("--config"), self.folder.path().join("taskcreds.toml").as_ref()])
            .args(["--listen", &listen.to_string()])
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        Ok(command)
    }

    /// The last lines that it has logged, for when something went wrong.
    #[must_use]
    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(5)..).unwrap_or_default().join("\n")
    }

    /// The request for the task's credentials.
    #[must_use]
    pub fn request(&self) -> Vec<u8> {
        answer::request(&self.id, &self.token)
    }
}
