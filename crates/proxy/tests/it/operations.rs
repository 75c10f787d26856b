//! What an operator's machinery asks: /healthz, /readyz and /metrics.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::net::SocketAddr;
use std::slice;

use crate::http::{Connection, get};
use crate::rig::{self, Process, until};
use crate::sts::Sts;
use crate::tasks::{Config, Task};

pub(crate) fn operations(proxy: &Process) -> SocketAddr {
    let said = proxy.says("operations at http://");
    let (_, address) = said.split_once("operations at http://").unwrap();
    address.lines().next().unwrap().parse().unwrap()
}

pub(crate) fn metric(proxy: &Process, line: &str) -> f64 {
    let text = get(operations(proxy), "/metrics").body;
    let value = text.lines().find_map(|it| it.strip_prefix(line)?.strip_prefix(' '));
    value.map_or(f64::NAN, |value| value.parse().unwrap())
}

#[test]
fn requests_loads_and_sessions_are_counted_and_no_label_holds_an_id() {
    let (sts, task) = (Sts::new(), Task::new("web"));
    let start = rig::serve(Config::new(slice::from_ref(&task))).args("--operations-listen 127.0.0.1:0");
    let proxy = start.envs(sts.environment()).spawn();
    for _ in 0..3 {
        assert_eq!(get(proxy.address(), &task.path()).status, 200);
    }
    assert_eq!(get(proxy.address(), "/v2/credentials/00000000-0000-0000-0000-000000000000").status, 400);
    assert_eq!(Connection::open(proxy.address()).send("no HTTP\r\n\r\n").answer().status, 400);
    for (line, value) in [
        ("taskcreds_requests_total{code=\"200\"}", 3.0),
        ("taskcreds_requests_total{code=\"400\"}", 2.0),
        ("taskcreds_requests_total{code=\"503\"}", 0.0),
        ("taskcreds_sts_calls_total{outcome=\"loaded\"}", 1.0),
        ("taskcreds_sts_calls_total{outcome=\"refused\"}", 0.0),
        ("taskcreds_sts_call_duration_seconds_count", 1.0),
        ("taskcreds_sessions{state=\"served\"}", 1.0),
        ("taskcreds_refresh_lag_seconds", 0.0),
        ("taskcreds_config_last_reload_successful", 1.0),
    ] {
        assert!((metric(&proxy, line) - value).abs() < f64::EPSILON, "{line} is {}", metric(&proxy, line));
    }
    let left = metric(&proxy, "taskcreds_session_nearest_expiry_seconds");
    assert!((3_500.0..=3_600.0).contains(&left), "{left}");
    let text = get(operations(&proxy), "/metrics").body;
    for hidden in [task.id.as_deref().unwrap(), "arn:aws", &task.task_id] {
        assert!(!text.contains(hidden), "{text}");
    }
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn readiness_tells_missing_base_credentials_and_they_are_found_without_a_restart() {
    let (sts, task) = (Sts::new(), Task::new("web"));
    let start = rig::serve(Config::new(slice::from_ref(&task))).args("--operations-listen 127.0.0.1:0");
    let shared = start.home().join(".aws").join("credentials");
    let proxy = start.env("AWS_ENDPOINT_URL_STS", &sts.endpoint).env("AWS_REGION", "us-west-2").spawn();
    let operations = operations(&proxy);
    assert_eq!(get(operations, "/healthz").status, 200);
    let unready = get(operations, "/readyz");
    assert_eq!(unready.status, 503);
    assert_eq!(unready.json()["reasons"][0]["check"], "base_credentials");
    assert_eq!(get(proxy.address(), &task.path()).status, 503);

    write_profile(&shared, &sts.key.access_key_id, &sts.key.secret_access_key);
    until("ready", || get(operations, "/readyz").status == 200);
    until("served", || get(proxy.address(), &task.path()).status == 200);
}

#[test]
fn readiness_tells_that_sts_refuses_the_base_credentials_until_it_takes_them() {
    let (sts, task) = (Sts::new(), Task::new("web"));
    let start = rig::serve(Config::new(slice::from_ref(&task))).args("--operations-listen 127.0.0.1:0");
    let shared = start.home().join(".aws").join("credentials");
    write_profile(&shared, "AKIADELETEDDELETED00", "a-secret-of-a-deleted-key");
    let proxy = start.env("AWS_ENDPOINT_URL_STS", &sts.endpoint).env("AWS_REGION", "us-west-2").spawn();
    let operations = operations(&proxy);
    assert_eq!(get(proxy.address(), &task.path()).status, 503);
    until("not ready", || get(operations, "/readyz").status == 503);
    let reason = get(operations, "/readyz").json()["reasons"][0].clone();
    assert_eq!(reason["check"], "base_credentials");
    assert!(reason["message"].as_str().unwrap().contains("InvalidClientTokenId"), "{reason}");

    write_profile(&shared, &sts.key.access_key_id, &sts.key.secret_access_key);
    until("ready", || get(operations, "/readyz").status == 200);
    until("served", || get(proxy.address(), &task.path()).status == 200);
}

/// As the SSM agent does on ECS Anywhere: the shared file is rewritten, with no expiry in it.
#[test]
fn base_credentials_that_are_rewritten_in_the_shared_file_are_taken_at_the_next_call() {
    let sts = Sts::new();
    let tasks = ["before", "after"].map(Task::new);
    let folder = tempfile::tempdir().unwrap();
    let (file, shared) = (folder.path().join("taskcreds.toml"), folder.path().join("credentials"));
    let reload = |tasks: &[Task]| {
        let next = file.with_extension("next");
        std::fs::copy(Config::new(tasks).file(), &next).unwrap();
        std::fs::rename(next, &file).unwrap();
    };
    write_profile(&shared, &sts.key.access_key_id, &sts.key.secret_access_key);
    reload(&tasks[..1]);
    let start = rig::taskcreds("serve").arg("--config").arg(&file).args("--listen 127.0.0.1:0");
    let start = start.env("AWS_SHARED_CREDENTIALS_FILE", &shared).env("AWS_REGION", "us-west-2");
    let proxy = start.env("AWS_ENDPOINT_URL_STS", &sts.endpoint).spawn();
    assert_eq!(get(proxy.address(), &tasks[0].path()).status, 200);

    let other = sts.another_key();
    write_profile(&shared, &other.access_key_id, &other.secret_access_key);
    reload(&tasks);
    until("the second task is served", || get(proxy.address(), &tasks[1].path()).status == 200);
    let callers: Vec<_> = sts.assume_role_calls().into_iter().filter_map(|call| call.caller_arn).collect();
    assert_eq!(callers, ["arn:aws:iam::111122223333:user/proxy", "arn:aws:iam::111122223333:user/another"]);
}

fn write_profile(file: &std::path::Path, access_key_id: &str, secret_access_key: &str) {
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let text = format!("[default]\naws_access_key_id = {access_key_id}\naws_secret_access_key = {secret_access_key}\n");
    std::fs::write(file, text).unwrap();
}

#[test]
fn a_browser_gets_nothing_from_the_operations_endpoint_and_other_paths_are_not_found() {
    let (sts, task) = (Sts::new(), Task::new("web"));
    let start = rig::serve(Config::new(slice::from_ref(&task))).args("--operations-listen 127.0.0.1:0");
    let proxy = start.envs(sts.environment()).spawn();
    let operations = operations(&proxy);
    assert_eq!(get(operations, &task.path()).status, 404);
    assert_eq!(get(proxy.address(), "/metrics").status, 404);
    let rebound = Connection::open(operations).send("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n").answer();
    assert_eq!(rebound.status, 403);
}

#[test]
fn the_dashboard_and_the_alert_rules_ask_for_metrics_that_there_are() {
    let (sts, task) = (Sts::new(), Task::new("web"));
    let start = rig::serve(Config::new(slice::from_ref(&task))).args("--operations-listen 127.0.0.1:0");
    let proxy = start.envs(sts.environment()).spawn();
    assert_eq!(get(proxy.address(), &task.path()).status, 200);
    let text = get(operations(&proxy), "/metrics").body;
    let there: Vec<_> = text.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
    let deploy = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    for file in ["prometheus/alerts.yml", "grafana/taskcreds.json"] {
        let asked = std::fs::read_to_string(deploy.join(file)).unwrap();
        let names =
            asked.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|name| name.starts_with("taskcreds_"));
        let mut count = 0;
        for name in names {
            assert!(there.contains(&name), "{file} asks for {name}");
            count += 1;
        }
        assert!(count >= 6, "{file}: {count}");
    }
}
