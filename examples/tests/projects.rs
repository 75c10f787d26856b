//! The program and the projects of this folder, as their users run them: under `taskcreds exec`, each project with its own package manager and
//! its own lock.
//!
//! Each project is copied into the target folder, so that nothing is installed into the source. A project whose tools are not here is skipped.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The program of this package.
const WHOAMI: &str = env!("CARGO_BIN_EXE_whoami");

/// The program, and the folder that a project was copied to.
struct Project {
    taskcreds: PathBuf,
    folder: PathBuf,
}

/// Says why a test cannot run here, and fails where nothing may be skipped.
fn skip(why: &str) {
    assert_ne!(std::env::var("TASKCREDS_TEST_REQUIRE").as_deref(), Ok("all"), "{why}");
    // Not `println!`, which the test harness captures and drops when a test passes.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("skipped: {why}\n").as_bytes());
}

/// The program, beside this package's own. `None` after the reason was said.
fn taskcreds() -> Option<PathBuf> {
    let program = Path::new(WHOAMI).with_file_name(format!("taskcreds{}", std::env::consts::EXE_SUFFIX));
    if !program.exists() {
        skip(&format!("{} is not built: cargo test --workspace builds it", program.display()));
        return None;
    }
    Some(program)
}

impl Project {
    /// Copies a project and runs what installs its packages. `None` after the reason was said.
    fn installed(name: &str, program: &str, install: &[&str]) -> Option<Self> {
        let taskcreds = taskcreds()?;
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples").join(name);
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join(name), &folder);
        let project = Self { taskcreds, folder };
        match project.command(program).args(install).output() {
            Ok(output) if output.status.success() => Some(project),
            Ok(output) => {
                let said = told(&output);
                skip(&format!("{name}: {program} {}: {}", install.join(" "), said.lines().last().unwrap_or_default()));
                None
            }
            Err(error) => {
                skip(&format!("{name}: {program}: {error}"));
                None
            }
        }
    }

    /// Runs its tests, which must pass.
    fn passes(&self, command: &[&str]) {
        let exec = ["exec", "--emulate", "--session-seconds", "30", "--control", "127.0.0.1:0", "--"];
        let output = self.command(self.taskcreds.to_str().unwrap()).args(exec).args(command).output().unwrap();
        assert!(output.status.success(), "{}", told(&output));
    }

    /// A command in its folder, with the tools' own settings and nothing that leads to AWS.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.folder).env("AWS_EC2_METADATA_DISABLED", "true");
        let leads_elsewhere = |name: &String| name.starts_with("AWS_") || name.starts_with("TASKCREDS_");
        for (name, _) in std::env::vars().filter(|(name, _)| leads_elsewhere(name)) {
            if name != "AWS_EC2_METADATA_DISABLED" {
                command.env_remove(name);
            }
        }
        command
    }
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn an_ordinary_program_is_the_role_that_exec_gives_it() {
    let Some(taskcreds) = taskcreds() else { return };
    let mut exec = Command::new(taskcreds);
    exec.env_clear().env("AWS_EC2_METADATA_DISABLED", "true").args(["exec", "--emulate", "--"]).arg(WHOAMI);
    let output = exec.output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    let identity = String::from_utf8_lossy(&output.stdout);
    assert!(identity.starts_with("arn:aws:sts::111122223333:assumed-role/demo/"), "{}", told(&output));
}

#[test]
fn pytest_sees_a_rotation_and_a_fault_that_passes() {
    let script = "python3 -m venv venv && venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
                  -r requirements.txt";
    if let Some(project) = Project::installed("pytest", "sh", &["-c", script]) {
        project.passes(&["venv/bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--ignore=venv"]);
    }
}

#[test]
fn node_test_sees_a_rotation_and_a_fault_that_passes() {
    if let Some(project) = Project::installed("node-test", "npm", &["ci", "--ignore-scripts"]) {
        project.passes(&["npm", "test"]);
    }
}

#[test]
fn go_test_sees_a_rotation_and_a_fault_that_passes() {
    if let Some(project) = Project::installed("go-test", "go", &["mod", "download"]) {
        project.passes(&["go", "test", "-mod=readonly", "-count=1", "./..."]);
    }
}

#[test]
fn junit_sees_a_rotation_and_a_fault_that_passes() {
    let script = "rm -rf target/lib && mvn -B -q test-compile dependency:copy-dependencies -DoutputDirectory=target/lib && \
                  (cd target/lib && sha256sum *.jar | LC_ALL=C sort -k 2) | cmp - jars.sha256";
    if let Some(project) = Project::installed("junit", "sh", &["-c", script]) {
        project.passes(&["mvn", "-B", "-q", "test"]);
    }
}
