//! The clients: where they are, how they are installed, and how one is asked.

use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde::Deserialize;

/// Longer than any client takes to give up.
const PATIENCE: Duration = Duration::from_secs(150);

/// An SDK, or a tool with a provider of its own.
#[derive(Debug)]
pub struct Client {
    /// Its name for `run` and `version`.
    pub name: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// Its folder in `clients/`.
    pub folder: &'static str,
    /// It says who it is; else it has nothing but S3.
    pub says_who: bool,
    /// How it knows the endpoint.
    pub knows: Knows,
}

/// The variables that a client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knows {
    /// `RELATIVE_URI` and `FULL_URI`.
    Both,
    /// `RELATIVE_URI`, and `FULL_URI` with a token file.
    FullWithTokenFile,
    /// `RELATIVE_URI` alone.
    Relative,
}

const fn sts(name: &'static str, title: &'static str, folder: &'static str) -> Client {
    Client { name, title, folder, says_who: true, knows: Knows::Both }
}

const fn s3(name: &'static str, title: &'static str, folder: &'static str) -> Client {
    Client { says_who: false, ..sts(name, title, folder) }
}

const fn knows(knows: Knows, client: Client) -> Client {
    Client { knows, ..client }
}

/// All of them, in the order of the table.
pub const CLIENTS: [Client; 23] = [
    sts("boto3", "Python, boto3", "python"),
    sts("aiobotocore", "Python, aiobotocore", "python"),
    sts("awscli1", "AWS CLI v1", "python"),
    sts("awscli2", "AWS CLI v2", "debian"),
    sts("js3", "JavaScript v3", "node"),
    sts("js2", "JavaScript v2", "node"),
    sts("rust", "Rust, aws-config", "rust"),
    sts("go2", "Go v2", "go"),
    sts("go1", "Go v1", "go"),
    sts("java2", "Java v2", "java"),
    sts("java1", "Java v1", "java"),
    sts("kotlin", "Kotlin", "java"),
    sts("awscrt", "C, aws-c-auth (awscrt)", "python"),
    s3("pyarrow", "C++ (pyarrow)", "python"),
    knows(Knows::Relative, sts("ruby", "Ruby", "debian")),
    knows(Knows::Relative, sts("async-aws", "PHP, AsyncAws", "debian")),
    s3("minio-go", "minio-go", "go"),
    s3("minio-py", "minio-py", "python"),
    knows(Knows::FullWithTokenFile, s3("object_store", "Rust, object_store", "rust")),
    s3("rclone", "rclone (Go v1)", "debian"),
    s3("restic", "restic (minio-go)", "debian"),
    knows(Knows::Relative, s3("gdal", "GDAL", "debian")),
    knows(Knows::Relative, s3("s3fs", "s3fs", "debian")),
];

/// Installed clients.
#[derive(Clone, Debug)]
pub struct Installed {
    /// Where they are.
    pub folder: PathBuf,
}

impl Installed {
    /// Below a target folder.
    #[must_use]
    pub fn below(target: &Path) -> Self {
        Self { folder: target.join("conformance") }
    }

    /// Installs what the clients of a folder need.
    ///
    /// # Errors
    /// Why they cannot be had here.
    pub fn install(&self, folder: &str) -> Result<(), String> {
        let destination = self.folder.join(folder);
        std::fs::create_dir_all(&destination).map_err(|error| format!("{}: {error}", destination.display()))?;
        // Of two processes one installs.
        let lock =
            std::fs::File::create(self.folder.join(format!("{folder}.lock"))).map_err(|error| error.to_string())?;
        lock.lock().map_err(|error| error.to_string())?;
        let output = Command::new(program(folder, "install")).arg(&destination).stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("{folder}/install: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(said.lines().rfind(|line| !line.is_empty()).unwrap_or("it cannot be installed").to_owned())
    }

    /// The version of a client that is installed.
    ///
    /// # Errors
    /// It is not there.
    pub fn version(&self, client: &Client) -> Result<String, String> {
        let mut command = Command::new(program(client.folder, "version"));
        let output = command.arg(self.folder.join(client.folder)).arg(client.name).output();
        let output = output.map_err(|error| format!("{}: {error}", client.name))?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() && !version.is_empty() { Ok(version) } else { Err("no version".to_owned()) }
    }

    /// Starts a client with these variables and no others but PATH.
    ///
    /// # Errors
    /// The system's.
    pub fn start(&self, client: &Client, home: &Path, variables: &[(String, String)]) -> io::Result<Running> {
        let mut command = Command::new(program(client.folder, "run"));
        command.arg(self.folder.join(client.folder)).arg(client.name);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        for name in ["HOME", "TMPDIR"] {
            command.env(name, home);
        }
        command.envs(variables.iter().cloned()).current_dir(home);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(std::fs::File::create(home.join("stderr"))?);
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (said, lines) = channel();
        if let Some(output) = output {
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if said.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Running { child, input, lines })
    }
}

fn program(folder: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(folder).join(name)
}

/// What a client has said to one question.
#[derive(Debug)]
pub struct Reply {
    /// The ARN that it has got, nothing if it has nothing but S3; or what its user reads.
    pub outcome: Result<Option<String>, String>,
    /// How long it took.
    pub took: Duration,
}

impl Reply {
    /// How long it took, for the table.
    #[must_use]
    pub fn seconds(&self) -> String {
        format!("{:.1} s", self.took.as_secs_f64())
    }
}

#[derive(Deserialize)]
struct Line {
    ok: bool,
    arn: Option<String>,
    error: Option<String>,
}

/// A client that runs. Ended when dropped.
pub struct Running {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Running {
    /// Has it make one call.
    pub fn ask(&mut self) -> Reply {
        let start = Instant::now();
        let outcome = self.line().and_then(|line| match serde_json::from_str(&line) {
            Ok(Line { ok: true, arn, .. }) => Ok(arn),
            Ok(Line { error, .. }) => Err(error.unwrap_or_default()),
            Err(_) => Err(format!("says no JSON: {line}")),
        });
        Reply { outcome, took: start.elapsed() }
    }

    fn line(&mut self) -> Result<String, String> {
        let input = self.input.as_mut().ok_or("has no input")?;
        input.write_all(b"\n").and_then(|()| input.flush()).map_err(|error| format!("takes no input: {error}"))?;
        self.lines.recv_timeout(PATIENCE).map_err(|error| match error {
            RecvTimeoutError::Timeout => format!("hangs: no answer within {} s", PATIENCE.as_secs()),
            RecvTimeoutError::Disconnected => "has ended".to_owned(),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.input.take());
        // The end of its input tells it to end; s3fs has something to unmount.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(2) && !matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        // With what it has started: `run` may be a shell.
        #[cfg(unix)]
        if let Ok(group) = i32::try_from(self.child.id())
            && let Some(group) = rustix::process::Pid::from_raw(group)
        {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
