//! `taskcreds serve`: the tasks of a file, sessions from STS.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{config_failure, say, signals};
use crate::app::{Listeners, Proxy};
use crate::aws::{Base, Sts, points_at_itself};
use crate::cli;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::http::guard::AllowedHosts;

pub(super) async fn run(flags: cli::Serve, environment: &HashMap<String, String>) -> Result<ExitCode, Failure> {
    let mut config = Config::load(&flags.config).map_err(|error| config_failure(&error))?;
    if !flags.listen.listen.is_empty() {
        config.listen = flags.listen.listen;
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let hosts = AllowedHosts::with(config.allowed_hosts);
    let proxy = Proxy::new(config.tasks, Arc::new(Sts::new(Base::Chain)), config.budget, hosts)?;
    let listeners = Listeners::bind(&config.listen)?;
    refuse_itself(environment, &listeners.addresses(), &proxy)?;
    say_listening(&listeners.addresses());
    for made in &config.made_ids {
        let (arn, kind, id) = (&made.task_arn, made.role_kind, made.id.expose());
        say(format!("{kind} of {arn}: AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/v2/credentials/{id}"));
    }
    serve_until_asked_to_stop(proxy, listeners).await;
    Ok(ExitCode::SUCCESS)
}

/// Refuses to start where the proxy would ask itself for its own credentials.
pub(super) fn refuse_itself(
    environment: &HashMap<String, String>,
    listening: &[SocketAddr],
    proxy: &Proxy,
) -> Result<(), Failure> {
    match points_at_itself(environment, listening, proxy.registry()) {
        Some(reason) => Err(Failure::new(Exit::Usage, reason)),
        None => Ok(()),
    }
}

/// The first lines of standard output.
pub(super) fn say_listening(addresses: &[SocketAddr]) {
    for address in addresses {
        say(format!("listening on http://{address}"));
    }
}

pub(super) async fn serve_until_asked_to_stop(proxy: Proxy, listeners: Listeners) {
    let stop = CancellationToken::new();
    let running = proxy.run(listeners, stop.clone());
    tokio::pin!(running);
    tokio::select! {
        () = &mut running => {}
        () = signals::asked_to_stop() => {
            stop.cancel();
            running.await;
        }
    }
}
