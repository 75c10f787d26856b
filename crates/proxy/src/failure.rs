//! How a command ends when it does not succeed: a message for the user and an exit status for whoever called.

use std::fmt;
use std::process::ExitCode;

/// The exit statuses, after BSD's sysexits.h. They are documented in the README.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It was asked how something stands, and it stands otherwise: not healthy, not there, not so.
    Unhealthy = 1,
    /// Wrong flags, or a configuration with faults.
    Usage = 64,
    /// An address, a socket, a device, a program or a folder cannot be used.
    Unavailable = 69,
    /// The machine did not do what it always does.
    Software = 70,
    /// STS could not be reached in time.
    TemporaryFailure = 75,
    /// STS, a trust policy or the system does not allow it.
    NoPermission = 77,
    /// `exec`: CMD was found and cannot be run.
    NotExecutable = 126,
    /// `exec`: CMD was not found.
    NotFound = 127,
}

/// Why a command ended early.
#[derive(Debug)]
pub struct Failure {
    /// The exit status.
    pub exit: Exit,
    /// What happened, where, and what to do next.
    pub message: String,
}

impl Failure {
    /// A failure with its message.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// For what fails only when the machine does.
    pub fn software(doing: &str, error: impl fmt::Display) -> Self {
        Self::new(Exit::Software, format!("{doing}: {error}"))
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
