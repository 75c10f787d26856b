//! Runs `nft`, `iptables-restore` and `ip`, here or in a network namespace, and tells all that they say when they fail.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::documents::formats::sh;
use crate::failure::{Exit, Failure};

/// Where these programs are on machines whose users have no such folder in their PATH.
const FOLDERS: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// One program to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    program: &'static str,
    arguments: Vec<String>,
    input: Option<String>,
    space: Option<PathBuf>,
}

impl Call {
    /// A program and its arguments, separated by spaces.
    pub(super) fn new(program: &'static str, arguments: &str) -> Self {
        let arguments = arguments.split(' ').filter(|argument| !argument.is_empty()).map(str::to_owned).collect();
        Self { program, arguments, input: None, space: None }
    }

    /// The same in the network namespace of this file.
    pub(super) fn inside(self, space: Option<&Path>) -> Self {
        Self { space: space.map(Path::to_owned), ..self }
    }

    /// The same with this on its standard input.
    pub(super) fn reading(self, input: String) -> Self {
        Self { input: Some(input), ..self }
    }

    /// The same with one more argument, which may have spaces.
    pub(super) fn with(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Runs it to its end. What it has written to its standard output.
    ///
    /// # Errors
    /// It cannot be run, the namespace has gone, or it fails: all that it says.
    pub(super) fn run(&self) -> Result<String, Failure> {
        let output = match &self.space {
            None => self.output(),
            // A thread of its own, which ends in the namespace that it has entered.
            Some(space) => std::thread::scope(|scope| {
                let inside = || {
                    let file = File::open(space)?;
                    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
                    self.output()
                };
                scope.spawn(inside).join().unwrap_or_else(|_| Err(std::io::Error::other("the thread has panicked")))
            }),
        };
        let output = output.map_err(|error| {
            let exit = if error.kind() == std::io::ErrorKind::PermissionDenied {
                Exit::NoPermission
            } else {
                Exit::Unavailable
            };
            Failure::new(exit, format!("{self}: {error}"))
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let is_refused = ["not permitted", "Permission denied", "must be root"].iter().any(|text| said.contains(text));
        let exit = if is_refused { Exit::NoPermission } else { Exit::Software };
        Err(Failure::new(exit, format!("`{}` failed ({}): {said}", self.line(), output.status)))
    }

    fn output(&self) -> std::io::Result<Output> {
        let program = find(self.program).unwrap_or_else(|| PathBuf::from(self.program));
        let mut command = Command::new(program);
        // What they say is looked at here.
        command.args(&self.arguments).env("LC_ALL", "C").stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if self.input.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = command.spawn()?;
        if let (Some(input), Some(mut stdin)) = (&self.input, child.stdin.take()) {
            // One that has ended early says why.
            let _ = stdin.write_all(input.as_bytes());
        }
        child.wait_with_output()
    }

    fn line(&self) -> String {
        let arguments = self.arguments.iter().map(|argument| sh(argument));
        [self.program.to_owned()].into_iter().chain(arguments).collect::<Vec<_>>().join(" ")
    }
}

/// As a shell takes it.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(space) = &self.space {
            write!(f, "nsenter {} ", sh(&format!("--net={}", space.display())))?;
        }
        f.write_str(&self.line())?;
        match &self.input {
            Some(input) => write!(f, " <<'END'\n{input}END"),
            None => Ok(()),
        }
    }
}

/// Where a program is.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(FOLDERS.iter().map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}
