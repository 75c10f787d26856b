//! What a process does to itself, seen from outside.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::rig;
use crate::skip;

#[test]
fn a_process_cannot_be_dumped_or_traced_by_its_own_user_and_leaves_no_core() {
    let is_root = rustix::process::geteuid().is_root().then_some(()).ok_or_else(|| "root is needed".to_owned());
    let Some(()) = skip::unless("becoming another user", is_root) else { return };
    let process = rig::dev().args("--listen 127.0.0.1:0").env("TMPDIR", "/tmp").user(65_534, 65_534).spawn();
    process.says("listening on ");
    // What cannot be dumped belongs to root (proc(5)), whoever runs it.
    let environ = fs::metadata(format!("/proc/{}/environ", process.id())).unwrap();
    assert_eq!(environ.uid(), 0);
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
}

#[test]
fn the_command_of_exec_has_the_limits_of_its_caller() {
    let limits = |text: &str| -> Vec<String> {
        let wanted = ["Max core file size", "Max open files"];
        text.lines().filter(|line| wanted.iter().any(|start| line.starts_with(start))).map(str::to_owned).collect()
    };
    let own = fs::read_to_string("/proc/self/limits").unwrap();
    let ended = rig::exec().args("--emulate -- cat /proc/self/limits").run();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_eq!(limits(&ended.stdout), limits(&own));
    assert_eq!(limits(&own).len(), 2);
}

#[test]
fn an_environment_that_asks_for_secrets_in_logs_is_refused() {
    let ended = rig::dev().args("--listen 127.0.0.1:0").env("LOG_SENSITIVE_BODIES", "true").run();
    assert_eq!(ended.code(), 64);
    assert!(ended.stderr.contains("LOG_SENSITIVE_BODIES is set"), "{}", ended.stderr);
}
