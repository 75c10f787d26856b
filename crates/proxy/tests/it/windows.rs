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

/// The command of the ENTRYPOINT in a text.
fn entrypoint(text: &str) -> String {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("ENTRYPOINT ")).unwrap();
    let mut words: Vec<String> = serde_json::from_str(line).unwrap();
    words.pop().unwrap()
}

#[test]
fn a_container_without_a_route_does_not_start_its_program_and_ends_as_that_ends() {
    let Some(venv) = skip::unless("the entry point for Windows", python::venv()) else { return };
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/windows");
    let command = entrypoint(include_str!("../../../../docs/network-windows.md"));
    assert_eq!(entrypoint(&fs::read_to_string(deploy.join("container-routes.ps1")).unwrap()), command);
    let statements: Vec<_> = command.split("; ").collect();
    let expected = [
        // A script that is not there or may not be run would be passed over.
        "$ErrorActionPreference = 'Stop'",
        r"C:\container-routes.ps1",
        "if ($LASTEXITCODE) { exit $LASTEXITCODE }",
        r"& C:\program.exe",
        // Of a program that fails PowerShell makes a 1.
        "exit $LASTEXITCODE",
    ];
    assert_eq!(statements, expected);
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("entrypoint.ps1");
    fs::write(&script, &command).unwrap();
    assert_eq!(faults(&venv, &[script]), []);
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
