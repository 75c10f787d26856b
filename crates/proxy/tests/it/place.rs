//! A folder with an admin socket and a store: a proxy on it, the client of it, and what both say.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use aws_credential_types::Credentials;
use serde_json::Value;

use crate::http::{Answer, get};
use crate::rig::{self, Ended, Process, Start, runtime};
use crate::secrets::{self, Kind};
use crate::sts::Sts;
use crate::tasks::Task;

/// Where a proxy has its admin socket and its store.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// `taskcreds serve` here, without a configuration file.
    pub(crate) fn start(&self) -> Start {
        self.start_with(rig::taskcreds("serve").args("--listen 127.0.0.1:0"))
    }

    /// `taskcreds serve` here.
    pub(crate) fn start_with(&self, serve: Start) -> Start {
        let serve = serve.arg("--admin-socket").arg(self.socket()).arg("--state-dir").arg(self.state());
        serve.args("--operations-listen 127.0.0.1:0")
    }

    /// A proxy here whose socket is there.
    pub(crate) fn serve(&self, sts: &Sts) -> Process {
        started(self.start().envs(sts.environment()))
    }

    /// What `taskcreds task` does.
    pub(crate) fn run(&self, arguments: &str) -> Ended {
        rig::task().args(arguments).arg("--socket").arg(self.socket()).run()
    }

    /// What it prints as JSON when it succeeds.
    pub(crate) fn task(&self, arguments: &str) -> Value {
        let ended = self.run(&format!("{arguments} --json"));
        assert_eq!(ended.code(), 0, "{arguments}: {}", ended.stderr);
        learn(serde_json::from_str(&ended.stdout).unwrap())
    }

    pub(crate) fn add(&self, task: &Task, more: &str) -> Value {
        let more = if more.is_empty() { String::new() } else { format!(" {more}") };
        self.task(&format!("add --task-arn {} --role-arn {}{more}", task.arn(), task.role_arn()))
    }

    /// `taskcreds task add --request FILE`; clap takes the flags beside it only before `add`.
    pub(crate) fn request(&self, text: &str) -> Ended {
        let file = self.folder.path().join("request.json");
        std::fs::write(&file, text).unwrap();
        rig::task().args("--json --socket").arg(self.socket()).args("add --request").arg(file).run()
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        let body = body.to_string();
        self.raw(&format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.raw(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
    }

    /// The answer to these bytes.
    pub(crate) fn raw(&self, bytes: &str) -> Answer {
        self.try_raw(bytes).unwrap()
    }

    /// The same where the proxy may be gone.
    pub(crate) fn try_raw(&self, bytes: &str) -> std::io::Result<Answer> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(bytes.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
        let line = head.lines().next().unwrap_or_default().to_owned();
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let length = format!("content-length: {}", body.len());
        if !head.lines().any(|line| line == length) {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let answer = Answer { line, status, headers: Vec::new(), body: body.to_owned() };
        learn(answer.json());
        Ok(answer)
    }

    /// The tasks that it tells.
    pub(crate) fn list(&self) -> Vec<Value> {
        self.get("/v1/tasks").json()["tasks"].as_array().unwrap().clone()
    }
}

/// A proxy whose admin socket is there.
pub(crate) fn started(start: Start) -> Process {
    let proxy = start.spawn();
    proxy.says("admin socket at ");
    proxy
}

/// From now on the ids and tokens of this answer must not be found in any log.
pub(crate) fn learn(view: Value) -> Value {
    for (kind, secret) in [
        (Kind::CredentialsId, &view["credentialsId"]),
        (Kind::CredentialsId, &view["execution"]["credentialsId"]),
        (Kind::Token, &view["token"]),
        (Kind::Token, &view["execution"]["token"]),
    ] {
        if let Some(secret) = secret.as_str() {
            secrets::remember(kind, secret);
        }
    }
    view
}

/// What `/readyz` says.
pub(crate) fn readiness(proxy: &Process) -> Value {
    let said = proxy.says("operations at http://");
    let (_, address) = said.split_once("operations at http://").unwrap();
    get(address.lines().next().unwrap().parse().unwrap(), "/readyz").json()
}

/// What is read at the `relativeUri` of a role.
pub(crate) fn read(proxy: &Process, role: &Value) -> Answer {
    get(proxy.address(), role["relativeUri"].as_str().unwrap())
}

/// The exit status and the code of a refusal.
pub(crate) fn refusal(ended: &Ended) -> (i32, String) {
    let code = ended.stderr.trim_end().rsplit_once('(').unwrap_or_default().1.trim_end_matches(')');
    (ended.code(), code.to_owned())
}

/// Who STS says that the holder of this answer is.
pub(crate) fn identity(sts: &Sts, answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.body);
    let body = answer.json();
    let text = |key: &str| body[key].as_str().unwrap().to_owned();
    let credentials = Credentials::from_keys(text("AccessKeyId"), text("SecretAccessKey"), Some(text("Token")));
    let config = aws_sdk_sts::Config::builder()
        .behavior_version(aws_config::BehaviorVersion::latest())
        .endpoint_url(&sts.endpoint)
        .region(aws_config::Region::new("us-west-2"))
        .credentials_provider(credentials)
        .build();
    let asked = runtime().block_on(aws_sdk_sts::Client::from_conf(config).get_caller_identity().send());
    asked.unwrap().arn().unwrap().to_owned()
}

/// The outcome and how long it took.
pub(crate) fn timed<T>(what: impl FnOnce() -> T) -> (T, Duration) {
    let start = std::time::Instant::now();
    (what(), start.elapsed())
}
