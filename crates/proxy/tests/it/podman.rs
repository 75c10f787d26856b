//! Real containers, by podman and runc, with everything of theirs in a folder and in network namespaces of the test's own.
//!
//! They run the host's files, which they see read-only: no registry is needed, and what is tested is what is installed here. What they
//! write goes into a layer that goes with them. `ip netns exec` hides the cgroups from podman, so it is started by `nsenter`.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

use tempfile::TempDir;

use crate::netns::Netns;
use crate::python::Venv;
use crate::rig;

/// podman on a host of its own, with one network.
pub(crate) struct Podman {
    netns_file: String,
    folder: TempDir,
    /// Of the network; unlike every other one of this machine, because CNI remembers its addresses by it.
    network: String,
    /// Folders that containers read, beside the host's root file system.
    folders: Vec<PathBuf>,
    /// Containers that are to be removed.
    started: Mutex<Vec<String>>,
}

/// A running container.
pub(crate) struct Container<'a> {
    podman: &'a Podman,
    id: String,
}

impl Podman {
    /// podman in the namespace, with a bridge network of this subnet; a container is run to see whether it can.
    pub(crate) fn new(host: &Netns, subnet: &str, venv: &Venv) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let binary = PathBuf::from(rig::binary());
        let folders = [venv.folder().parent(), binary.parent()].into_iter().flatten().map(Path::to_owned).collect();
        let network = format!("taskcreds-{}", uuid::Uuid::new_v4().simple());
        let podman = Self { netns_file: host.file(), folder, network, folders, started: Mutex::default() };
        let said = |mut command: Command| {
            let output = command.output().map_err(|error| format!("podman: {error}"))?;
            let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            if output.status.success() { Ok(out.into_owned()) } else { Err(format!("podman: {}", err.trim())) }
        };
        let mut create = podman.command(&["network", "create", "--disable-dns", "--subnet", subnet]);
        create.arg(&podman.network);
        said(create)?;
        let mut run = podman.run(&podman.network, &[]);
        run.args(["--rootfs", "/:O", "true"]);
        said(run)?;
        Ok(podman)
    }

    /// `podman` in the namespace.
    fn command(&self, arguments: &[&str]) -> Command {
        let folder = self.folder.path();
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.netns_file)).arg("podman");
        for (flag, name) in
            [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp"), ("--network-config-dir", "networks")]
        {
            command.arg(flag).arg(folder.join(name));
        }
        command.args(["--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "none"]);
        command.args(["--log-level", "error"]).args(arguments);
        command
    }

    /// `podman run` up to the flags of the container's own.
    fn run(&self, network: &str, variables: &[(&str, String)]) -> Command {
        // The limits: without, the runtime may not raise RLIMIT_NOFILE where it is lower than podman's own.
        let mut run = self.command(&["run", "--rm", "--ulimit", "nofile=4096:4096", "--ulimit", "nproc=1000:1000"]);
        run.args(["--http-proxy=false", "--network", network, "--env", "HOME=/tmp"]);
        for folder in &self.folders {
            run.arg("--volume").arg(format!("{0}:{0}:ro", folder.display()));
        }
        for (name, value) in variables {
            run.arg("--env").arg(format!("{name}={value}"));
        }
        run
    }

    /// A container with this address on the network, in which programs can be run.
    pub(crate) fn container(&self, address: &str, variables: &[(&str, String)]) -> Container<'_> {
        let mut run = self.run(&self.network, variables);
        run.args(["--detach", "--ip", address, "--rootfs", "/:O", "sleep", "600"]);
        let output = run.output().unwrap();
        assert!(output.status.success(), "podman run: {}", String::from_utf8_lossy(&output.stderr));
        let id = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        self.started.lock().unwrap().push(id.clone());
        Container { podman: self, id }
    }

    /// A command line that runs the binary in a container of this name with this capability and this folder; its arguments follow.
    pub(crate) fn binary(&self, name: &str, capability: &str, folder: &Path, variables: &[(&str, String)]) -> Command {
        let mut run = self.run(&self.network, variables);
        run.args(["--name", name, "--cap-add", capability, "--volume"]).arg(format!("{0}:{0}:ro", folder.display()));
        run.args(["--rootfs", "/:O"]).arg(rig::binary());
        self.started.lock().unwrap().push(name.to_owned());
        run
    }

    /// Runs a program to its end in a container that shares the network namespace of this one.
    pub(crate) fn beside(&self, name: &str, variables: &[(&str, String)], program: &[impl AsRef<OsStr>]) -> Output {
        let mut run = self.run(&format!("container:{name}"), variables);
        run.args(["--rootfs", "/:O"]).args(program).output().unwrap()
    }
}

impl Container<'_> {
    /// Runs a program to its end in the container.
    pub(crate) fn run(&self, variables: &[(&str, &str)], program: &[impl AsRef<OsStr>]) -> Output {
        let mut exec = self.podman.command(&["exec"]);
        for (name, value) in variables {
            exec.arg("--env").arg(format!("{name}={value}"));
        }
        exec.arg(&self.id).args(program).output().unwrap()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        for id in self.started.lock().unwrap().iter() {
            let _ = self.command(&["rm", "--force", "--ignore", "--time", "0", id]).output();
        }
        let _ = self.command(&["network", "rm", "--force", &self.network]).output();
        // CNI's own note of the addresses that it has given.
        let _ = std::fs::remove_dir_all(Path::new("/var/lib/cni/networks").join(&self.network));
    }
}
