//! `taskcreds dev`: the proxy on a laptop, with an embedded STS or with the real one through the user's own profile.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::ExitCode;

use taskcreds_core::{CredentialsId, NewTask, Token};
use tokio_util::sync::CancellationToken;

use super::signals::Signals;
use super::{config_failure, embedded, own_task, run_until_asked_to_stop, say, say_listening, warn_of_another_sts};
use crate::app::Proxy;
use crate::aws::{Base, own_region_name};
use crate::cli;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::handover::Sockets;
use crate::http::is_local;
use crate::launch::{self, Launch, Surroundings, default_profiles};

/// What is printed for one task.
struct Shown {
    heading: String,
    id: CredentialsId,
    token: Token,
}

pub(super) async fn run(flags: cli::Dev, environment: &HashMap<String, String>) -> Result<ExitCode, Failure> {
    let signals = Signals::listen()?;
    let region = own_region_name().await;
    let mut config = match &flags.config {
        Some(file) => Config::load(file).map_err(|error| config_failure(&error))?,
        None => Config::default(),
    };
    if config.admin.take().is_some() {
        tracing::warn!("dev makes no admin socket: [admin] is for serve");
    }
    if !flags.listen.listen.is_empty() {
        config.listen = flags.listen.listen;
    }
    config.link_local |= flags.listen.link_local;
    if let Some(address) = config.listen.iter().find(|address| !is_local(address.ip())) {
        let message = format!("dev listens on loopback and 169.254.170.2 only, not on {address}; use serve");
        return Err(Failure::new(Exit::Usage, message));
    }
    for (name, role_arn) in flags.roles {
        config.tasks.push(own_task::for_this_run(&name, role_arn, region.as_deref(), flags.session_tags)?);
    }
    if config.tasks.is_empty() && flags.aws {
        let message = "which role? Give --role NAME=ARN of your account with --aws, or --config FILE";
        return Err(Failure::new(Exit::Usage, message));
    }
    if config.tasks.is_empty() {
        config.tasks.push(own_task::for_this_run(
            "demo",
            own_task::demo_role()?,
            region.as_deref(),
            flags.session_tags,
        )?);
    }
    let shown: Vec<Shown> = config.tasks.iter_mut().map(show).collect();
    let account = config.tasks.first().map_or("111122223333", |task| task.spec.role_arn.account()).to_owned();
    let stop_sts = CancellationToken::new();
    let (base, surroundings) = if flags.aws {
        warn_of_another_sts(environment);
        (Base::Chain, Surroundings { region, embedded_sts: None })
    } else {
        let (base, endpoint) = embedded::start(&account, stop_sts.clone()).await?;
        let region = region.or_else(|| Some(own_task::DEFAULT_REGION.to_owned()));
        (base, Surroundings { region, embedded_sts: Some(endpoint) })
    };
    let proxy = Proxy::start(config, base, environment, Sockets::default())?;
    let addresses = proxy.addresses();
    let folder = launch::private_folder()?;
    say_listening(&addresses);
    for (number, task) in shown.iter().enumerate() {
        let file = format!("token-{number}");
        let launch = Launch::new(&addresses, &task.id, task.token.clone(), folder.path(), &file, surroundings.clone())?;
        say_lines(task, &launch, &addresses, environment);
    }
    say_where_sessions_come_from(&surroundings);
    run_until_asked_to_stop(proxy, signals).await;
    stop_sts.cancel();
    Ok(ExitCode::SUCCESS)
}

fn show(task: &mut NewTask) -> Shown {
    let token = own_task::token_of(task);
    let family =
        task.spec.tags.iter().find(|tag| tag.key() == "ecs-task-family").map(|tag| format!("{}: ", tag.value()));
    let heading = format!("{}{} {} of {}", family.unwrap_or_default(), task.role_kind, task.spec.role_arn, task.arn);
    Shown { heading, id: task.id.clone(), token }
}

fn say_lines(task: &Shown, launch: &Launch, addresses: &[SocketAddr], environment: &HashMap<String, String>) {
    let set = launch.set(environment);
    let removed = launch.removed();
    let hidden = default_profiles(environment);
    say(format!("\n# {}", task.heading));
    if addresses.contains(&SocketAddr::from((crate::http::LINK_LOCAL, 80))) {
        say(format!("# on 169.254.170.2: AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/v2/credentials/{}", task.id.expose()));
    }
    for (_, file) in &hidden {
        say(format!(
            "# The default profile in {} has credentials, which SDKs take before these: the lines hide it.",
            file.display()
        ));
    }
    say("# sh:");
    say(format!("unset {}", removed.join(" ")));
    for (name, value) in &set {
        say(format!("export {name}={}", sh(value)));
    }
    for (variable, _) in &hidden {
        say(format!("export {variable}=/dev/null"));
    }
    say("# PowerShell:");
    let drives: Vec<_> = removed.iter().map(|name| format!("Env:{name}")).collect();
    say(format!("Remove-Item -ErrorAction SilentlyContinue {}", drives.join(", ")));
    for (name, value) in &set {
        say(format!("$env:{name} = '{}'", value.replace('\'', "''")));
    }
    for (variable, _) in &hidden {
        say(format!("$env:{variable} = 'NUL'"));
    }
    say("# compose file, under the service, whose containers share this machine's loopback:");
    say("    network_mode: host");
    say("    environment:");
    for (name, value) in set.iter().filter(|(name, _)| *name != "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        say(format!("      {name}: {}", serde_json::json!(value)));
    }
}

/// Quotes a value for sh, where it needs it.
fn sh(value: &str) -> String {
    let plain = value.bytes().all(|b| b.is_ascii_alphanumeric() || b"/:._,=@%+-".contains(&b));
    if plain { value.to_owned() } else { format!("'{}'", value.replace('\'', r"'\''")) }
}

fn say_where_sessions_come_from(surroundings: &Surroundings) {
    match &surroundings.embedded_sts {
        Some(endpoint) => say(format!("\n# Embedded STS at {endpoint}: no AWS account, and no other AWS service.")),
        None => say("\n# Real STS through your own profile."),
    }
    say("# The lines hold until this program ends (Ctrl-C). Try, after pasting: aws sts get-caller-identity");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_for_sh_where_they_need_it() {
        assert_eq!(sh("http://127.0.0.1:1/v2/x"), "http://127.0.0.1:1/v2/x");
        assert_eq!(sh("a b"), "'a b'");
        assert_eq!(sh("http://[::1]:1/"), "'http://[::1]:1/'");
        assert_eq!(sh("it's $(x)"), r"'it'\''s $(x)'");
    }
}
