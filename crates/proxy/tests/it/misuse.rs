//! What is said to who asks for the wrong thing, or for the right one wrongly: what happened, where, and what to do next.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::gate::Gate;
use crate::rig::{self, Ended, taskcreds};
use crate::sts::Sts;
use crate::tasks::{Config, Task};

/// How a command ended, and all that its standard error has to say.
fn told(ended: &Ended, code: i32, says: &[&str]) {
    assert_eq!(ended.code(), code, "{}{}", ended.stdout, ended.stderr);
    for says in says {
        assert!(ended.stderr.contains(says), "{says:?} is not in {}", ended.stderr);
    }
}

#[test]
fn a_question_to_the_audit_log_that_nothing_can_fit_is_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.log");
    fs::write(&file, "").unwrap();
    for (question, says) in [
        ("--task-arn 0123456789abcdef", "arn:aws:ecs:REGION:111122223333:task/CLUSTER/TASK-ID"),
        ("--session-name arn:aws:iam::111122223333:role/web", "assumed-role/ROLE/NAME"),
        ("--session-name AROAIOSFODNN7EXAMPLE:web", "the role session name alone"),
        ("--since 2026-11-21T21:00:00Z --until 2026-11-21T20:00:00Z", "--since is after --until"),
    ] {
        told(&taskcreds("audit").arg("--file").arg(&file).args(question).run(), 64, &[says]);
    }
    let arn = "--session-name arn:aws:sts::111122223333:assumed-role/web/0123456789abcdef";
    told(&taskcreds("audit").arg("--file").arg(&file).args(arn).run(), 1, &["no record fits"]);
}

#[test]
fn a_file_that_this_user_may_not_read_is_77_and_one_that_is_not_there_has_its_flag_named() {
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let file = folder.path().join("audit.log");
    fs::write(&file, "").unwrap();
    let shown = file.display().to_string();
    let none = folder.path().join("none").join("audit.log");
    told(
        &taskcreds("audit").arg("--file").arg(&none).run(),
        64,
        &[&none.display().to_string(), "--file names another"],
    );
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let as_nobody = |command: &str| taskcreds(command).env("TMPDIR", "/tmp").user(65_534, 65_534);
    for (folders, files) in [(0o755, 0o600), (0o700, 0o644)] {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(folders)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(files)).unwrap();
        told(&as_nobody("audit").arg("--file").arg(&file).run(), 77, &[&shown, "the user that runs taskcreds"]);
        for command in ["check", "serve", "dev"] {
            told(&as_nobody(command).arg("--config").arg(&file).run(), 77, &[&shown, "Permission denied"]);
        }
    }
}

#[test]
fn check_says_of_a_configuration_that_serves_nobody_what_serve_says() {
    for (text, says) in [
        ("", ["there is nothing to serve", "a reload does not take it over"].as_slice()),
        ("hop_limit = 1", &["there is nothing to serve"]),
    ] {
        let config = Config::with(text, &[]);
        let ended = taskcreds("check").arg("--config").arg(config.file()).run();
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        for says in says {
            assert!(
                ended.stdout.contains(&format!("warning: {says}")) || ended.stdout.contains(says),
                "{}",
                ended.stdout
            );
        }
    }
    let ended = taskcreds("check").arg("--config").arg(Config::new(&[Task::new("web")]).file()).run();
    assert!(!ended.stdout.contains("nothing to serve"), "{}", ended.stdout);
}

#[test]
fn check_looks_at_the_folder_of_the_audit_log_as_serve_does() {
    let folder = tempfile::tempdir().unwrap();
    let audit = format!("[audit]\nfile = {:?}\n", folder.path().join("audit.log"));
    let config = Config::with(&audit, &[Task::new("web")]);
    let check = || taskcreds("check").arg("--config").arg(config.file()).run();
    assert!(!check().stdout.contains("cannot write the audit log"), "{}", check().stdout);
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let ended = check();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let chmod = format!("chmod go-w {}", folder.path().display());
    for says in ["warning: serve would not start", "cannot write the audit log", &chmod] {
        assert!(ended.stdout.contains(says), "{says}: {}", ended.stdout);
    }
    let none = Config::with("[audit]\nfile = \"none/audit.log\"\n", &[Task::new("web")]);
    let ended = taskcreds("check").arg("--config").arg(none.file()).run();
    assert!(!ended.stdout.contains("would not start"), "serve makes the folder: {}", ended.stdout);
}

#[test]
fn who_takes_one_command_for_another_is_told_the_difference() {
    for (command, arguments, says) in [
        ("dev", "--emulate", ["--aws"].as_slice()),
        ("exec", "--aws -- true", &["--emulate"]),
        ("serve", "taskcreds.toml", &["--config taskcreds.toml"]),
        ("check", "taskcreds.toml", &["--config taskcreds.toml"]),
        ("serve", "", &["--config", "--admin-socket"]),
        ("check", "", &["--config", "--network"]),
        ("dev", "--listen 0.0.0.0:8080", &["169.254.170.2"]),
        ("dev", "--session-seconds 30s", &["1 to 43200"]),
        ("journal", "ls --status 2xx", &["as 503"]),
        ("journal", "wait --count few", &["a whole number"]),
        ("journal", "ls --since now", &["the number of an entry"]),
        ("journal", "ls --control http://127.0.0.1:51680/x", &["http://ADDRESS:PORT"]),
        ("fault", "ls --control https://127.0.0.1:51680", &["http://ADDRESS:PORT"]),
    ] {
        let start = taskcreds(command);
        let start = if arguments.is_empty() { start } else { start.args(arguments) };
        let ended = start.run();
        told(&ended, 64, says);
        // One tip, and none that leads elsewhere.
        for wrong in ["--emulated-roles", "-- --aws", "invalid digit"] {
            assert!(!ended.stderr.contains(wrong), "{command} {arguments}: {}", ended.stderr);
        }
    }
    for (command, variable) in [("dev", "TASKCREDS_LISTEN"), ("healthcheck", "TASKCREDS_ADDRESS")] {
        told(&taskcreds(command).env(variable, "foo").run(), 64, &["ADDRESS:PORT", variable]);
    }
    let flag = taskcreds("dev").env("TASKCREDS_LISTEN", "127.0.0.1:1").args("--listen foo").run();
    assert!(!flag.stderr.contains("TASKCREDS_LISTEN"), "{}", flag.stderr);
}

#[test]
fn two_roles_of_dev_cannot_have_one_name() {
    let [web, other] = ["111122223333", "444455556666"].map(|account| format!("arn:aws:iam::{account}:role/web"));
    for roles in [format!("--role web={web} --role web={other}"), format!("--role {web} --role {other}")] {
        told(&rig::dev().args(&roles).run(), 64, &["two roles are called web", "--role NAME=ARN"]);
    }
}

#[test]
fn the_demo_role_is_not_asked_of_an_sts_that_has_others() {
    let folder = tempfile::tempdir().unwrap();
    let role = r#"{"Role":{"RoleName":"web","Arn":"arn:aws:iam::111122223333:role/web","AssumeRolePolicyDocument":{"Statement":{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":["sts:AssumeRole","sts:TagSession"]}}}}"#;
    fs::write(folder.path().join("web.json"), role).unwrap();
    let says = ["--role", "arn:aws:iam::111122223333:role/web"];
    let exec = || rig::exec().arg("--emulate").arg("--emulated-roles").arg(folder.path());
    told(&exec().args("-- true").run(), 64, &says);
    told(&rig::dev().arg("--emulated-roles").arg(folder.path()).run(), 64, &says);
    told(&exec().args("--role arn:aws:iam::111122223333:role/web -- true").run(), 0, &[]);
}

#[test]
fn exec_says_what_sts_has_said_and_points_to_no_log_that_is_not_there() {
    let sts = Sts::with(taskcreds_sts_emulator::Roles::Listed(Vec::new()));
    let exec = rig::exec().args("--role arn:aws:iam::111122223333:role/web").envs(sts.environment());
    let ended = exec.args("--log-level off -- true").run();
    told(&ended, 77, &["is not authorized to perform: sts:AssumeRole", "in the role's trust policy"]);
    assert!(!ended.stderr.contains("log has"), "{}", ended.stderr);
}

#[test]
fn exec_says_what_it_waits_for() {
    let sts = Sts::new();
    let gate = Gate::before(&sts.endpoint);
    let exec = rig::exec().args("--role arn:aws:iam::111122223333:role/web").envs(sts.environment_at(&gate.endpoint));
    let exec = exec.args("-- true").spawn();
    exec.logs("no session for arn:aws:iam::111122223333:role/web yet");
    gate.open();
    let ended = exec.wait();
    told(&ended, 0, &[]);
    assert_eq!(ended.stderr.matches(" yet").count(), 1, "{}", ended.stderr);
}

#[test]
fn help_of_task_tells_exit_statuses_and_has_examples() {
    let help = taskcreds("task").arg("--help").run().stdout;
    assert!(help.contains("Exit status: 0") && help.contains("taskcreds task add --task-arn"), "{help}");
}

#[test]
fn under_exec_serve_is_told_that_it_may_let_answers_fail() {
    let start = rig::exec().args("--emulate --").arg(rig::binary()).args("serve --fault web:status=503 --config");
    let config = Config::with("listen = [\"127.0.0.1:0\"]", &[Task::new("web")]);
    told(&start.arg(config.file()).run(), 64, &["dev and exec", "--allow-faults"]);
}
