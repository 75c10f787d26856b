//! boto3 and the AWS CLI get a task's role from the binary, by both URIs, with two STSs that stand behind it.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that panics has failed"
)]

use std::collections::HashMap;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::gate::Gate;
use crate::http::get;
use crate::netns::Netns;
use crate::python::{self, Venv};
use crate::rig::{self, Process, clean};
use crate::secrets::{self, Kind};
use crate::skip;
use crate::sts::Sts;
use crate::tasks::{Config, Task};

/// The environment of a client.
pub(crate) type Variables = HashMap<String, String>;

const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const RELATIVE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";

/// The programs that ask.
pub(crate) const CLIENTS: [&str; 2] = ["boto3", "aws"];

/// Who the client says it is, with these variables and no others; or that it could not say.
pub(crate) fn identity(
    client: &str,
    venv: &Venv,
    variables: &Variables,
    netns: Option<&Netns>,
) -> Result<String, String> {
    let home = tempfile::tempdir().unwrap();
    let (program, arguments) = match client {
        "boto3" => ("python", vec![concat!(env!("CARGO_MANIFEST_DIR"), "/tests/files/identity.py")]),
        _ => ("aws", vec!["sts", "get-caller-identity", "--output", "json"]),
    };
    let program = venv.program(program);
    let command = netns.map_or_else(|| Command::new(&program), |netns| netns.command(&program));
    let mut command = clean(command, home.path());
    let output = command.args(arguments).envs(variables).output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a client says JSON");
    secrets::remember_session(&said);
    if client == "boto3" {
        assert_eq!(said["Method"], "container-role");
    }
    Ok(said["Arn"].as_str().unwrap().to_owned())
}

/// The variables of the sh lines that `dev` prints.
pub(crate) fn exported(said: &str) -> Variables {
    let lines = said.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
    lines.map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned())).collect()
}

fn without(variables: &Variables, name: &str) -> Variables {
    let mut fewer = variables.clone();
    assert!(fewer.remove(name).is_some(), "{name} is there");
    fewer
}

/// Starts `dev` for the task and returns it with the variables for the task's program.
fn dev(task: &Task, listen: &str, netns: Option<&Netns>) -> (Process, Variables) {
    let config = Config::new(std::slice::from_ref(task));
    let start = rig::dev_with(config).args(&format!("--listen {listen}"));
    let process = match netns {
        Some(netns) => start.inside(netns).spawn(),
        None => start.spawn(),
    };
    let variables = exported(&process.says("Try, after pasting"));
    secrets::remember(Kind::Token, &variables[TOKEN]);
    (process, variables)
}

#[test]
fn by_the_full_uri_with_a_token_boto3_and_the_aws_cli_are_the_task() {
    let Some(venv) = skip::unless("full URI", python::venv()) else { return };
    let task = Task::with_token("web");
    let (_dev, variables) = dev(&task, "127.0.0.1:0", None);
    assert!(variables[FULL].starts_with("http://127.0.0.1:") && !variables.contains_key(RELATIVE));
    for client in CLIENTS {
        for only in [without(&variables, TOKEN_FILE), without(&variables, TOKEN)] {
            assert_eq!(identity(client, &venv, &only, None).as_ref(), Ok(&task.identity()), "{client}");
        }
    }
}

#[test]
fn by_the_relative_uri_boto3_and_the_aws_cli_are_the_task_with_a_token_and_without() {
    let Some(venv) = skip::unless("relative URI", python::venv()) else { return };
    let Some(netns) = skip::unless("relative URI", Netns::new()) else { return };
    let task = Task::new("web");
    let (_dev, variables) = dev(&task, "169.254.170.2:80", Some(&netns));
    assert_eq!(variables[RELATIVE], task.path());
    assert!(!variables.contains_key(FULL));
    let bare = without(&without(&variables, TOKEN), TOKEN_FILE);
    for client in CLIENTS {
        for variables in [&variables, &bare] {
            assert_eq!(identity(client, &venv, variables, Some(&netns)).as_ref(), Ok(&task.identity()), "{client}");
        }
    }
}

#[test]
fn with_a_wrong_token_no_client_is_anybody() {
    let Some(venv) = skip::unless("wrong token", python::venv()) else { return };
    let (_dev, variables) = dev(&Task::with_token("web"), "127.0.0.1:0", None);
    let mut wrong = without(&variables, TOKEN_FILE);
    wrong.insert(TOKEN.to_owned(), "somebody-elses-token".to_owned());
    std::thread::scope(|scope| {
        for client in CLIENTS {
            let (venv, wrong) = (&venv, &wrong);
            scope.spawn(move || {
                let told = identity(client, venv, wrong, None).expect_err("a wrong token opens nothing");
                assert!(told.contains("the token is not this task's"), "{client} says why: {told}");
            });
        }
    });
}

/// moto's STS on loopback; ended by its process id.
pub(crate) struct Moto {
    child: std::process::Child,
    pub(crate) endpoint: String,
    _home: tempfile::TempDir,
}

impl Moto {
    pub(crate) fn start(venv: &Venv) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut command = clean(Command::new(venv.program("moto_server")), home.path());
        command.args(["-H", "127.0.0.1", "-p", "0"]).env("PYTHONUNBUFFERED", "1");
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = child.stderr.take().unwrap();
        let (line, endpoint) = std::sync::mpsc::channel();
        // Reads on to the end, or moto would block on a full pipe.
        std::thread::spawn(move || {
            let (mut text, mut buffer) = (String::new(), [0; 4096]);
            while let Ok(read @ 1..) = log.read(&mut buffer) {
                text += &String::from_utf8_lossy(&buffer[..read]);
                if let Some((_, rest)) = text.split_once("Running on ")
                    && let Some((endpoint, _)) = rest.split_once(['\n', '\x1b'])
                {
                    let _ = line.send(endpoint.trim().to_owned());
                }
            }
        });
        let moto = |endpoint| Self { child, endpoint, _home: home };
        match endpoint.recv_timeout(Duration::from_secs(60)) {
            Ok(endpoint) => moto(endpoint),
            Err(_) => {
                drop(moto(String::new()));
                panic!("moto_server does not start")
            }
        }
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn with_moto_as_the_sts_boto3_and_the_aws_cli_are_the_task() {
    let Some(venv) = skip::unless("moto", python::venv()) else { return };
    let moto = Moto::start(&venv);
    let secret = uuid::Uuid::new_v4().to_string();
    secrets::remember(Kind::BaseSecret, &secret);
    let task = Task::with_token("web").and("tags = { team = \"blue\" }");
    let serve = rig::serve(Config::new(std::slice::from_ref(&task)))
        .env("AWS_ENDPOINT_URL_STS", &moto.endpoint)
        .env("AWS_ACCESS_KEY_ID", "AKIATESTTESTTESTTEST")
        .env("AWS_SECRET_ACCESS_KEY", &secret)
        .env("AWS_REGION", "us-west-2")
        .spawn();
    let variables: Variables = [
        (FULL, format!("http://{}{}", serve.address(), task.path())),
        (TOKEN, task.token.clone().unwrap()),
        ("AWS_ENDPOINT_URL_STS", moto.endpoint.clone()),
        ("AWS_DEFAULT_REGION", "us-west-2".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    for client in CLIENTS {
        assert_eq!(identity(client, &venv, &variables, None).as_ref(), Ok(&task.identity()), "{client}");
    }
}

#[test]
fn a_client_that_asks_before_sts_answers_gets_its_role_by_its_own_retries() {
    let Some(venv) = skip::unless("retries", python::venv()) else { return };
    let (sts, task) = (Sts::new(), Task::new("web"));
    let before_sts = Gate::before(&sts.endpoint);
    let config = Config::new(std::slice::from_ref(&task));
    let serve = rig::serve(config).envs(sts.environment_at(&before_sts.endpoint)).spawn();
    let address = serve.address();
    // Only to see when the client comes.
    let before_proxy = Gate::before(&format!("http://{address}"));
    before_proxy.open();
    let variables: Variables = [
        (FULL, format!("{}{}", before_proxy.endpoint, task.path())),
        ("AWS_ENDPOINT_URL_STS", sts.endpoint.clone()),
        ("AWS_DEFAULT_REGION", "us-west-2".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| identity("boto3", &venv, &variables, None));
        before_proxy.wait_for_connections(1);
        // The client asked before and has its 503 by now too.
        assert_eq!(get(address, &task.path()).status, 503);
        before_sts.open();
        assert_eq!(asking.join().unwrap().as_ref(), Ok(&task.identity()));
    });
}
