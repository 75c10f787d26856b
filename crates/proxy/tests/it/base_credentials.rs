//! Where the proxy's own credentials come from: nowhere, itself, or a session that somebody else has assumed.

use std::net::TcpListener;

use crate::http::get;
use crate::rig::{self, taskcreds, until};
use crate::sts::Sts;
use crate::tasks::{Config, Task};

const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const RELATIVE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";

#[test]
fn without_credentials_of_its_own_it_starts_and_answers_503_with_the_remedy() {
    let (sts, task) = (Sts::new(), Task::new("web"));
    let config = Config::new(std::slice::from_ref(&task));
    let endpoint = ("AWS_ENDPOINT_URL_STS", sts.endpoint.clone());
    let serve = rig::serve(config).envs([endpoint, ("AWS_REGION", "us-west-2".to_owned())]).spawn();
    until("the cause in the answer", || {
        let answer = get(serve.address(), &task.path());
        assert_eq!((answer.status, answer.error().0.as_str()), (503, "CredentialsUninitialized"));
        answer.error().1.contains("give the proxy AWS credentials")
    });
    assert!(sts.assume_role_calls().is_empty());
    assert_eq!(serve.end().code(), 0);
}

#[test]
fn credentials_that_sts_does_not_know_are_503_and_the_message_names_them() {
    let (sts, task) = (Sts::new(), Task::new("web"));
    let config = Config::new(std::slice::from_ref(&task));
    let serve = rig::serve(config).envs(sts.environment()).env("AWS_ACCESS_KEY_ID", "AKIATESTTESTTESTTEST").spawn();
    until("the cause in the answer", || {
        let answer = get(serve.address(), &task.path());
        assert_eq!((answer.status, answer.error().0.as_str()), (503, "CredentialsUninitialized"));
        answer.error().1.contains("InvalidClientTokenId")
    });
}

#[test]
fn an_environment_that_points_at_itself_is_refused_at_the_start() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let task = Task::new("web");
    let config = Config::with(&format!("listen = [\"127.0.0.1:{port}\"]\n"), std::slice::from_ref(&task));
    for (name, uri) in [
        (FULL, format!("http://127.0.0.1:{port}/v2/credentials/another")),
        (FULL, format!("http://localhost:{port}/v2/credentials/another")),
        (FULL, format!("http://127.0.0.1:1{}", task.path())),
        (RELATIVE, task.path()),
        ("AWS_ENDPOINT_URL_STS", format!("http://127.0.0.1:{port}")),
        ("AWS_ENDPOINT_URL", format!("http://localhost:{port}/")),
    ] {
        let ended = taskcreds("serve").arg("--config").arg(config.file()).env(name, &uri).run();
        assert_eq!((ended.code(), ended.stdout.as_str()), (64, ""), "{name}");
        assert!(ended.stderr.contains(name) && ended.stderr.contains("itself"), "{}", ended.stderr);
    }
}

/// The variables of a session that is assumed here and now.
fn session_of(sts: &Sts) -> Vec<(&'static str, String)> {
    let session = sts.session("proxy");
    let mut environment = sts.environment();
    environment.retain(|(name, _)| !name.contains("KEY"));
    environment.extend([
        ("AWS_ACCESS_KEY_ID", session.access_key_id().to_owned()),
        ("AWS_SECRET_ACCESS_KEY", session.secret_access_key().to_owned()),
        ("AWS_SESSION_TOKEN", session.session_token().to_owned()),
    ]);
    environment
}

#[test]
fn a_duration_that_role_chaining_forbids_becomes_an_hour_and_the_role_is_remembered() {
    let sts = Sts::new();
    let environment = session_of(&sts);
    let long = || Task::new("web").and("duration_seconds = 7200");
    let tasks = [long(), long()];
    // One call at a time, so that the second task's comes after the first one has taught the proxy.
    let config = Config::with("[sts]\nburst = 1\ncalls_per_second = 1\n", &tasks);
    let serve = rig::serve(config).envs(environment).spawn();
    for task in &tasks {
        until("credentials", || get(serve.address(), &task.path()).status == 200);
    }
    let calls = sts.assume_role_calls();
    let own: Vec<_> = calls[1..].iter().map(|call| (call.duration_seconds, &*call.outcome)).collect();
    assert_eq!(own, [(Some(7200), "ValidationError"), (Some(3600), "Success"), (Some(3600), "Success")]);
    assert_eq!(serve.end().stderr.matches("STS refuses this duration").count(), 1);
}
