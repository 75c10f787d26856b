//! Virtual environments, made once and kept in the target folder: one with boto3, the AWS CLI and moto, one with ministack, whose botocore
//! is another.
//!
//! The only thing in this suite that may use the network, by pip and under the user's own settings for it; what it installs is
//! pinned in `tests/files/requirements*.txt`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const REQUIREMENTS: &str = include_str!("../files/requirements.txt");
const MINISTACK: &str = include_str!("../files/requirements-ministack.txt");

/// The virtual environment.
#[derive(Clone)]
pub(crate) struct Venv(PathBuf);

impl Venv {
    /// A program of the environment.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// The folder of its programs, for PATH.
    pub(crate) fn folder(&self) -> PathBuf {
        self.0.join("bin")
    }
}

/// The environment, made if need be.
pub(crate) fn venv() -> Result<Venv, String> {
    static VENV: OnceLock<Result<Venv, String>> = OnceLock::new();
    VENV.get_or_init(|| make(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("python"), REQUIREMENTS).map(Venv)).clone()
}

/// The environment of ministack, made if need be.
pub(crate) fn ministack() -> Result<Venv, String> {
    static VENV: OnceLock<Result<Venv, String>> = OnceLock::new();
    VENV.get_or_init(|| make(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("ministack"), MINISTACK).map(Venv)).clone()
}

fn make(folder: &Path, required: &str) -> Result<PathBuf, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    fs::create_dir_all(folder).map_err(failed)?;
    // Other test processes may be here too; the lock goes with the file.
    let lock = fs::File::create(folder.join("lock")).map_err(failed)?;
    lock.lock().map_err(failed)?;
    let (venv, marker) = (folder.join("venv"), folder.join("installed.txt"));
    if fs::read_to_string(&marker).is_ok_and(|installed| installed == required) {
        return Ok(venv);
    }
    let _ = fs::remove_file(&marker);
    let _ = fs::remove_dir_all(&venv);
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, required).map_err(failed)?;
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--requirement"]);
    run(pip.arg(&requirements))?;
    fs::write(&marker, required).map_err(failed)?;
    Ok(venv)
}

fn run(command: &mut Command) -> Result<(), String> {
    let what = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{what}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&output.stderr);
    Err(format!("{what} {}: {}", output.status, told.lines().next_back().unwrap_or_default()))
}
