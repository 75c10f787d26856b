//! `taskcreds network`: what is asked for, what comes of it, and the watch that puts back what others wipe.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::signals::Signals;
use super::{healthcheck, runtime, say, say_table};
use crate::cli::{self, NetworkAction};
use crate::config::Manage;
use crate::failure::{Exit, Failure};
use crate::network::request::Request;
use crate::network::{self, report};

/// How often the watch looks.
const WATCH_EVERY: Duration = Duration::from_secs(2);

pub(super) fn run(flags: cli::Network, environment: &HashMap<String, String>) -> Result<ExitCode, Failure> {
    let state = flags.state.as_path();
    match flags.action {
        NetworkAction::Up(up) => {
            let (print, is_watched, request) = (up.print, up.watch, Request::from(up));
            if print {
                network::print(&request, environment, state)?.iter().for_each(say);
                return Ok(ExitCode::SUCCESS);
            }
            for note in network::up(&request, environment, state)? {
                tracing::info!("{note}");
            }
            say("169.254.170.2 is set up");
            if is_watched {
                runtime()?.block_on(async {
                    let mut signals = Signals::listen()?;
                    say("watching");
                    watch(state.to_owned(), signals.asked_to_stop()).await;
                    Ok::<_, Failure>(())
                })?;
            }
            Ok(ExitCode::SUCCESS)
        }
        NetworkAction::Down { netns } => {
            network::down(netns.as_deref(), state)?.iter().for_each(say);
            Ok(ExitCode::SUCCESS)
        }
        NetworkAction::Status => status(state),
    }
}

fn status(state: &Path) -> Result<ExitCode, Failure> {
    let parts = network::status(state)?;
    for part in &parts {
        say(format!("{}  {}", if part.is_there { "there  " } else { "MISSING" }, part.what));
    }
    let missing = parts.iter().filter(|part| !part.is_there).count();
    match (parts.len(), missing) {
        (0, _) => Err(Failure::new(Exit::Unhealthy, "nothing is set up: `taskcreds network up`")),
        (_, 0) => Ok(ExitCode::SUCCESS),
        (_, missing) => {
            let why = format!(
                "{missing} missing: the same `taskcreds network up` as before puts it back, with --watch whenever that is needed"
            );
            Err(Failure::new(Exit::Unhealthy, why))
        }
    }
}

/// What `[network] manage` has set up, for [`watch`]: where that is kept. It outlives the proxy, so that a restart cuts nobody off.
pub(super) fn manage(
    wanted: Option<&Manage>,
    environment: &HashMap<String, String>,
) -> Result<Option<PathBuf>, Failure> {
    let Some(wanted) = wanted else { return Ok(None) };
    let bridges = wanted.bridges.iter().map(|name| name.parse());
    let bridges = bridges.collect::<Result<_, _>>().map_err(|error: &str| Failure::new(Exit::Usage, error))?;
    let nat = wanted.nat.then_some(crate::config::DEFAULT_PORT);
    let request = Request { bridges, nat, ipv6: wanted.ipv6, early: true, ..Request::default() };
    let state = environment.get("TASKCREDS_NETWORK_STATE").map_or(network::STATE, String::as_str);
    let state = PathBuf::from(state);
    for note in network::up(&request, environment, &state)? {
        tracing::info!("{note}");
    }
    Ok(Some(state))
}

/// Puts back what others wipe, until the end.
pub(super) async fn watch(state: PathBuf, end: impl Future<Output = ()>) {
    let (mut tick, mut last) = (tokio::time::interval(WATCH_EVERY), None);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => return,
            _ = tick.tick() => last = look(state.clone(), last).await,
        }
    }
}

/// Looks once, off the runtime. What could not be put back, which is told once.
async fn look(state: PathBuf, last: Option<String>) -> Option<String> {
    let looked = tokio::task::spawn_blocking(move || network::repair(&state)).await;
    match looked.unwrap_or_else(|error| Err(Failure::software("the watch of the network has failed", error))) {
        Ok(missing) => {
            for what in missing {
                tracing::warn!("put back, after somebody took it away: {what}");
            }
            None
        }
        Err(failure) => {
            if last.as_ref() != Some(&failure.message) {
                tracing::error!("the network cannot be mended: {}", failure.message);
            }
            Some(failure.message)
        }
    }
}

/// `taskcreds check --network`
pub(super) fn check(state: &Path) -> Result<ExitCode, Failure> {
    let rows = report::report(state, |address| healthcheck::is_healthy(address).unwrap_or(false))?;
    let mut table = vec![["FROM", "TO", "", "IS"].map(str::to_owned)];
    table.extend(rows.iter().map(|row| {
        let mark = if row.mend.is_some() { "NOT SO" } else { "ok" };
        [row.from.clone(), row.to.to_owned(), mark.to_owned(), row.is.clone()]
    }));
    say_table(&table);
    let mut mends: Vec<_> = rows.iter().filter_map(|row| row.mend.as_deref()).collect();
    let mut told = HashSet::new();
    mends.retain(|mend| told.insert(*mend));
    if mends.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    say("\nTo mend it:");
    mends.iter().for_each(|mend| say(format!("  {mend}")));
    Err(Failure::new(Exit::Unhealthy, "the network is not as it should be"))
}
