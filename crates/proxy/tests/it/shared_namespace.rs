//! compose.yaml and pod.yaml of docs/network-shared.md, run by podman with the image that `deploy/container/build` makes.
//!
//! Left out is what this podman (4.3) cannot do: to wait for a healthy container, which needs systemd, and a Secret as a volume.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::containers::Machine;
use crate::netns::Netns;
use crate::podman::{Podman, said};
use crate::python::Venv;
use crate::rig::{self, until};
use crate::{secrets, skip};

const PAGE: &str = include_str!("../../../../docs/network-shared.md");
const PROXY: &str = "registry.example/taskcreds:0.1.0";
const PROGRAM: &str = "registry.example/my-program:1";
/// In the place of the user's program: asks until the proxy is there, and prints what it is answered. It does not end: a pod would start
/// it again.
const ASK: &str = "until /busybox wget -qO- http://169.254.170.2$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI; do /busybox sleep 0.2; done; \
                   exec /busybox sleep 600";

/// The block of the page that is a file of this name.
fn block(name: &str) -> String {
    let (_, rest) = PAGE.split_once(&format!("<!-- file: {name} -->\n```")).unwrap();
    let (block, _) = rest.split_once("\n```").unwrap();
    block.split_once('\n').unwrap().1.to_owned() + "\n"
}

/// YAML as JSON, which is YAML too.
fn parsed(yaml: &str, venv: &Venv) -> Value {
    let script = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)";
    let mut python = Command::new(venv.program("python"));
    let mut python = python.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    python.stdin.take().unwrap().write_all(yaml.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "no YAML: {yaml}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A machine with both images, and a folder with the configuration of the page.
fn made() -> Result<(Machine, tempfile::TempDir), String> {
    let machine = Machine::new(Netns::bare())?;
    let podman = &machine.podman;
    podman.busybox(Podman::PAUSE, "/busybox sleep 600")?;
    podman.busybox(PROGRAM, ASK)?;
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/container/build");
    said(Command::new(build).arg(rig::binary()).arg(podman.program())).unwrap();
    podman.said(["tag", "localhost/taskcreds", PROXY]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("taskcreds.toml");
    std::fs::write(&file, block("taskcreds.toml")).unwrap();
    std::fs::set_permissions(file, PermissionsExt::from_mode(0o600)).unwrap();
    Ok((machine, folder))
}

/// Waits until the program of this container has been answered, and takes the session apart.
fn is_the_task(podman: &Podman, container: &str) {
    let answer = || podman.said(["logs", container]).ok().and_then(|log| serde_json::from_str::<Value>(&log).ok());
    let mut session = None;
    until("the program has its credentials", || {
        session = answer();
        session.is_some()
    });
    let session = session.unwrap();
    secrets::remember_session(&session);
    assert_eq!(session["RoleArn"], "arn:aws:iam::111122223333:role/web");
    let log = podman.log(&container.replace("my-program", "proxy"));
    let found = secrets::found_in(&log, &[]);
    assert!(found.is_empty(), "the log holds secrets: {found:?}");
    assert!(log.contains("added 169.254.170.2/32 to lo"), "{log}");
}

#[test]
fn the_compose_file_of_the_docs_gives_the_program_its_role() {
    let Some((machine, folder)) = skip::unless("compose", made()) else { return };
    let mut compose = parsed(&block("compose.yaml"), &machine.venv);
    let proxy = &mut compose["services"]["proxy"];
    proxy["environment"] =
        machine.sts.environment().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(proxy["healthcheck"].take()["test"], json!(["CMD", "/usr/local/bin/taskcreds", "healthcheck"]));
    proxy.as_object_mut().unwrap().remove("healthcheck");
    compose["services"]["my-program"]["depends_on"] = json!(["proxy"]);
    let file = folder.path().join("compose.yaml");
    std::fs::write(&file, compose.to_string()).unwrap();
    let podman = &machine.podman;
    let run = |arguments: &[&str]| {
        let mut command = Command::new(machine.venv.program("python"));
        command.arg(machine.venv.program("podman-compose")).arg("--podman-path").arg(podman.program());
        command
            .args(["--project-name", &podman.network, "--file"])
            .arg(&file)
            .args(arguments)
            .current_dir(folder.path());
        said(&mut command).unwrap_or_else(|why| panic!("{why}"))
    };
    run(&["up", "--detach", "--no-build"]);
    is_the_task(podman, &format!("{}_my-program_1", podman.network));
    let healthy = ["exec", &format!("{}_proxy_1", podman.network), "/usr/local/bin/taskcreds", "healthcheck"];
    podman.said(healthy).unwrap();
    run(&["down", "--timeout", "0"]);
}

#[test]
fn the_pod_of_the_docs_gives_the_program_its_role() {
    let Some((machine, folder)) = skip::unless("a pod", made()) else { return };
    let mut pod = parsed(&block("pod.yaml"), &machine.venv);
    let environment = machine.sts.environment().into_iter();
    pod["spec"]["containers"][0]["env"] =
        environment.map(|(name, value)| json!({"name": name, "value": value})).collect();
    let secret = pod["spec"]["volumes"][0].as_object_mut().unwrap().remove("secret").unwrap();
    // Octal in YAML.
    assert_eq!(secret, json!({"secretName": "taskcreds", "defaultMode": 0o400}));
    pod["spec"]["volumes"][0]["hostPath"] = json!({"path": folder.path(), "type": "Directory"});
    let file = folder.path().join("pod.yaml");
    std::fs::write(&file, pod.to_string()).unwrap();
    let file = file.display().to_string();
    machine.podman.said(["play", "kube", "--network", &machine.podman.network, &file]).unwrap();
    is_the_task(&machine.podman, "web-my-program");
    machine.podman.said(["play", "kube", "--down", &file]).unwrap();
}
