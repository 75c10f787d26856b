//! The commands, one file each, and what they share.

mod audit;
mod check;
mod definition;
mod dev;
pub(crate) mod embedded;
mod exec;
mod healthcheck;
mod local_endpoints;
#[cfg(target_os = "linux")]
mod network;
pub(crate) mod own_task;
mod policy;
mod serve;
mod signals;
#[cfg(unix)]
mod task;
mod testing;

use std::collections::HashMap;
use std::fmt::Display;
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use self::signals::Signals;
use crate::app::Proxy;
use crate::cli::{self, Cli, Command, is_empty_variable};
use crate::config::{Config, named_twice};
use crate::failure::{Exit, Failure};
use crate::handover::Inherited;
use crate::hardening;
use crate::telemetry::{self, LogLevel};

/// Runs a command to its end.
///
/// # Errors
/// Why it ended early.
pub fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let (level, of_loads) = match (cli.log_level, &cli.command) {
        (Some(level), _) => (level, level),
        (None, Command::Exec(_)) => (LogLevel::Warn, LogLevel::Error),
        (None, _) => (LogLevel::Info, LogLevel::Info),
    };
    telemetry::start(level, of_loads, cli.log_format);
    let environment = environment();
    hardening::apply(&environment)?;
    #[cfg(unix)]
    if matches!(cli.command, Command::Serve(_) | Command::Dev(_)) {
        hardening::limits();
    }
    match cli.command {
        Command::Serve(flags) => {
            // Before the runtime opens descriptors of its own.
            let inherited = Inherited::take(&environment)?;
            runtime()?.block_on(serve::run(flags, &environment, inherited))
        }
        Command::Dev(flags) => runtime()?.block_on(dev::run(flags, &environment)),
        Command::Exec(flags) => runtime()?.block_on(exec::run(flags, &environment)),
        #[cfg(target_os = "linux")]
        Command::Check(flags) if flags.network && flags.config.is_none() => network::check(&flags.state),
        #[cfg(target_os = "linux")]
        Command::Network(flags) => network::run(flags, &environment),
        Command::Check(flags) => runtime()?.block_on(check::run(flags)),
        Command::Healthcheck(flags) => healthcheck::run(&flags),
        Command::Audit(flags) => audit::run(flags),
        Command::Policy(flags) => policy::run(flags),
        Command::Fault(flags) => runtime()?.block_on(testing::fault(flags)),
        Command::Journal(flags) => runtime()?.block_on(testing::journal(flags)),
        #[cfg(unix)]
        Command::Task(flags) => runtime()?.block_on(task::run(flags)),
    }
}

/// The environment. What is no Unicode is none of the variables that are looked at here; a child still inherits it.
pub(crate) fn environment() -> HashMap<String, String> {
    std::env::vars_os()
        .filter(|(name, value)| !is_empty_variable(name, value))
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::software("cannot start the runtime", error))
}

impl cli::Listen {
    /// Puts the flags before what the file says.
    ///
    /// # Errors
    /// An address is named twice: bound, it would be found taken by this program itself.
    fn apply(self, config: &mut Config) -> Result<(), Failure> {
        if let Some(address) = named_twice(&self.listen) {
            return Err(Failure::new(Exit::Usage, format!("--listen names {address} twice: name an address once")));
        }
        if !self.listen.is_empty() {
            config.listen = self.listen;
        }
        config.link_local = self.link_local.unwrap_or(config.link_local);
        Ok(())
    }
}

/// Prints a line to standard output at once; a reader that has gone away is no failure.
fn say(line: impl Display) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Rows whose columns stand one under the other; the first is the head.
fn say_table<const N: usize>(rows: &[[String; N]]) {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        say(cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

/// The first lines of standard output.
fn say_listening(addresses: &[SocketAddr]) {
    for address in addresses {
        say(format!("listening on http://{address}"));
    }
}

/// Serves until a signal asks to stop, and then until what was under way is finished.
async fn run_until_asked_to_stop(proxy: Proxy, mut signals: Signals) {
    let stop = CancellationToken::new();
    let running = proxy.run(stop.clone());
    tokio::pin!(running);
    tokio::select! {
        () = &mut running => {}
        () = signals.asked_to_stop() => {
            tracing::info!("stopping");
            stop.cancel();
            running.await;
        }
    }
}

/// Tells who wants real STS and has an environment that leads elsewhere, as after pasting lines of `dev`.
fn warn_of_another_sts(environment: &HashMap<String, String>) {
    if let Some((name, endpoint)) = crate::aws::sts_endpoint(environment) {
        tracing::warn!("sessions come from {name}={endpoint}, not from AWS: unset it for your own account");
    }
}

/// What is wrong with a configuration, as a failure.
fn config_failure(error: &crate::config::ConfigError) -> Failure {
    Failure::new(if error.is_denied { Exit::NoPermission } else { Exit::Usage }, error.to_string())
}
