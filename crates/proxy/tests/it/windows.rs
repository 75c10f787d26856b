//! The scripts of deploy/windows, as far as that can be told without Windows: they are parsed, and read alike by every Windows.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use crate::python::{self, Venv};
use crate::rig::clean;
use crate::skip;

const SYNTAX: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/files/syntax.py");

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/windows");
    let mut scripts: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.sort();
    scripts
}

/// What is no PowerShell and no batch file in these: name, line and text.
fn faults(venv: &Venv, scripts: &[PathBuf]) -> Vec<(String, u32, String)> {
    let home = tempfile::tempdir().unwrap();
    let mut parse = clean(std::process::Command::new(venv.program("python")), home.path());
    let output = parse.arg(SYNTAX).args(scripts).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_scripts_are_powershell_and_batch_files_without_a_syntax_error() {
    let Some(venv) = skip::unless("the scripts for Windows", python::venv()) else { return };
    assert_eq!(faults(&venv, &scripts()), []);
}

#[test]
fn a_script_that_lacks_a_brace_or_a_parenthesis_is_found() {
    let Some(venv) = skip::unless("the scripts for Windows", python::venv()) else { return };
    let folder = tempfile::tempdir().unwrap();
    for script in scripts() {
        let text = fs::read_to_string(&script).unwrap();
        let broken = folder.path().join(script.file_name().unwrap());
        let (from, to) =
            if script.extension().is_some_and(|of| of == "ps1") { ("}\r\n", "\r\n") } else { (" (\r\n", " \r\n") };
        assert!(text.contains(from), "{}", script.display());
        fs::write(&broken, text.replacen(from, to, 1)).unwrap();
        assert!(!faults(&venv, &[broken]).is_empty(), "{}", script.display());
    }
}

#[test]
fn the_scripts_are_read_alike_by_every_windows() {
    let mut seen = Vec::new();
    for script in scripts() {
        let text = fs::read_to_string(&script).unwrap();
        let name = script.file_name().unwrap().to_string_lossy().into_owned();
        // PowerShell 5.1 takes a file without a mark for one of the machine's own code page; cmd.exe needs lines that end in CR LF.
        assert!(text.is_ascii(), "{name}");
        assert!(text.lines().count() > 20 && text.matches('\n').count() == text.matches("\r\n").count(), "{name}");
        assert!(text.contains("169.254.170.2"), "{name}");
        seen.push(name);
    }
    assert_eq!(seen, ["container-routes.cmd", "container-routes.ps1", "host-network.ps1"]);
}
