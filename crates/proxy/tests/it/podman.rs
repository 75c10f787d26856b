//! Real containers, by podman and runc, with everything of theirs in a folder and in network namespaces of the test's own.
//!
//! They run the host's files, which they see read-only, or images made here: no registry is needed, and what is tested is what is
//! installed here. What they write goes with the folder. `ip netns exec` hides the cgroups from podman, so it is started by `nsenter`.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::netns::Netns;
use crate::python::Venv;
use crate::rig;

/// podman on a host of its own, with one network.
pub(crate) struct Podman {
    folder: TempDir,
    /// The network, named unlike every other one of this machine: CNI remembers its addresses by it.
    pub(crate) network: String,
    /// Folders that containers read, beside the host's root file system.
    folders: Vec<PathBuf>,
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
        let podman = Self { folder, network, folders };
        podman.write(host)?;
        podman.said(["network", "create", "--disable-dns", "--subnet", subnet, &podman.network])?;
        said(podman.run(&podman.network, &[]).args(["--rootfs", "/:O", "true"]))?;
        Ok(podman)
    }

    /// Its settings, and the program that is podman with them.
    fn write(&self, host: &Netns) -> Result<(), String> {
        let installed = Command::new("sh").args(["-c", "command -v podman"]).output().unwrap();
        let installed = String::from_utf8(installed.stdout).unwrap().trim().to_owned();
        if installed.is_empty() {
            return Err("there is no podman".to_owned());
        }
        let folder = self.folder.path().display();
        // Without the limits the runtime may not raise RLIMIT_NOFILE, where it is lower than podman's own.
        let settings = format!(
            "[containers]\ndefault_ulimits = [\"nofile=4096:4096\", \"nproc=1000:1000\"]\nhttp_proxy = false\n\
             [engine]\ninfra_image = \"{}\"\n",
            Self::PAUSE
        );
        fs::write(self.folder.path().join("containers.conf"), settings).unwrap();
        let script = format!(
            "#!/bin/sh\nexport CONTAINERS_CONF={folder}/containers.conf\nexec nsenter --net={} {installed} --root {folder}/root \
             --runroot {folder}/run --tmpdir {folder}/tmp --network-config-dir {folder}/networks --runtime runc \
             --cgroup-manager cgroupfs --events-backend none --log-level error \"$@\"\n",
            host.file()
        );
        fs::create_dir(self.folder.path().join("bin")).unwrap();
        fs::write(self.program(), script).unwrap();
        fs::set_permissions(self.program(), fs::Permissions::from_mode(0o755)).unwrap();
        Ok(())
    }

    /// The image of the container that holds the namespace of a pod.
    pub(crate) const PAUSE: &str = "localhost/pause:1";

    /// podman, as a program of its own.
    pub(crate) fn program(&self) -> PathBuf {
        self.folder.path().join("bin/podman")
    }

    fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(self.program());
        command.args(arguments);
        command
    }

    /// What it says when it succeeds.
    pub(crate) fn said<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<String, String> {
        said(&mut self.command(arguments))
    }

    /// What a container has written to its standard error.
    pub(crate) fn log(&self, container: &str) -> String {
        String::from_utf8(self.command(["logs", container]).output().unwrap().stderr).unwrap()
    }

    /// `podman run` up to the flags of the container's own.
    fn run(&self, network: &str, variables: &[(&str, String)]) -> Command {
        let mut run = self.command(["run", "--rm", "--network", network, "--env", "HOME=/tmp"]);
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
        let id = said(run.args(["--detach", "--ip", address, "--rootfs", "/:O", "sleep", "600"])).unwrap();
        Container { podman: self, id: id.trim().to_owned() }
    }

    /// A command line that runs the binary in a container of this name with this capability and this folder; its arguments follow.
    pub(crate) fn binary(&self, name: &str, capability: &str, folder: &Path, variables: &[(&str, String)]) -> Command {
        let mut run = self.run(&self.network, variables);
        run.args(["--name", name, "--cap-add", capability, "--volume"]).arg(format!("{0}:{0}:ro", folder.display()));
        run.args(["--rootfs", "/:O"]).arg(rig::binary());
        run
    }

    /// Runs a program to its end in a container that shares the network namespace of this one.
    pub(crate) fn beside(&self, name: &str, variables: &[(&str, String)], program: &[impl AsRef<OsStr>]) -> Output {
        let mut run = self.run(&format!("container:{name}"), variables);
        run.args(["--rootfs", "/:O"]).args(program).output().unwrap()
    }

    /// An image with busybox alone, which does this.
    pub(crate) fn busybox(&self, image: &str, script: &str) -> Result<(), String> {
        let files = tempfile::tempdir().unwrap();
        fs::copy("/bin/busybox", files.path().join("busybox")).map_err(|error| format!("/bin/busybox: {error}"))?;
        let entrypoint = serde_json::json!(["/busybox", "sh", "-c", script]);
        let archive = files.path().with_extension("tar");
        said(Command::new("tar").arg("-cf").arg(&archive).arg("-C").args([files.path(), Path::new("busybox")]))?;
        let change = format!("ENTRYPOINT {entrypoint}");
        let made =
            self.said([OsStr::new("import"), "--change".as_ref(), change.as_ref(), archive.as_ref(), image.as_ref()]);
        fs::remove_file(archive).unwrap();
        made.map(drop)
    }
}

/// What a program says when it succeeds.
pub(crate) fn said(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{}: {}", command.get_program().display(), String::from_utf8_lossy(&output.stderr).trim()))
}

impl Container<'_> {
    /// Runs a program to its end in the container.
    pub(crate) fn run(&self, variables: &[(&str, &str)], program: &[impl AsRef<OsStr>]) -> Output {
        let mut exec = self.podman.command(["exec"]);
        for (name, value) in variables {
            exec.arg("--env").arg(format!("{name}={value}"));
        }
        exec.arg(&self.id).args(program).output().unwrap()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // All that there are in the folder: no others.
        let _ = self.said(["pod", "rm", "--force", "--all", "--time", "0"]);
        let _ = self.said(["rm", "--force", "--all", "--time", "0"]);
        // CNI's own notes of the addresses that it has given, to this network and to compose's.
        for network in [self.network.clone(), format!("{}_default", self.network)] {
            let _ = fs::remove_dir_all(Path::new("/var/lib/cni/networks").join(network));
        }
    }
}
