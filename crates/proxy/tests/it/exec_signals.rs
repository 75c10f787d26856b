//! `taskcreds exec` and signals: whoever sends them, CMD gets each once, and what was ignored stays ignored.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::gate::Gate;
use crate::http;
use crate::rig::{self, Process, Start, has_signal};
use crate::secrets::{self, Kind};
use crate::skip;
use crate::sts::Sts;
use crate::tasks::{Config, Task};

/// Waits in sh for signals, and not for ever, so that nothing is left behind by one that never comes.
const WAIT: &str = "i=0; while [ $i -lt 200 ]; do sleep 0.05; i=$((i+1)); done";

/// Says each of these that comes, and ends by SIGTERM with 9.
fn says_each(signals: &[Signal]) -> String {
    let mut script = "trap 'exit 9' TERM".to_owned();
    for signal in signals {
        write!(script, "; trap 'echo \"[got {0}]\"' {0}", signal.as_raw()).unwrap();
    }
    format!("{script}; echo ready; {WAIT}")
}

/// Started by a program that ignores these.
fn ignoring(start: Start, signals: &str) -> Start {
    let mut env = Command::new("env");
    env.arg(format!("--ignore-signal={signals}")).arg(rig::binary());
    start.under(env)
}

#[test]
fn every_signal_that_a_parent_may_send_reaches_the_command_once() {
    let signals = [
        Signal::INT,
        Signal::QUIT,
        Signal::HUP,
        Signal::USR1,
        Signal::USR2,
        Signal::ALARM,
        Signal::VTALARM,
        Signal::PROF,
        Signal::WINCH,
        Signal::URG,
        Signal::IO,
        Signal::XCPU,
        Signal::ABORT,
        Signal::POWER,
        Signal::STKFLT,
    ];
    let process = rig::exec().args("--emulate -- sh -c").arg(says_each(&signals)).spawn();
    process.says("ready");
    let mut expected = "ready\n".to_owned();
    for signal in signals {
        process.signal(signal);
        let line = format!("[got {}]\n", signal.as_raw());
        process.says(&line);
        expected.push_str(&line);
    }
    let ended = process.end();
    assert_eq!((ended.code(), ended.stdout), (9, expected));
}

/// `exec` in the foreground of a terminal of its own, with this standard input.
fn at_a_terminal(input: &str, folder: &std::path::Path) -> Option<Process> {
    let there = Command::new("script").arg("--version").stdout(Stdio::null()).status();
    skip::unless("exec at a terminal", there.map_err(|error| format!("script: {error}")))?;
    std::fs::write(folder.join("command"), says_each(&[Signal::INT, Signal::QUIT, Signal::WINCH])).unwrap();
    let exec = format!("'{}' exec --emulate -- sh command {input}", rig::binary().display());
    std::fs::write(folder.join("exec"), format!("echo \"group $$.\"; exec {exec}")).unwrap();
    Some(rig::shell("exec script -qefc 'exec sh exec' /dev/null", folder).spawn())
}

/// The lines of the command, without what the terminal and the shell add.
fn said(stdout: &str) -> Vec<&str> {
    stdout.split('[').skip(1).filter_map(|said| said.split(']').next()).collect()
}

#[test]
fn at_a_terminal_the_command_gets_ctrl_c_once_and_what_is_sent_to_exec_alone_too() {
    for input in ["", "</dev/null"] {
        let folder = tempfile::tempdir().unwrap();
        let Some(mut process) = at_a_terminal(input, folder.path()) else { return };
        let said_first = process.says("ready");
        let pid = said_first.split("group ").nth(1).and_then(|rest| rest.split('.').next()).unwrap().to_owned();
        let exec = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
        let kill = |signal| rustix::process::kill_process(exec, signal).unwrap();
        process.tell("\x03");
        process.says("[got 2]");
        process.tell("\x1c");
        process.says("[got 3]");
        kill(Signal::WINCH);
        process.says("[got 28]");
        // A second one that exec had passed on would be said before this.
        assert_eq!(said(&process.says("[got 28]")), ["got 2", "got 3", "got 28"], "standard input {input:?}");
        kill(Signal::QUIT);
        rig::until("QUIT is passed on", || said(&process.says("ready")).len() == 4);
        kill(Signal::INT);
        rig::until("INT is passed on", || said(&process.says("ready")).len() == 5);
        kill(Signal::TERM);
        let ended = process.wait();
        assert_eq!(ended.code(), 9, "{}", ended.stdout);
        assert_eq!(said(&ended.stdout), ["got 2", "got 3", "got 28", "got 3", "got 2"], "standard input {input:?}");
    }
}

#[test]
fn a_new_size_of_the_terminal_does_not_end_exec_before_the_command_runs() {
    let sts = Sts::new();
    let gate = Gate::before(&sts.endpoint);
    let start = rig::exec().args("--role arn:aws:iam::111122223333:role/web -- sh -c");
    let process = start.arg("exit 7").envs(sts.environment_at(&gate.endpoint)).spawn();
    gate.wait_for_connections(1);
    process.signal(Signal::WINCH);
    process.signal(Signal::URG);
    gate.open();
    assert_eq!(process.wait().code(), 7);
}

#[test]
fn a_signal_that_was_ignored_stays_ignored_here_and_in_the_command() {
    let script = "echo ready; read line; kill -HUP $$; kill -INT $$; kill -USR1 $$; exit 3";
    let start = ignoring(rig::exec().args("--emulate -- sh -c").arg(script), "HUP,INT");
    let mut process = start.spawn();
    process.says("ready");
    for signal in [Signal::HUP, Signal::INT] {
        process.signal(signal);
        assert!(
            has_signal(process.id(), "SigIgn", signal) && !has_signal(process.id(), "SigCgt", signal),
            "{signal:?}"
        );
    }
    process.tell("go on");
    assert_eq!(process.wait().code(), 128 + Signal::USR1.as_raw(), "only what was ignored is");
}

#[test]
fn dev_under_nohup_outlives_its_terminal() {
    let process = ignoring(rig::dev().args("--listen 127.0.0.1:0"), "HUP").spawn();
    process.address();
    process.signal(Signal::HUP);
    assert!(has_signal(process.id(), "SigIgn", Signal::HUP) && has_signal(process.id(), "SigCgt", Signal::TERM));
    assert_eq!(process.end().code(), 0);
}

#[test]
fn serve_under_nohup_still_reloads_when_asked_to() {
    let process = ignoring(rig::serve(Config::new(&[Task::new("web")])), "HUP").spawn();
    process.address();
    rig::until("it listens for SIGHUP", || has_signal(process.id(), "SigCgt", Signal::HUP));
    process.signal(Signal::HUP);
    process.logs("reload");
    assert_eq!(process.end().code(), 0);
}

#[test]
fn a_parent_that_ignores_its_children_does_not_cost_the_status_of_the_command() {
    let process = ignoring(rig::exec().args("--emulate -- sh -c").arg("exit 7"), "CHLD").spawn();
    assert_eq!(process.wait().code(), 7);
}

#[test]
fn as_the_first_process_of_a_container_it_collects_orphans_and_keeps_the_status_of_the_command() {
    let script = "for n in 1 2 3; do (sh -c 'exit 3' &); done; sleep 0.2; sh -c 'exit 4' & \
                  echo ready $PPID; i=0; \
                  while grep -qs ') Z 1 ' /proc/[0-9]*/stat && [ $i -lt 400 ]; do sleep 0.05; i=$((i+1)); done; \
                  grep -s ') Z 1 ' /proc/[0-9]*/stat; wait $!; exit $((3+$?))";
    let made = Command::new("unshare").args(["--pid", "--fork", "true"]).stderr(Stdio::null()).status();
    let made = made
        .map_err(|error| error.to_string())
        .and_then(|status| if status.success() { Ok(()) } else { Err("no PID namespace can be made here".to_owned()) });
    if skip::unless("exec as the first process", made).is_none() {
        return;
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).arg(rig::binary());
    let ended = rig::exec().args("--emulate -- sh -c").arg(script).under(unshare).run();
    assert_eq!((ended.code(), ended.stdout.as_str()), (7, "ready 1\n"), "{}", ended.stderr);
}

#[test]
fn what_the_command_leaves_running_does_not_hold_exec_up() {
    let script = "echo \"uri=$AWS_CONTAINER_CREDENTIALS_FULL_URI.\"; read line; exit 7";
    let mut process = rig::exec().args("--emulate -- sh -c").arg(script).spawn();
    let said = process.says(".\n");
    let uri = said.trim_end().trim_end_matches('.').strip_prefix("uri=http://").unwrap().to_owned();
    let (address, path) = uri.split_once('/').unwrap();
    secrets::remember(Kind::CredentialsId, path.rsplit('/').next().unwrap());
    let address: SocketAddr = address.parse().unwrap();
    let mut half = TcpStream::connect(address).unwrap();
    half.write_all(b"GET / HTTP/1.1\r\nHost: ").unwrap();
    // Answered behind it, so that the half of a request is known to be there.
    assert_eq!(http::get(address, &format!("/{path}")).status, 401);
    process.tell("go on");
    let told = Instant::now();
    assert_eq!(process.wait().code(), 7);
    assert!(told.elapsed() < Duration::from_secs(3), "{:?}", told.elapsed());
}
