//! The adapter in a process of its own, because the SDK's default chain reads the environment of its process.

use std::fmt::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use taskcreds::aws::{Base, Sts};
use taskcreds_core::test_util::new_spec;
use taskcreds_core::{AssumeRole, Region, SessionDuration};
use tempfile::TempDir;
use tokio::process::Command;

/// The file, in the child's home, that takes one line for each call.
const OUTCOMES: &str = "outcomes";
const CALLS: &str = "STS_ADAPTER_CALLS";
const SECONDS: &str = "STS_ADAPTER_SECONDS";
const REGION: &str = "STS_ADAPTER_REGION";
const ENDPOINT: &str = "STS_ADAPTER_ENDPOINT";

/// A process with an empty home and an environment that holds only what it is given.
pub(crate) struct Child {
    pub(crate) home: TempDir,
    environment: Vec<(String, String)>,
}

impl Child {
    /// A process whose STS is at this endpoint, whose instance metadata service is off and which has no credentials.
    pub(crate) fn new(endpoint: &str) -> Self {
        Self { home: tempfile::tempdir().unwrap(), environment: Vec::new() }
            .with("AWS_ENDPOINT_URL_STS", endpoint)
            .with("AWS_EC2_METADATA_DISABLED", "true")
            .with("AWS_REGION", "us-east-1")
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.environment.retain(|(other, _)| other != name);
        self
    }

    /// Keys that some STS gave out.
    pub(crate) fn with_keys(self, access_key_id: &str, secret_access_key: &str) -> Self {
        self.with("AWS_ACCESS_KEY_ID", access_key_id).with("AWS_SECRET_ACCESS_KEY", secret_access_key)
    }

    /// How many calls are made, one after the other, instead of one.
    pub(crate) fn calls(self, calls: usize) -> Self {
        self.with(CALLS, calls.to_string())
    }

    /// The duration asked for instead of an hour.
    pub(crate) fn seconds(self, seconds: u32) -> Self {
        self.with(SECONDS, seconds.to_string())
    }

    /// The region of the task.
    pub(crate) fn region(self, region: &str) -> Self {
        self.with(REGION, region)
    }

    /// Asks the STS at this endpoint with a key that is given, not the default chain.
    pub(crate) fn embedded(self, endpoint: &str) -> Self {
        self.with(ENDPOINT, endpoint)
    }

    /// Writes a file under the home.
    pub(crate) fn file(self, path: &str, content: &str) -> Self {
        let path = self.path(path);
        std::fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    pub(crate) fn path(&self, path: &str) -> String {
        self.home.path().join(path).to_str().unwrap().to_owned()
    }

    /// What came of each call: `ok` and the access key id, or the kind of the failure and its words.
    pub(crate) async fn run(&self) -> Vec<String> {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "child::the_process_that_other_tests_start_asks_as_its_environment_says", "--ignored"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.home.path())
            .env(CALLS, "1")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = tokio::time::timeout(Duration::from_secs(30), command.output()).await.unwrap().unwrap();
        assert!(output.status.success(), "{output:?}");
        let outcomes = std::fs::read_to_string(self.path(OUTCOMES)).unwrap();
        outcomes.lines().map(str::to_owned).collect()
    }
}

#[tokio::test]
#[ignore = "the other tests start it, each in an environment of its own"]
async fn the_process_that_other_tests_start_asks_as_its_environment_says() {
    let set = |name: &str| std::env::var(name).ok();
    let Some(calls) = set(CALLS) else { return };
    let base = match set(ENDPOINT) {
        None => Base::Chain,
        Some(endpoint) => Base::Emulator {
            endpoint,
            access_key_id: crate::canned::BASE_KEY.to_owned(),
            secret_access_key: "secret".into(),
            embedded: None,
        },
    };
    let mut spec = new_spec("web");
    spec.region = set(REGION).map(|region| Region::new(region).unwrap());
    if let Some(seconds) = set(SECONDS) {
        spec.duration = SessionDuration::new(seconds.parse().unwrap()).unwrap();
    }
    let sts = Sts::new(base);
    let mut outcomes = String::new();
    for _ in 0..calls.parse().unwrap() {
        match sts.assume_role(&spec).await {
            Ok(session) => writeln!(outcomes, "ok {}", session.access_key_id()).unwrap(),
            Err(error) => writeln!(outcomes, "{:?} {error} | told: {}", error.kind, error.told()).unwrap(),
        }
    }
    std::fs::write(Path::new(&set("HOME").unwrap()).join(OUTCOMES), outcomes).unwrap();
}
