//! `taskcreds exec`: one command with a role, as if nobody stood between.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::http;
use crate::python;
use crate::rig::{self, Ended, Start};
use crate::secrets::{self, Kind};
use crate::skip;
use crate::sts::Sts;

const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";

/// Waits in sh for a signal, and not for ever, so that nothing is left behind by a signal that never comes.
const WAIT: &str = "i=0; while [ $i -lt 100 ]; do sleep 0.05; i=$((i+1)); done";

fn sh(start: Start, script: &str) -> Start {
    start.args("-- sh -c").arg(script)
}

fn emulated(script: &str) -> Ended {
    sh(rig::exec().arg("--emulate"), script).run()
}

/// The variables that `env` has printed. The id and the token among them must be in no log.
fn variables(stdout: &str) -> HashMap<String, String> {
    let pairs = stdout.lines().filter_map(|line| line.split_once('='));
    let variables: HashMap<_, _> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    secrets::remember(Kind::Token, &variables[TOKEN]);
    secrets::remember(Kind::CredentialsId, variables[FULL].rsplit('/').next().unwrap());
    variables
}

/// What has been left in a folder that was given for temporary files.
fn left_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("taskcreds")).collect()
}

#[test]
fn the_exit_status_is_the_commands_own() {
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)] {
        assert_eq!(emulated(script).code(), code, "{script}");
    }
}

#[test]
fn standard_input_and_output_are_the_commands_alone() {
    let mut process = sh(rig::exec().arg("--emulate"), "read line; echo \"got $line\"").spawn();
    process.tell("a line");
    let ended = process.wait();
    assert_eq!((ended.code(), ended.stdout.as_str()), (0, "got a line\n"));
}

#[test]
fn signals_reach_the_command() {
    for (signal, name) in [(Signal::TERM, "TERM"), (Signal::INT, "INT"), (Signal::HUP, "HUP"), (Signal::USR1, "USR1")] {
        let script = format!("trap 'echo got it; exit 9' {name}; echo ready; {WAIT}");
        let process = sh(rig::exec().arg("--emulate"), &script).spawn();
        process.says("ready");
        process.signal(signal);
        let ended = process.wait();
        assert_eq!((ended.code(), ended.stdout.as_str()), (9, "ready\ngot it\n"), "{name}");
    }
}

#[test]
fn a_signal_that_comes_as_soon_as_the_command_runs_reaches_it_too() {
    for _ in 0..10 {
        let ended = emulated(&format!("trap 'exit 9' TERM; kill -TERM $PPID; {WAIT}"));
        assert_eq!(ended.code(), 9);
    }
}

#[test]
fn the_command_gets_the_variables_of_its_role_and_nothing_that_outranks_them() {
    let sts = Sts::new();
    let start = rig::exec().args("--role arn:aws:iam::111122223333:role/web").envs(sts.environment());
    let start = start
        .env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "")
        .env("AWS_ROLE_SESSION_NAME", "x")
        .env("AWS_BEARER_TOKEN_BEDROCK", "x")
        .env("AWS_BEARER_TOKEN_OF_ANOTHER_SERVICE", "x")
        .env("NO_PROXY", "corp.example")
        .env("MY_OWN", "kept");
    let mut process = sh(start, "env; echo end of it; read line").spawn();
    let given = variables(&process.says("end of it"));
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ROLE_SESSION_NAME", "AWS_PROFILE"] {
        assert!(!given.contains_key(name), "{name}");
    }
    assert!(!given.contains_key("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"));
    assert!(given.keys().all(|name| !name.starts_with("AWS_BEARER_TOKEN_")), "{:?}", given.keys());
    assert_eq!(given["MY_OWN"], "kept");
    // What the user's own programs need to find AWS stays as it was.
    assert_eq!(given["AWS_REGION"], "us-west-2");
    for name in ["NO_PROXY", "no_proxy"] {
        assert_eq!(given[name], "corp.example,127.0.0.1,localhost,169.254.170.2,169.254.170.23");
    }
    let token_file = Path::new(&given[TOKEN_FILE]).to_owned();
    assert_eq!(std::fs::read_to_string(&token_file).unwrap(), given[TOKEN]);

    let (address, path) = given[FULL].strip_prefix("http://").unwrap().split_once('/').unwrap();
    let address = address.parse().unwrap();
    let path = format!("/{path}");
    assert_eq!(http::get(address, &path).status, 401);
    let answer = http::get_with_token(address, &path, &given[TOKEN]);
    assert_eq!(answer.json()["RoleArn"], "arn:aws:iam::111122223333:role/web");
    let calls = sts.assume_role_calls();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].duration_seconds, Some(3600));

    process.tell("go on");
    assert_eq!(process.wait().code(), 0);
    assert!(!token_file.parent().unwrap().exists(), "the folder of the token is gone");
}

#[test]
fn the_token_can_be_read_by_its_user_only() {
    let ended = emulated("env; stat -c 'mode=%a' \"$(dirname \"$AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE\")\"");
    assert_eq!(variables(&ended.stdout)["mode"], "700", "of the folder");
    let ended = emulated("env; stat -c 'mode=%a' \"$AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE\"");
    assert_eq!(variables(&ended.stdout)["mode"], "600", "of the file, which may be looked at before the folder is");
}

#[test]
fn nothing_is_left_however_it_ends() {
    for (command, code) in [("true", 0), ("false", 1), ("/no/such/command", 127), ("/etc/passwd", 126)] {
        let temporary = tempfile::tempdir().unwrap();
        let start = rig::exec().arg("--emulate").env("TMPDIR", temporary.path());
        assert_eq!(start.args("--").arg(command).run().code(), code, "{command}");
        assert_eq!(left_in(temporary.path()), Vec::<PathBuf>::new(), "{command}");
    }
}

#[test]
fn a_command_that_is_not_there_is_127_and_named() {
    let ended = rig::exec().args("--emulate -- no-such-command").run();
    assert_eq!(ended.code(), 127);
    assert!(ended.stderr.contains("no-such-command"), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
}

#[test]
fn without_a_role_it_asks_for_one() {
    let ended = rig::exec().args("-- true").run();
    assert_eq!(ended.code(), 64);
    assert!(ended.stderr.contains("--role") && ended.stderr.contains("--emulate"), "{}", ended.stderr);
}

#[test]
fn a_role_that_sts_refuses_is_77_and_the_command_does_not_run() {
    let sts = Sts::with(taskcreds_sts_emulator::Roles::Listed(Vec::new()));
    let start = rig::exec().args("--role arn:aws:iam::111122223333:role/web").envs(sts.environment());
    let ended = sh(start, "echo ran").run();
    assert_eq!((ended.code(), ended.stdout.as_str()), (77, ""));
    assert!(ended.stderr.contains("role/web") && ended.stderr.contains("AccessDenied"), "{}", ended.stderr);
}

#[test]
fn a_default_profile_with_keys_is_hidden_from_the_command_and_the_user_is_told() {
    let start = rig::exec().arg("--emulate");
    let folder = start.home().join(".aws");
    std::fs::create_dir(&folder).unwrap();
    let keys = "[default]\naws_access_key_id = AKIATESTTESTTESTTEST\naws_secret_access_key = a-secret-of-a-profile\n";
    std::fs::write(folder.join("credentials"), keys).unwrap();
    secrets::remember(Kind::BaseSecret, "a-secret-of-a-profile");
    let ended = sh(
        start,
        "env; wc -c < \"$AWS_SHARED_CREDENTIALS_FILE\"; echo \"size=$(wc -c <\"$AWS_SHARED_CREDENTIALS_FILE\")\"",
    )
    .run();
    assert_eq!(ended.code(), 0);
    assert_eq!(variables(&ended.stdout)["size"].trim(), "0");
    let warning = ended.stderr.lines().find(|line| line.contains("default profile")).unwrap();
    assert!(warning.contains(&folder.join("credentials").display().to_string()), "{warning}");
}

#[test]
fn a_profile_file_that_cannot_be_read_is_told_and_one_that_is_not_there_is_not() {
    for there in [true, false] {
        let start = rig::exec().arg("--emulate");
        let file = start.home().join("profiles");
        if there {
            std::fs::create_dir(&file).unwrap();
        }
        let ended = start.env("AWS_CONFIG_FILE", &file).args("-- true").run();
        assert_eq!((ended.code(), ended.stderr.contains("profiles cannot be read")), (0, there), "{}", ended.stderr);
    }
}

#[test]
fn the_aws_cli_is_the_demo_role_even_under_a_default_profile_with_keys() {
    let Some(venv) = skip::unless("exec aws", python::venv()) else { return };
    let path = std::env::join_paths(
        std::iter::once(venv.folder()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let start = rig::exec().arg("--emulate").env("PATH", path.unwrap());
    let folder = start.home().join(".aws");
    std::fs::create_dir(&folder).unwrap();
    let keys =
        "[default]\naws_access_key_id = AKIATESTTESTTESTTEST\naws_secret_access_key = another-secret-of-a-profile\n";
    std::fs::write(folder.join("credentials"), keys).unwrap();
    let ended = start.args("-- aws sts get-caller-identity --query Arn --output text").run();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(ended.stdout.starts_with("arn:aws:sts::111122223333:assumed-role/demo/"), "{}", ended.stdout);
}
