//! `serve`, `check`, `healthcheck` and the command line itself: what they say, and their exit statuses.

use std::net::TcpListener;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use taskcreds_sts_emulator::{Role, Roles};

use crate::http::{Connection, get, request};
use crate::rig::{self, PORT_51679, taskcreds};
use crate::sts::Sts;
use crate::tasks::{Config, Task};

#[test]
fn a_flag_that_nobody_knows_is_64_and_help_is_0() {
    let ended = taskcreds("serve").args("--no-such-flag").run();
    assert_eq!((ended.code(), ended.stdout.as_str()), (64, ""));
    assert!(ended.stderr.contains("--no-such-flag"), "{}", ended.stderr);
    assert_eq!(taskcreds("no-such-command").run().code(), 64);
    let ended = taskcreds("serve").args("--help").run();
    assert_eq!(ended.code(), 0);
    assert!(ended.stdout.contains("--listen"));
}

#[test]
fn an_id_that_was_made_is_told_to_who_has_started_the_program_and_not_to_the_journal() {
    let start = || rig::serve(Config::new(&[Task::without_id("web")]));
    let told = start().spawn();
    assert!(told.says("/v2/credentials/").contains("task role of "));
    told.end();
    let mut journal = std::process::Command::new("sh");
    journal.args(["-c", "JOURNAL_STREAM=$(stat -L -c %d:%i /proc/$$/fd/1) exec \"$@\"", "sh"]).arg(rig::binary());
    let kept = start().under(journal).spawn();
    kept.logs("is not told, as standard output is the journal: set credentials_id");
    assert!(!kept.end().stdout.contains("/credentials/"));
}

#[test]
fn check_tells_every_fault_of_a_file_with_its_place() {
    let task =
        Task::new("web").and("duration_seconds = 1\nsesion_name = \"x\"\nexternal_id = 7\nregion = \"no region\"");
    let config = Config::with("listen = [\"0.0.0.0:80\"]\n", &[task]);
    let ended = taskcreds("check").arg("--config").arg(config.file()).run();
    assert_eq!((ended.code(), ended.stdout.as_str()), (64, ""));
    for path in
        ["listen[0]", "task[0].duration_seconds", "task[0].sesion_name", "task[0].external_id", "task[0].region"]
    {
        let line = ended.stderr.lines().find(|line| line.contains(&format!(": {path}: ")));
        let line = line.unwrap_or_else(|| unreachable!("{path} is told: {}", ended.stderr));
        assert!(line.contains("taskcreds.toml:"), "{line}");
    }
    assert_eq!(ended.stderr.lines().count(), 5, "{}", ended.stderr);
}

#[test]
fn serve_does_not_start_with_a_broken_file() {
    let config = Config::new(&[Task::new("web").and("duration_seconds = 1")]);
    let ended = rig::serve(config).run();
    assert_eq!((ended.code(), ended.stdout.as_str()), (64, ""));
    assert!(ended.stderr.contains("task[0].duration_seconds"), "{}", ended.stderr);
    let ended = taskcreds("serve").args("--config /no/such/file").run();
    assert_eq!(ended.code(), 64);
    assert!(ended.stderr.contains("/no/such/file"), "{}", ended.stderr);
}

#[test]
fn a_file_that_everybody_may_write_is_refused() {
    let config = Config::new(&[Task::new("web")]);
    std::fs::set_permissions(config.file(), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let ended = rig::serve(config).run();
    assert_eq!(ended.code(), 64);
    assert!(ended.stderr.contains("chmod o-w"), "{}", ended.stderr);
}

#[test]
fn check_shows_what_is_in_force_without_ids_and_tokens() {
    let task = Task::with_token("web").and("source_identity = \"the-scheduler\"");
    let config = Config::new(std::slice::from_ref(&task));
    let ended = taskcreds("check").arg("--config").arg(config.file()).run();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    for shown in [task.role_arn().as_str(), &task.task_id, "the-scheduler", "3600 s", "127.0.0.1:51679"] {
        assert!(ended.stdout.contains(shown), "{shown}");
    }
}

#[test]
fn check_assumes_each_role_once_and_is_77_when_sts_refuses_one() {
    let arn = "arn:aws:iam::111122223333:role/web".to_owned();
    let sts = Sts::with(Roles::Listed(vec![Role { arn, ..Role::default() }]));
    let check = |tasks: &[Task]| {
        let config = Config::new(tasks);
        taskcreds("check").arg("--config").arg(config.file()).arg("--assume").envs(sts.environment()).run()
    };
    let web = Task::new("web");
    let ended = check(std::slice::from_ref(&web));
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(ended.stdout.contains("can be assumed: ") && ended.stdout.contains(&web.identity()), "{}", ended.stdout);

    let ended = check(&[Task::new("other"), web]);
    assert_eq!(ended.code(), 77);
    let refused = ended.stdout.lines().find(|line| line.starts_with("CANNOT be assumed")).unwrap();
    assert!(refused.contains("role/other") && refused.contains("AccessDenied"), "{refused}");
    assert!(ended.stdout.contains("\ncan be assumed: "), "the good one is told as well");
    assert!(ended.stderr.contains("1 of 2"), "{}", ended.stderr);
    assert_eq!(sts.assume_role_calls().len(), 3);
}

#[test]
fn healthcheck_is_0_before_a_proxy_and_1_before_anything_else() {
    let (sts, config) = (Sts::new(), Config::new(&[Task::new("web")]));
    let serve = rig::serve(config).envs(sts.environment()).spawn();
    let check = |address: &str| taskcreds("healthcheck").args(&format!("--address {address}")).run();
    let ended = check(&serve.address().to_string());
    assert_eq!(ended.code(), 0, "{}", ended.stderr);

    let another = sts.endpoint.trim_start_matches("http://");
    let ended = check(another);
    assert_eq!(ended.code(), 1);
    assert!(ended.stderr.contains(another), "{}", ended.stderr);

    let address = serve.address().to_string();
    serve.end();
    assert_eq!(check(&address).code(), 1);
}

#[test]
fn a_taken_address_is_69_and_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let config = Config::with(&format!("listen = [\"{address}\"]\n"), &[Task::new("web")]);
    let ended = taskcreds("serve").arg("--config").arg(config.file()).run();
    assert_eq!((ended.code(), ended.stdout.as_str()), (69, ""));
    assert!(ended.stderr.contains(&address) && ended.stderr.contains("--listen"), "{}", ended.stderr);
}

#[test]
fn an_address_that_is_named_twice_is_told_as_that() {
    let twice = "[\"127.0.0.1:51699\", \"127.0.0.1:51699\"]";
    let config = Config::with(&format!("listen = {twice}\n"), &[Task::new("web")]);
    let ended = taskcreds("check").arg("--config").arg(config.file()).run();
    assert_eq!(ended.code(), 64);
    assert!(ended.stderr.contains("listen[1]: 127.0.0.1:51699 is there already"), "{}", ended.stderr);
    for start in [rig::serve(Config::new(&[])), taskcreds("dev")] {
        let ended = start.args("--listen 127.0.0.1:51699 --listen 127.0.0.1:51699").run();
        assert_eq!(ended.code(), 64, "{}", ended.stderr);
        assert!(ended.stderr.contains("--listen names 127.0.0.1:51699 twice"), "{}", ended.stderr);
    }
}

/// As a compose file with `${X:-}` gives them.
#[test]
fn a_variable_that_is_empty_is_not_set() {
    let names = "ACCOUNT ADDRESS ADMIN_SOCKET AUDIT_FILE AWS CONFIG CONTAINER CONTROL CONTROL_LISTEN EMULATE EMULATED_ROLES \
                 FAULTS LINK_LOCAL LISTEN LOG_FORMAT LOG_LEVEL NETWORK_STATE OPERATIONS_LISTEN ROLE SESSION_SECONDS SESSION_TAGS STATE_DIR";
    let empty: Vec<_> = names.split_ascii_whitespace().map(|name| (format!("TASKCREDS_{name}"), "")).collect();
    let sts = Sts::new();
    let file = Config::with("listen = [\"127.0.0.1:0\"]\n", &[Task::new("web")]);
    let without = |start: rig::Start| empty.iter().fold(start, |start, (name, value)| start.env(name, value));
    // Without the level that the rig gives.
    let home = tempfile::tempdir().unwrap();
    let mut bare = rig::clean(std::process::Command::new(rig::binary()), home.path());
    bare.arg("check").arg("--config").arg(file.file()).envs(empty.iter().cloned());
    let output = bare.output().unwrap();
    assert!(output.status.success(), "{output:?}");

    let proxy = without(taskcreds("serve").arg("--config").arg(file.file())).envs(sts.environment()).spawn();
    assert!(proxy.address().ip().is_loopback());
    proxy.end();
    let ended = without(rig::exec()).args("--emulate -- true").run();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let ended = without(taskcreds("serve")).run();
    assert_eq!(ended.code(), 64);
    assert!(ended.stderr.contains("required") && ended.stderr.contains("--config"), "{}", ended.stderr);
}

#[test]
fn on_the_port_of_the_ecs_agent_the_ecs_agent_is_named() {
    // Taken by this test, or else by somebody who does as well.
    let _port = PORT_51679.lock().unwrap_or_else(PoisonError::into_inner);
    let _taken = TcpListener::bind("127.0.0.1:51679");
    let config = Config::new(&[Task::new("web")]);
    let ended = taskcreds("serve").arg("--config").arg(config.file()).run();
    assert_eq!(ended.code(), 69);
    assert!(ended.stderr.contains("127.0.0.1:51679") && ended.stderr.contains("ECS agent"), "{}", ended.stderr);
}

#[test]
fn an_id_that_serve_makes_is_told_once_and_works() {
    let sts = Sts::new();
    let task = Task::without_id("web");
    let serve = rig::serve(Config::new(std::slice::from_ref(&task))).envs(sts.environment()).spawn();
    let said = serve.says("/v2/credentials/");
    let said = said.lines().nth(1).map(str::to_owned).unwrap_or_else(|| serve.says(&task.task_id));
    assert!(said.contains(&task.task_id), "{said}");
    let (_, id) =
        said.trim_end().rsplit_once("=http://").and_then(|(_, uri)| uri.split_once("/v2/credentials/")).unwrap();
    let path = &format!("/v2/credentials/{id}");
    assert_eq!(get(serve.address(), path).json()["RoleArn"].as_str(), Some(task.role_arn().as_str()));
    // The rig finds it in the log, or a second time in the standard output.
    let ended = serve.end();
    assert_eq!(ended.stdout.matches(path).count(), 1);
    assert_eq!(ended.stdout.lines().count(), 2);
}

#[test]
fn asked_to_stop_it_ends_with_0_and_open_connections_do_not_hold_it_up() {
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let (sts, task) = (Sts::new(), Task::new("web"));
        let serve = rig::serve(Config::new(std::slice::from_ref(&task))).envs(sts.environment()).spawn();
        let address = serve.address();
        let mut resting = Connection::open(address);
        assert_eq!(resting.send(request(address, &task.path(), None)).answer().status, 200);
        let start = Instant::now();
        serve.signal(signal);
        resting.closed_after();
        let ended = serve.wait();
        assert_eq!(ended.code(), 0);
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    }
}

#[test]
fn a_request_under_way_is_answered_before_the_end() {
    let (sts, task) = (Sts::new(), Task::new("web"));
    let gate = crate::gate::Gate::before(&sts.endpoint);
    let config = Config::new(std::slice::from_ref(&task));
    let serve = rig::serve(config).envs(sts.environment_at(&gate.endpoint)).spawn();
    let address = serve.address();
    // A request that has come a moment before the signal, told by a first one on the same connection.
    let mut connection = Connection::open(address);
    assert_eq!(connection.send(request(address, &task.path(), None)).answer().status, 503);
    connection.send(request(address, &task.path(), None));
    assert!(connection.is_open_for(Duration::from_millis(100)));
    serve.signal(rustix::process::Signal::TERM);
    assert_eq!(connection.answer().status, 503);
    assert_eq!(serve.wait().code(), 0);
}

#[test]
fn a_connection_that_was_accepted_a_moment_before_the_end_is_answered() {
    let (sts, task) = (Sts::new(), Task::new("web"));
    let serve = rig::serve(Config::new(std::slice::from_ref(&task))).envs(sts.environment()).spawn();
    let address = serve.address();
    let mut early = Connection::open(address);
    // Accepted after it and answered, so the early one is accepted.
    assert_eq!(get(address, &task.path()).status, 200);
    serve.signal(rustix::process::Signal::TERM);
    serve.logs("stopping");
    assert_eq!(early.send(request(address, &task.path(), None)).answer().status, 200);
    let start = Instant::now();
    assert_eq!(serve.wait().code(), 0);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[test]
fn dev_listens_on_local_addresses_only() {
    let ended = rig::dev().args("--listen 192.0.2.1:0").run();
    assert_eq!(ended.code(), 64);
    assert!(ended.stderr.contains("192.0.2.1"), "{}", ended.stderr);
}

#[test]
fn the_log_can_be_json() {
    let (sts, task) = (Sts::new(), Task::new("web"));
    let start = rig::serve(Config::new(std::slice::from_ref(&task))).envs(sts.environment());
    let serve = start.args("--log-format json").spawn();
    assert_eq!(get(serve.address(), &task.path()).status, 200);
    let log = serve.end().stderr;
    assert!(!log.is_empty());
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["level"].is_string() && line["message"].is_string());
    }
}
