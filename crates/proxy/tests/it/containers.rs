//! Real containers with the real AWS CLI: on one bridge, where each gets its own task's session and nothing else; and in one network
//! namespace with the proxy, as compose and Kubernetes have it.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::audit::{all_records, audited};
use crate::netns::Netns;
use crate::podman::{Container, Podman};
use crate::python::{self, Venv};
use crate::rig;
use crate::skip;
use crate::sts::Sts;
use crate::tasks::{Config, Task};

const RELATIVE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const SUBNET: &str = "10.97.0.0/24";
/// The host's address on the network outside.
const HOST: &str = "10.98.0.1";
const INSTANCE_METADATA: &str = "169.254.169.254";

/// A host with an instance metadata service outside of it, which counts who asks, and podman on the host.
pub(crate) struct Machine {
    // In the order in which they are to go.
    pub(crate) podman: Podman,
    pub(crate) sts: Sts,
    host: Netns,
    _outside: Netns,
    pub(crate) venv: Venv,
    asked: Arc<AtomicUsize>,
}

impl Machine {
    /// With 169.254.170.2 on the host's `lo`, or without.
    pub(crate) fn new(host: Result<Netns, String>) -> Result<Self, String> {
        let (venv, host, outside) = (python::venv()?, host?, Netns::bare()?);
        host.join(&format!("{HOST}/24"), &outside, "10.98.0.2/24")?;
        outside.ip(&format!("address add {INSTANCE_METADATA}/32 dev lo"))?;
        outside.ip(&format!("route add default via {HOST}"))?;
        host.ip(&format!("route add {INSTANCE_METADATA}/32 via 10.98.0.2"))?;
        host.set("ipv4/ip_forward", 1)?;
        let nft = host.command("nft").args(["list", "tables"]).output();
        nft.ok().filter(|nft| nft.status.success()).ok_or("there is no nft")?;
        let podman = Podman::new(&host, SUBNET, &venv)?;
        let asked = instance_metadata(&outside);
        let sts = Sts::inside(&host, HOST);
        Ok(Self { podman, sts, host, _outside: outside, venv, asked })
    }

    /// The variables of a task's container.
    fn variables(&self, task: &Task) -> [(&'static str, String); 3] {
        [
            (RELATIVE, task.path()),
            ("AWS_ENDPOINT_URL_STS", self.sts.endpoint.clone()),
            ("AWS_DEFAULT_REGION", "us-west-2".to_owned()),
        ]
    }

    /// `aws sts get-caller-identity`
    fn aws(&self) -> Vec<String> {
        let program = self.venv.program("aws").display().to_string();
        [&program, "sts", "get-caller-identity", "--output", "json"].map(str::to_owned).to_vec()
    }
}

/// What answers in the place of the instance metadata service, and how often it was asked.
fn instance_metadata(outside: &Netns) -> Arc<AtomicUsize> {
    let listener = outside.enter(|| TcpListener::bind((INSTANCE_METADATA, 80)).unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    // It ends with the test process; nobody reaches it once its namespace is gone.
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhosts");
        }
    });
    asked
}

/// `taskcreds network` on the host, for the bridge that podman has made there.
fn network(host: &Netns, state: &Path, action: &str) {
    let bridges = host.command("ip").args(["-o", "link", "show", "type", "bridge"]).output().unwrap();
    let bridges = String::from_utf8(bridges.stdout).unwrap();
    let bridge = bridges.split(": ").nth(1).unwrap();
    let start = rig::taskcreds("network").args(action).env("TASKCREDS_NETWORK_STATE", state);
    let start = if action == "up" { start.arg("--bridge").arg(bridge) } else { start };
    let ended = start.inside(host).run();
    assert_eq!(ended.code(), 0, "{action}: {}{}", ended.stdout, ended.stderr);
}

/// Who the AWS CLI says it is, or what it says of why it is nobody.
fn identity(output: &Output) -> Result<String, String> {
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    Ok(said["Arn"].as_str().unwrap().to_owned())
}

/// What curl in the container is answered: the status, 000 where nobody answers.
fn status(from: &Container<'_>, url: &str) -> String {
    let curl = ["curl", "--silent", "--max-time", "2", "--output", "/dev/null", "--write-out", "%{http_code}", url];
    String::from_utf8(from.run(&[], &curl).stdout).unwrap()
}

#[test]
fn two_containers_on_one_bridge_get_their_own_sessions_and_nothing_else() {
    let Some(machine) = skip::unless("two containers", Machine::new(Netns::new())) else { return };
    let (folder, audit, _, settings) = audited();
    let addresses = ["10.97.0.11", "10.97.0.12"];
    let tasks = [("web", addresses[0]), ("db", addresses[1])]
        .map(|(role, address)| Task::new(role).and(&format!("sources = [\"{address}\"]")));
    let config = Config::with(&format!("listen = [\"169.254.170.2:80\"]\n[audit]\n{settings}"), &tasks);
    let serve = rig::taskcreds("serve").inside(&machine.host).arg("--config").arg(config.file());
    let proxy = serve.envs(machine.sts.environment()).spawn();
    proxy.says("listening on http://169.254.170.2:80");
    let containers: Vec<_> = addresses
        .iter()
        .zip(&tasks)
        .map(|(address, task)| machine.podman.container(address, &machine.variables(task)))
        .collect();
    for (number, (container, task)) in containers.iter().zip(&tasks).enumerate() {
        assert_eq!(identity(&container.run(&[], &machine.aws())).as_ref(), Ok(&task.identity()));
        let others = tasks[1 - number].path();
        let refused = identity(&container.run(&[(RELATIVE, &others)], &machine.aws())).unwrap_err();
        assert!(refused.contains("Credentials not found"), "{refused}");
        assert_eq!(status(container, &format!("http://169.254.170.2{others}")), "400");
    }
    // Without the block a container takes the host's role.
    let metadata = format!("http://{INSTANCE_METADATA}/latest/meta-data/");
    assert_eq!(status(&containers[0], &metadata), "200");
    assert_eq!(machine.asked.swap(0, Ordering::SeqCst), 1);
    let state = folder.path().join("network.json");
    network(&machine.host, &state, "up");
    network(&machine.host, &state, "status");
    for (container, task) in containers.iter().zip(&tasks) {
        assert_eq!(status(container, &metadata), "000");
        let unset = ["env".to_owned(), format!("--unset={RELATIVE}")].into_iter().chain(machine.aws());
        let nobody = identity(&container.run(&[], &unset.collect::<Vec<_>>())).unwrap_err();
        assert!(nobody.contains("Unable to locate credentials"), "{nobody}");
        assert_eq!(identity(&container.run(&[], &machine.aws())).as_ref(), Ok(&task.identity()));
    }
    assert_eq!(machine.asked.load(Ordering::SeqCst), 0);
    network(&machine.host, &state, "down");
    assert_eq!(status(&containers[1], &metadata), "200", "it is as it was");
    assert_eq!(proxy.end().code(), 0);
    for (number, address) in addresses.iter().enumerate() {
        let records = all_records(&audit);
        let from =
            records.iter().filter(|record| record["peer"].as_str().is_some_and(|peer| peer.starts_with(address)));
        let (right, wrong): (Vec<_>, Vec<_>) = from.partition(|record| record["status"] == 200);
        assert!(right.iter().all(|record| record["taskArn"] == tasks[number].arn().as_str()) && right.len() >= 2);
        assert!(wrong.iter().all(|record| record["reason"] == "WrongSource") && wrong.len() >= 2, "{wrong:?}");
    }
}

#[test]
fn in_one_namespace_with_the_proxy_a_container_without_a_capability_is_the_task() {
    let Some(machine) = skip::unless("a pod", Machine::new(Netns::bare())) else { return };
    let task = Task::new("web");
    let config = Config::new(std::slice::from_ref(&task));
    let name = format!("proxy-{}", uuid::Uuid::new_v4().simple());
    let folder = config.file().parent().unwrap().to_owned();
    let run = machine.podman.binary(&name, "NET_ADMIN", &folder, &machine.sts.environment());
    let proxy = rig::taskcreds("serve").under(run).args("--link-local --config").arg(config.file()).spawn();
    proxy.says("listening on http://169.254.170.2:80");
    let output = machine.podman.beside(&name, &machine.variables(&task), &machine.aws());
    assert_eq!(identity(&output).as_ref(), Ok(&task.identity()));
    let healthy = machine.podman.beside(&name, &[], &[rig::binary(), "healthcheck".into()]);
    assert!(healthy.status.success(), "{}", String::from_utf8_lossy(&healthy.stderr));
    // Who shares the namespace cannot do what the proxy does.
    let beside = machine.podman.beside(&name, &[], &["ip", "address", "del", "169.254.170.2/32", "dev", "lo"]);
    assert!(!beside.status.success());
    assert_eq!(proxy.end().code(), 0);
}
