//! `taskcreds serve`: the tasks of a file, sessions from STS.

use std::collections::HashMap;
use std::process::ExitCode;

use super::signals::Signals;
use super::{config_failure, run_until_asked_to_stop, say, say_listening};
use crate::app::Proxy;
use crate::aws::Base;
use crate::cli;
use crate::config::Config;
use crate::failure::Failure;
use crate::launch;

pub(super) async fn run(flags: cli::Serve, environment: &HashMap<String, String>) -> Result<ExitCode, Failure> {
    let signals = Signals::listen()?;
    let mut config = Config::load(&flags.config).map_err(|error| config_failure(&error))?;
    if !flags.listen.listen.is_empty() {
        config.listen = flags.listen.listen;
    }
    let made_ids = std::mem::take(&mut config.made_ids);
    let proxy = Proxy::start(config, Base::Chain, environment)?;
    let addresses = proxy.addresses();
    say_listening(&addresses);
    for made in made_ids {
        let (name, uri) = launch::uri(&addresses, &made.id);
        say(format!("{} of {}: {name}={uri}", made.role_kind, made.task_arn));
    }
    run_until_asked_to_stop(proxy, signals).await;
    Ok(ExitCode::SUCCESS)
}
