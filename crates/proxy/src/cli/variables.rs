//! Variables beside the flags: one that is empty is not set, as `${X:-}` of a compose file leaves it.

use std::ffi::OsStr;

use clap::builder::Resettable;
use clap::{Command, CommandFactory, Error, FromArgMatches};

use super::Cli;
use super::advice::advised;

impl Cli {
    /// Reads the command line and the variables of this process.
    ///
    /// # Errors
    /// What is wrong with them; help and the version are told as errors too.
    pub fn read() -> Result<Self, Error> {
        let mut command = without_empty_variables(Self::command());
        let matches =
            command.try_get_matches_from_mut(std::env::args_os()).map_err(|error| advised(error, &command))?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut Self::command()))
    }
}

/// Whether this is a variable of ours that says nothing.
#[must_use]
pub fn is_empty_variable(name: &OsStr, value: &OsStr) -> bool {
    value.is_empty() && name.as_encoded_bytes().starts_with(b"TASKCREDS_")
}

/// The same command where no flag asks for a variable that says nothing: clap would take that for a value.
fn without_empty_variables(command: Command) -> Command {
    let says_nothing = |name: &OsStr| std::env::var_os(name).is_some_and(|value| is_empty_variable(name, &value));
    let command = command.mut_args(|arg| match arg.get_env() {
        Some(name) if says_nothing(name) => arg.env(Resettable::Reset),
        _ => arg,
    });
    command.mut_subcommands(without_empty_variables)
}
