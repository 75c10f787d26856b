//! A network namespace of a test's own: loopback up, and 169.254.170.2 on it, as a host that runs tasks has it, or not yet.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A namespace; removed when dropped.
pub(crate) struct Netns {
    name: String,
}

impl Netns {
    /// Makes one; needs root and iproute2.
    pub(crate) fn new() -> Result<Self, String> {
        let netns = Self::bare()?;
        netns.ip("address add 169.254.170.2/32 dev lo")?;
        Ok(netns)
    }

    /// Makes one without 169.254.170.2.
    pub(crate) fn bare() -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("taskcreds-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        ip(&["netns", "add", &name])?;
        let netns = Self { name };
        ip(&["-n", &netns.name, "link", "set", "lo", "up"])?;
        Ok(netns)
    }

    /// Runs this on a thread in the namespace; the threads and processes that it starts are there as well.
    pub(crate) fn enter<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            let netns = File::open(self.file()).unwrap();
            move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            run()
        };
        let ended = std::thread::scope(|scope| scope.spawn(inside).join());
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    pub(crate) fn file(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// Joins it to another one by a pair of interfaces, each with its address and prefix length. The name of the one over there.
    pub(crate) fn join(&self, own: &str, other: &Self, others: &str) -> Result<String, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = format!("{}{}", std::process::id() % 10_000, NEXT.fetch_add(1, Ordering::Relaxed));
        let (left, right) = (format!("tcl{number}"), format!("tcr{number}"));
        let there = ["name", &right, "netns", &other.name];
        ip(&[&["-n", &self.name, "link", "add", &left, "type", "veth", "peer"][..], &there[..]].concat())?;
        for (netns, device, address) in [(self, &left, own), (other, &right, others)] {
            netns.ip(&format!("address add {address} dev {device}"))?;
            netns.ip(&format!("link set {device} up"))?;
        }
        Ok(right)
    }

    /// `ip` in the namespace.
    pub(crate) fn ip(&self, arguments: &str) -> Result<(), String> {
        ip(&["-n", &self.name].into_iter().chain(arguments.split(' ')).collect::<Vec<_>>())
    }

    /// Sets a value below /proc/sys/net in the namespace.
    pub(crate) fn set(&self, key: &str, value: u32) -> Result<(), String> {
        let script = format!("echo {value} > /proc/sys/net/{key}");
        let status = self.command("sh").args(["-c", &script]).status().map_err(|error| error.to_string())?;
        if status.success() { Ok(()) } else { Err(format!("{key} cannot be set")) }
    }

    /// A program in the namespace. `ip netns exec` becomes the program, so its process id is the program's.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = ip(&["netns", "delete", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let what = format!("ip {}", arguments.join(" "));
    let output = Command::new("ip").args(arguments).output().map_err(|error| format!("{what}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{what}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
