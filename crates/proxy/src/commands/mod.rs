//! The commands, one file each, and what they share.

mod check;
mod dev;
mod embedded;
mod exec;
mod healthcheck;
mod serve;
mod signals;

use std::collections::HashMap;
use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use tokio::runtime::Runtime;

use crate::cli::{Cli, Command};
use crate::failure::{Exit, Failure};
use crate::telemetry::{self, LogLevel};

/// Runs a command to its end.
///
/// # Errors
/// Why it ended early.
pub fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let log_level = cli.log_level.unwrap_or(match cli.command {
        Command::Exec(_) => LogLevel::Warn,
        _ => LogLevel::Info,
    });
    telemetry::start(log_level, cli.log_format);
    let environment: HashMap<String, String> = std::env::vars().collect();
    match cli.command {
        Command::Serve(flags) => runtime()?.block_on(serve::run(flags, &environment)),
        Command::Dev(flags) => runtime()?.block_on(dev::run(flags, &environment)),
        Command::Exec(flags) => runtime()?.block_on(exec::run(flags, &environment)),
        Command::Check(flags) => runtime()?.block_on(check::run(flags)),
        Command::Healthcheck(flags) => healthcheck::run(&flags),
    }
}

fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::software("cannot start the runtime", error))
}

/// Prints a line to standard output at once; a reader that has gone away is no failure.
fn say(line: impl Display) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// What is wrong with a configuration, as a failure.
fn config_failure(error: &crate::config::ConfigError) -> Failure {
    Failure::new(Exit::Usage, error.to_string())
}
