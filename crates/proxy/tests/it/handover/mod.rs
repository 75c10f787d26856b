//! A restart that nobody notices.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod sessions;
mod sockets;

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use crate::gate::Gate;
use crate::rig::{self, Start};
use crate::sts::Sts;

const ALL_SEALS: SealFlags = SealFlags::WRITE.union(SealFlags::GROW).union(SealFlags::SHRINK).union(SealFlags::SEAL);

/// An STS that can be taken away and given back, and the calls that were tried meanwhile.
struct Upstream {
    sts: Sts,
    gate: Gate,
}

impl Upstream {
    fn new() -> Self {
        let sts = Sts::new();
        let gate = Gate::before(&sts.endpoint);
        gate.open();
        Self { sts, gate }
    }

    /// `serve` with this file, which a restart reads again.
    fn serve(&self, file: &Path) -> Start {
        let start = rig::taskcreds("serve").arg("--config").arg(file).args("--listen 127.0.0.1:0");
        start.envs(self.sts.environment_at(&self.gate.endpoint))
    }
}

/// A memory with these bytes and seals.
fn memory(bytes: &[u8], seals: SealFlags) -> OwnedFd {
    let mut memory = File::from(memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap());
    memory.write_all(bytes).unwrap();
    fcntl_add_seals(&memory, seals).unwrap();
    memory.into()
}
