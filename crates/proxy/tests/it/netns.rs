//! A network namespace of a test's own: loopback up, and 169.254.170.2 on it, as a host that runs tasks has it.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A namespace; removed when dropped.
pub(crate) struct Netns {
    name: String,
}

impl Netns {
    /// Makes one; needs root and iproute2.
    pub(crate) fn new() -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("taskcreds-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        ip(&["netns", "add", &name])?;
        let netns = Self { name };
        ip(&["-n", &netns.name, "link", "set", "lo", "up"])?;
        ip(&["-n", &netns.name, "address", "add", "169.254.170.2/32", "dev", "lo"])?;
        Ok(netns)
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
