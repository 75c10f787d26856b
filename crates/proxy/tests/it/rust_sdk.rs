//! The Rust SDK's own container provider gets a task's role from the binary, by both URIs.
//!
//! The provider reads the environment of its process, so it runs in a child: this test binary again, with one ignored test.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

use std::process::Command;

use aws_config::BehaviorVersion;
use aws_config::ecs::EcsCredentialsProvider;

use crate::netns::Netns;
use crate::rig::{self, clean, runtime};
use crate::secrets::{self, Kind};
use crate::skip;
use crate::tasks::{Config, Task};

const CHILD: &str = "TASKCREDS_TEST_CHILD";

#[test]
#[ignore = "the child of the tests below; does nothing without their environment"]
fn child_that_says_who_it_is() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let identity = runtime().block_on(async {
        let container = EcsCredentialsProvider::builder().build();
        let config = aws_config::defaults(BehaviorVersion::latest()).credentials_provider(container).load().await;
        aws_sdk_sts::Client::new(&config).get_caller_identity().send().await.expect("an identity")
    });
    println!("identity: {}", identity.arn().unwrap());
}

/// Who the child says it is.
pub(crate) fn identity(variables: &[(&str, String)], netns: Option<&Netns>) -> String {
    let home = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    let command = netns.map_or_else(|| Command::new(&program), |netns| netns.command(&program));
    let mut command = clean(command, home.path());
    command.args(["rust_sdk::child_that_says_who_it_is", "--exact", "--ignored", "--nocapture"]);
    let output = command.env(CHILD, "1").envs(variables.iter().cloned()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // libtest writes `test NAME ... ` before it, without a line end.
    let arn = said.split_once("identity: ").and_then(|(_, rest)| rest.lines().next()).map(str::to_owned);
    arn.unwrap_or_else(|| format!("nobody: {said}{}", String::from_utf8_lossy(&output.stderr)))
}

/// The values of the sh lines that `dev` prints, for these names.
fn exported(said: &str, names: &[&'static str]) -> Vec<(&'static str, String)> {
    let value = |name: &str| {
        let mut lines = said.lines().filter_map(|line| line.strip_prefix(&format!("export {name}=")));
        lines.next().expect("dev prints it").to_owned()
    };
    names.iter().map(|name| (*name, value(name))).collect()
}

#[test]
fn by_the_full_uri_with_a_token_the_rust_sdk_is_the_task() {
    let task = Task::with_token("web");
    let config = Config::new(std::slice::from_ref(&task));
    let dev = rig::dev_with(config).args("--listen 127.0.0.1:0").spawn();
    let said = dev.says("Try, after pasting");
    for token in ["AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] {
        let names = ["AWS_CONTAINER_CREDENTIALS_FULL_URI", token, "AWS_ENDPOINT_URL_STS", "AWS_REGION"];
        assert_eq!(identity(&exported(&said, &names), None), task.identity());
    }
    dev.end();
}

#[test]
fn by_the_relative_uri_the_rust_sdk_is_the_task() {
    let Some(netns) = skip::unless("relative URI, Rust", Netns::new()) else { return };
    let task = Task::new("web");
    let config = Config::new(std::slice::from_ref(&task));
    let dev = rig::dev_with(config).args("--listen 169.254.170.2:80").inside(&netns).spawn();
    let said = dev.says("Try, after pasting");
    let token = exported(&said, &["AWS_CONTAINER_AUTHORIZATION_TOKEN"]);
    secrets::remember(Kind::Token, &token.first().unwrap().1);
    let names = ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_ENDPOINT_URL_STS", "AWS_REGION"];
    assert_eq!(identity(&exported(&said, &names), Some(&netns)), task.identity());
    dev.end();
}
