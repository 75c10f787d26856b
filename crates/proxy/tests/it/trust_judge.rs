//! The same trust policies and the same calls to ministack, which nobody here wrote, and to the embedded STS: the verdicts must agree.
//!
//! Only what ministack gets right is asked: IAM principals, conditions on keys of the call, sts:TagSession.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use taskcreds_sts_emulator::{Role, Roles};

use crate::python::{self, Venv};
use crate::rig::{clean, until};
use crate::skip;
use crate::sts::Sts;
use crate::tasks::ACCOUNT;

/// The key of ministack's root user, which opens nothing else.
const ROOT: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")];

/// ministack on loopback; ended by its process id.
struct Ministack {
    child: Child,
    endpoint: String,
    _home: tempfile::TempDir,
}

impl Ministack {
    fn start(venv: &Venv) -> Self {
        let home = tempfile::tempdir().unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = clean(Command::new(venv.program("ministack")), home.path());
        command.envs([("AUTH", "true"), ("BIND_HOST", "127.0.0.1"), ("MINISTACK_ACCOUNT_ID", ACCOUNT)]);
        command.env("GATEWAY_PORT", free.port().to_string()).envs(ROOT).current_dir(home.path());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let ministack = Self { child, endpoint: format!("http://{free}"), _home: home };
        until("ministack listens", || std::net::TcpStream::connect(free).is_ok());
        ministack
    }
}

impl Drop for Ministack {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files").join(name)
}

fn judge(venv: &Venv, what: &str, endpoint: &str, key: &[(&str, &str)]) -> BTreeMap<String, String> {
    let home = tempfile::tempdir().unwrap();
    let mut command = clean(Command::new(venv.program("python")), home.path());
    command.arg(file("trust_judge.py")).args([what, endpoint]).arg(file("trust_cases.json"));
    let output = command.envs(key.iter().copied()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{what}: {error}: {said}"))
}

#[test]
fn ministack_and_the_embedded_sts_come_to_the_same_verdicts() {
    let Some(venv) = skip::unless("ministack", python::ministack()) else { return };
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(file("trust_cases.json")).unwrap()).unwrap();
    let text = |case: &Value, field: &str| case.get(field).unwrap().as_str().unwrap().to_owned();
    let expected: BTreeMap<_, _> = cases.iter().map(|case| (text(case, "name"), text(case, "expect"))).collect();
    assert!(expected.len() >= 20);

    let roles = cases.iter().map(|case| Role {
        arn: format!("arn:aws:iam::{ACCOUNT}:role/{}", text(case, "name")),
        trust_policy: Some(case.get("policy").unwrap().to_string().parse().unwrap()),
        ..Role::default()
    });
    // Its caller is the user `proxy` too.
    let ours = Sts::with(Roles::Listed(roles.collect()));
    let (id, secret) = (ours.key.access_key_id.as_str(), ours.key.secret_access_key.as_str());
    let key = [("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", secret)];
    assert_eq!(judge(&venv, "ask", &ours.endpoint, &key), expected);

    let ministack = Ministack::start(&venv);
    let made = judge(&venv, "make", &ministack.endpoint, &ROOT);
    let key: Vec<_> = made.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(judge(&venv, "ask", &ministack.endpoint, &key), expected);
}
