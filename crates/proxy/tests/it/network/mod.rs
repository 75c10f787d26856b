//! `taskcreds network` on real kernels: a host, two containers on its bridge, a neighbour on another link, and an instance metadata
//! service behind the host, each a network namespace.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod layers;
mod lifecycle;
mod matrix;
mod pairs;
mod paths;
mod trouble;
mod units;

use std::io::{Read, Write};
use std::net::TcpListener;

use crate::netns::Netns;
use crate::rig::{self, Ended, Process, Start};
use crate::skip;
use crate::sts::Sts;
use crate::tasks::{Config, Task};

/// The proxy has answered: an id that it does not know.
const REACHED: &str = "400";
/// The instance metadata service has answered.
const METADATA: &str = "200";
/// Nobody has answered.
const NOBODY: &str = "000";

const ENDPOINTS: [&str; 2] = ["169.254.170.2", "[fd00:ec2::23]"];
const IMDS: [&str; 2] = ["169.254.169.254", "[fd00:ec2::254]"];
const BACKENDS: [&str; 2] = ["nft", "iptables"];

/// All of them, and where the state is.
pub(crate) struct World {
    pub(crate) host: Netns,
    pub(crate) one: Netns,
    two: Netns,
    neighbour: Netns,
    _imds: Netns,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Result<Self, String> {
        Self::with_bridge("br0")
    }

    /// The same with another name for the bridge.
    pub(crate) fn with_bridge(bridge: &str) -> Result<Self, String> {
        for program in ["nft", "iptables-restore", "ip6tables-restore", "curl"] {
            let found = std::process::Command::new(program).arg("--version").output();
            found.map_err(|error| format!("{program}: {error}"))?;
        }
        let [host, one, two, neighbour, imds] =
            [Netns::bare()?, Netns::bare()?, Netns::bare()?, Netns::bare()?, Netns::bare()?];
        for netns in [&host, &one, &two, &neighbour, &imds] {
            // Nobody else has these addresses, so nobody is waited for.
            netns.set("ipv6/conf/default/accept_dad", 0)?;
        }
        host.ip(&format!("link add {bridge} type bridge"))?;
        host.ip(&format!("link set {bridge} up"))?;
        host.ip(&format!("address add 10.90.0.1/24 dev {bridge}"))?;
        host.ip(&format!("address add fd90::1/64 dev {bridge} nodad"))?;
        for (container, number) in [(&one, 2), (&two, 3)] {
            let port = container.join(&format!("10.90.0.{number}/24"), &host, "10.89.0.1/32")?;
            host.ip(&format!("link set {port} master {bridge}"))?;
            let inside = port.replace("tcr", "tcl");
            container.ip(&format!("address add fd90::{number}/64 dev {inside} nodad"))?;
            container.ip("route add default via 10.90.0.1")?;
            container.ip("route add default via fd90::1")?;
        }
        for (other, number) in [(&neighbour, 91), (&imds, 92)] {
            let there = other.join(&format!("10.{number}.0.2/24"), &host, &format!("10.{number}.0.1/24"))?;
            host.ip(&format!("address add fd{number}::1/64 dev {there} nodad"))?;
            let inside = there.replace("tcr", "tcl");
            other.ip(&format!("address add fd{number}::2/64 dev {inside} nodad"))?;
            other.ip(&format!("route add default via 10.{number}.0.1"))?;
            other.ip(&format!("route add default via fd{number}::1"))?;
        }
        imds.ip("address add 169.254.169.254/32 dev lo")?;
        imds.ip("address add fd00:ec2::254/128 dev lo nodad")?;
        host.ip("route add 169.254.169.254/32 via 10.92.0.2")?;
        host.ip("route add fd00:ec2::254/128 via fd92::2")?;
        host.set("ipv4/ip_forward", 1)?;
        host.set("ipv6/conf/all/forwarding", 1)?;
        for address in IMDS {
            let listener =
                imds.enter(|| TcpListener::bind(format!("{address}:80"))).map_err(|error| error.to_string())?;
            std::thread::spawn(move || metadata(&listener));
        }
        Ok(Self { host, one, two, neighbour, _imds: imds, folder: tempfile::tempdir().unwrap() })
    }

    /// `None` after the reason was said.
    fn unless(test: &str) -> Option<Self> {
        skip::unless(test, Self::new())
    }

    /// `taskcreds network` in the host.
    fn start(&self, arguments: &str) -> Start {
        self.command("network", arguments)
    }

    fn command(&self, command: &str, arguments: &str) -> Start {
        let start = rig::taskcreds(command).args(arguments).env("TASKCREDS_NETWORK_STATE", self.state());
        start.inside(&self.host)
    }

    pub(crate) fn state(&self) -> std::path::PathBuf {
        self.folder.path().join("state/network.json")
    }

    fn run(&self, arguments: &str) -> Ended {
        self.start(arguments).run()
    }

    /// What it says when it succeeds.
    fn done(&self, arguments: &str) -> String {
        let ended = self.run(arguments);
        assert_eq!(ended.code(), 0, "{arguments}: {}{}", ended.stdout, ended.stderr);
        ended.stdout
    }

    /// A proxy in the host, with these lines in its configuration.
    fn serve(&self, listen: &[&str], more: &str) -> Process {
        self.serve_tasks(listen, more, &[Task::with_token("web")])
    }

    fn serve_tasks(&self, listen: &[&str], more: &str, tasks: &[Task]) -> Process {
        let (sts, config) = (Sts::new(), Config::with(&format!("listen = {listen:?}\n{more}"), tasks));
        let start = rig::taskcreds("serve").arg("--config").arg(config.file()).envs(sts.environment());
        let proxy = start.env("TASKCREDS_NETWORK_STATE", self.state()).inside(&self.host).spawn();
        proxy.says("listening on ");
        proxy
    }

    /// Those of iptables' own that it leaves behind, so that they are there before.
    fn empty_chains(&self) {
        self.sh("for program in iptables ip6tables; do
  $program -P INPUT ACCEPT; $program -P FORWARD ACCEPT; $program -t mangle -P FORWARD ACCEPT
  $program -t nat -P PREROUTING ACCEPT; $program -t nat -P OUTPUT ACCEPT; $program -t raw -P PREROUTING ACCEPT
done");
    }

    /// A shell in the host.
    fn sh(&self, script: &str) -> String {
        sh(&self.host, script)
    }
}

fn metadata(listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        let mut stream = stream;
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
}

fn sh(netns: &Netns, script: &str) -> String {
    let output = netns.command("sh").args(["-euc", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Where a proxy listens that answers at both addresses.
fn listen(nat: bool) -> [&'static str; 2] {
    [if nat { "127.0.0.1:51679" } else { "169.254.170.2:80" }, "[fd00:ec2::23]:80"]
}

/// Asks all at once, because who is not answered waits. Each row: who, from where, an address, what is to come of it.
fn all(what: &str, rows: &[(&str, &Netns, &str, &str)]) {
    std::thread::scope(|scope| {
        let asking = rows.iter().map(|(who, from, address, expected)| {
            (who, address, expected, scope.spawn(move || ask(from, &format!("http://{address}/v2/credentials/nobody"))))
        });
        let asking: Vec<_> = asking.collect();
        let wrong: Vec<_> = asking
            .into_iter()
            .filter_map(|(who, address, expected, asking)| {
                let got = asking.join().unwrap();
                (got != **expected).then(|| format!("{who} at {address}: {got} instead of {expected}"))
            })
            .collect();
        assert!(wrong.is_empty(), "{what}: {wrong:#?}");
    });
}

fn ask(from: &Netns, url: &str) -> String {
    let mut curl = from.command("curl");
    curl.args(["--silent", "--noproxy", "*", "--connect-timeout", "1", "--max-time", "4", "--output", "/dev/null"]);
    String::from_utf8(curl.args(["--write-out", "%{http_code}", url]).output().unwrap().stdout).unwrap()
}
