//! `--task-definition`: `exec` and `dev` run what ECS would run, with its role, its family and its containers' environment.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::http::get_with_token;
use crate::netns::Netns;
use crate::rig::{self, Ended, Start};
use crate::sdk::{CLIENTS, exported, identity};
use crate::secrets::{self, Kind};
use crate::sts::Sts;
use crate::{python, skip};

const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const RELATIVE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";

const WEB: &str = r#"{
  "family": "web",
  "taskRoleArn": "arn:aws:iam::111122223333:role/apps/web",
  "executionRoleArn": "ecsTaskExecutionRole",
  "networkMode": "awsvpc",
  "containerDefinitions": [
    {"name": "app", "image": "web", "essential": true,
     "environment": [{"name": "STAGE", "value": "prod"}, {"name": "GREETING", "value": "it's $HOME"}],
     "secrets": [{"name": "DB_PASSWORD", "valueFrom": "db"}, {"name": "API_KEY", "valueFrom": "key"}],
     "environmentFiles": [{"value": "arn:aws:s3:::a-bucket/app.env", "type": "s3"}]},
    {"name": "log_router", "image": "fluent-bit", "environment": [{"name": "AWS_REGION", "value": "eu-west-1"}]}
  ]
}"#;

/// As described, of another account and region, and without a role.
const ROLELESS: &str = r#"{"taskDefinition": {
  "taskDefinitionArn": "arn:aws:ecs:eu-central-1:444455556666:task-definition/sleep:19", "revision": 19, "family": "sleep",
  "containerDefinitions": [{"name": "sleep", "environment": [{"name": "STAGE", "value": "prod"}]}]
}}"#;

struct Definition {
    folder: TempDir,
}

impl Definition {
    fn new(text: &str) -> Self {
        let definition = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::write(definition.file(), text).unwrap();
        definition
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("task-definition.json")
    }

    fn given_to(&self, start: Start) -> Start {
        start.arg("--task-definition").arg(self.file())
    }

    fn exec(&self) -> Start {
        self.given_to(rig::exec())
    }
}

/// What `env` has printed.
fn variables(ended: &Ended) -> HashMap<String, String> {
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let variables: HashMap<_, _> = ended.stdout.lines().filter_map(|line| line.split_once('=')).collect();
    let variables: HashMap<_, _> = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    remember(&variables);
    variables
}

fn remember(variables: &HashMap<String, String>) {
    for (name, kind) in [(FULL, Kind::CredentialsId), (RELATIVE, Kind::CredentialsId), (TOKEN, Kind::Token)] {
        if let Some(value) = variables.get(name) {
            secrets::remember(kind, value.rsplit('/').next().unwrap());
        }
    }
}

#[test]
fn exec_runs_as_the_task_role_with_the_containers_environment_and_the_family_in_the_session_tags() {
    let (sts, web) = (Sts::new(), Definition::new(WEB));
    let overrides = r#"{"containerOverrides": [{"name": "app", "environment": [{"name": "STAGE", "value": "test"}, {"name": "NEW", "value": "1"}]}]}"#;
    // The execution role is given by name, and of which account it is nobody needs to know.
    let start = web.exec().args("--container app --overrides").arg(overrides);
    let start = start.envs(sts.environment()).env("DB_PASSWORD", "of-my-own").env("STAGE", "my-shell's");
    let ended = start.args("-- env").run();
    let given = variables(&ended);
    assert_eq!(
        (given["STAGE"].as_str(), given["NEW"].as_str(), given["GREETING"].as_str()),
        ("test", "1", "it's $HOME")
    );
    assert!(given[FULL].starts_with("http://127.0.0.1:") && !given.contains_key(RELATIVE));
    assert!(!given.contains_key("AWS_ACCESS_KEY_ID"), "its user's own credentials are not the container's");
    for told in [
        "container app: its secrets are in AWS and not read here: DB_PASSWORD (yours is passed on), API_KEY (not set)",
        "container app: its environment files are in AWS and not read here: arn:aws:s3:::a-bucket/app.env",
    ] {
        assert!(ended.stderr.contains(told), "{told} is not in {}", ended.stderr);
    }
    let calls = sts.assume_role_calls();
    assert_eq!(calls.len(), 1, "the execution role is the agent's, and there is none");
    assert_eq!(calls[0].role_arn.as_deref(), Some("arn:aws:iam::111122223333:role/apps/web"));
    let tag = |key: &str| calls[0].tags.iter().find(|tag| tag.key == key).map(|tag| tag.value.clone()).unwrap();
    assert_eq!(tag("ecs-task-family"), "web");
    let arn = tag("ecs-task-arn");
    assert!(arn.starts_with("arn:aws:ecs:us-west-2:111122223333:task/dev/"), "{arn}");
    assert_eq!(arn.rsplit('/').next(), calls[0].role_session_name.as_deref());
}

#[test]
fn the_command_can_use_the_role() {
    let web = Definition::new(WEB);
    let start = web.exec().args("--emulate --container log_router -- sh -c").arg("env; echo end of it; read line");
    let mut process = start.spawn();
    let given: HashMap<_, _> = process
        .says("end of it")
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect();
    remember(&given);
    assert_eq!(given["AWS_REGION"], "eu-west-1", "the container's own");
    let (address, path) = given[FULL].strip_prefix("http://").unwrap().split_once('/').unwrap();
    let answer = get_with_token(address.parse().unwrap(), &format!("/{path}"), &given[TOKEN]);
    assert_eq!(answer.json()["RoleArn"], "arn:aws:iam::111122223333:role/apps/web");
    process.tell("go on");
    assert_eq!(process.wait().code(), 0);
}

#[test]
fn without_a_task_role_there_is_no_uri_and_nobody_elses_credentials() {
    let (sts, sleep) = (Sts::new(), Definition::new(ROLELESS));
    let ended =
        sleep.exec().envs(sts.environment()).env(RELATIVE, "/v2/credentials/of-another-task").args("-- env").run();
    let given = variables(&ended);
    assert_eq!(given["STAGE"], "prod");
    for name in [FULL, RELATIVE, TOKEN, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        assert!(!given.contains_key(name), "{name}");
    }
    assert!(ended.stderr.contains("sleep:19 has no taskRoleArn: the command gets no credentials"), "{}", ended.stderr);
    assert!(sts.assume_role_calls().is_empty());
    // An override gives it one, by its name in the account of the definition.
    let overrides = r#"{"taskRoleArn": "sleeper"}"#;
    sleep.exec().arg("--overrides").arg(overrides).envs(sts.environment()).args("-- true").run();
    let calls = sts.assume_role_calls();
    assert_eq!(calls[0].role_arn.as_deref(), Some("arn:aws:iam::444455556666:role/sleeper"));
    let of_the_definition = |value: &str| value.starts_with("arn:aws:ecs:eu-central-1:444455556666:task/dev/");
    assert!(calls[0].tags.iter().any(|tag| tag.key == "ecs-task-arn" && of_the_definition(&tag.value)));
}

#[test]
fn all_faults_are_told_at_once_and_the_command_does_not_run() {
    let broken = WEB.replace("\"web\",\n", "\"we b\",\n").replace("\"name\": \"log_router\"", "\"name\": 7");
    let broken = Definition::new(&broken.replace("arn:aws:iam::111122223333:role/apps/web", "apps/web"));
    let overrides = Definition::new(r#"{"containerOverrides": [{"name": "other"}]}"#);
    let start = broken.exec().arg("--overrides").arg(overrides.file());
    let ended = start.args("-- echo ran").run();
    assert_eq!((ended.code(), ended.stdout.as_str()), (64, ""));
    for fault in [
        "family: must be 1 to 255",
        "containerDefinitions[1].name: must be a string",
        "taskRoleArn: is the name of a role, and nothing tells of which account: give --account",
        "containerOverrides[0].name: is no container of the definition, which has app",
    ] {
        assert!(ended.stderr.contains(&format!("task-definition.json: {fault}")), "{fault} is not in {}", ended.stderr);
    }
    let web = Definition::new(WEB);
    for (more, told) in [
        ("--emulate -- true", "which container of web? Give --container, one of app, log_router"),
        ("--emulate --container db -- true", "web has no container db, but app, log_router"),
        ("--emulate --container app --role arn:aws:iam::111122223333:role/web -- true", "--role and --task-definition"),
        ("--account 1 -- true", "12 digits"),
    ] {
        let ended = web.exec().args(more).run();
        assert_eq!(ended.code(), 64, "{more}");
        assert!(ended.stderr.contains(told), "{more}: {}", ended.stderr);
    }
    assert_eq!(rig::exec().args("--emulate --overrides {} -- true").run().code(), 64);
    // Whoever can write it could name any role.
    std::fs::set_permissions(web.file(), PermissionsExt::from_mode(0o666)).unwrap();
    let ended = web.exec().args("--emulate --container app -- true").run();
    assert!(ended.code() == 64 && ended.stderr.contains("chmod o-w"), "{}", ended.stderr);
}

#[test]
fn dev_prints_the_lines_of_each_container_and_sh_takes_them() {
    let web = Definition::new(WEB);
    let dev = web.given_to(rig::dev()).args("--listen 127.0.0.1:0").spawn();
    let said = dev.says("Try, after pasting");
    let blocks: Vec<_> = said.split("\n# web, ").skip(1).collect();
    let headings: Vec<_> = blocks.iter().map(|block| block.split(':').next().unwrap()).collect();
    assert_eq!(headings, ["container app", "container log_router", "for its agent and not for its containers"]);
    let given: Vec<_> = blocks.iter().map(|block| exported(block)).collect();
    given.iter().for_each(remember);
    assert_eq!(given[0][FULL], given[1][FULL], "the containers of a task share its credentials");
    assert_ne!(given[0][FULL], given[2][FULL]);
    assert_eq!((given[0]["STAGE"].as_str(), given[1].contains_key("STAGE")), ("prod", false));
    assert!(dev.logs("API_KEY").contains("its secrets are in AWS and not read here: DB_PASSWORD, API_KEY"));
    let exports: Vec<_> = blocks[0].lines().filter(|line| line.starts_with("export ")).collect();
    let script = format!("{}; printf %s \"$GREETING\"", exports.join("\n"));
    let output = std::process::Command::new("sh").args(["-euc", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "it's $HOME");

    let ended = Definition::new(ROLELESS).given_to(rig::dev()).run();
    assert_eq!(ended.code(), 64);
    assert!(ended.stderr.contains("sleep:19 has no taskRoleArn and no executionRoleArn"), "{}", ended.stderr);
}

#[test]
fn without_a_task_role_dev_says_which_containers_get_nothing() {
    let web = Definition::new(&WEB.replace("\"taskRoleArn\"", "\"noTaskRoleArn\""));
    let dev = web.given_to(rig::dev()).args("--local-endpoints --listen 127.0.0.1:0").spawn();
    let said = dev.says("Try, after pasting");
    remember(&exported(&said));
    assert!(
        said.contains("web has no taskRoleArn: its containers get no credentials, as in ECS: app, log_router"),
        "{said}"
    );
    assert_eq!(said.matches("# sh:").count(), 1, "for the execution role: {said}");
    assert!(!said.contains("/role/"), "which no path names: {said}");
}

#[test]
fn by_the_relative_uri_of_their_container_boto3_and_the_aws_cli_are_the_task_role() {
    let Some(venv) = skip::unless("containers", python::venv()) else { return };
    let Some(netns) = skip::unless("containers", Netns::new()) else { return };
    let web = Definition::new(WEB);
    let dev = web.given_to(rig::dev()).args("--local-endpoints --listen 169.254.170.2:80").inside(&netns).spawn();
    let said = dev.says("Try, after pasting");
    for (container, client) in ["app", "log_router"].into_iter().zip(CLIENTS) {
        let block =
            said.split("\n# web, ").find(|block| block.starts_with(&format!("container {container}:"))).unwrap();
        let mut given = exported(block);
        remember(&given);
        assert!(given[RELATIVE].starts_with("/v2/credentials/") && !given.contains_key(FULL));
        let is = identity(client, &venv, &given, Some(&netns)).unwrap();
        assert!(is.starts_with("arn:aws:sts::111122223333:assumed-role/web/"), "{container} {client}: {is}");
        // The roles of the definition are listed, too.
        given.insert(RELATIVE.to_owned(), "/role-arn/arn:aws:iam::111122223333:role/apps/web".to_owned());
        given.retain(|name, _| !name.starts_with("AWS_CONTAINER_AUTHORIZATION"));
        assert_eq!(identity(client, &venv, &given, Some(&netns)).unwrap(), is);
    }
}
