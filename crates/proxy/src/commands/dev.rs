//! `taskcreds dev`: the proxy on a laptop, with an embedded STS or with the real one through the user's own profile.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::ExitCode;

use taskcreds_core::{CredentialsId, NewTask, Token};
use tokio_util::sync::CancellationToken;

use super::signals::Signals;
use super::{config_failure, embedded, run_until_asked_to_stop, say, say_listening, task};
use crate::app::Proxy;
use crate::aws::Base;
use crate::cli;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::launch::{self, Emulated, Launch, default_profiles, is_local};

/// What is printed for one task.
struct Shown {
    heading: String,
    id: CredentialsId,
    token: Token,
}

pub(super) async fn run(flags: cli::Dev, environment: &HashMap<String, String>) -> Result<ExitCode, Failure> {
    let signals = Signals::listen()?;
    let region = embedded::region(environment);
    let mut config = match &flags.config {
        Some(file) => Config::load(file).map_err(|error| config_failure(&error))?,
        None => Config::default(),
    };
    if !flags.listen.listen.is_empty() {
        config.listen = flags.listen.listen;
    }
    if let Some(address) = config.listen.iter().find(|address| !is_local(**address)) {
        let message = format!("dev listens on loopback and 169.254.170.2 only, not on {address}; use serve");
        return Err(Failure::new(Exit::Usage, message));
    }
    for (name, role_arn) in flags.roles {
        config.tasks.push(task::for_this_run(&name, role_arn, &region)?);
    }
    if config.tasks.is_empty() {
        config.tasks.push(task::for_this_run("demo", task::demo_role()?, &region)?);
    }
    let shown: Vec<Shown> = config.tasks.iter_mut().map(show).collect();
    let account = config.tasks.first().map_or("111122223333", |task| task.spec.role_arn.account()).to_owned();
    let stop_sts = CancellationToken::new();
    let (base, emulated) = if flags.aws {
        (Base::Chain, None)
    } else {
        let (base, emulated) = embedded::start(&account, region, stop_sts.clone()).await?;
        (base, Some(emulated))
    };
    let proxy = Proxy::start(config, base, environment)?;
    let addresses = proxy.addresses();
    let folder = launch::private_folder()?;
    say_listening(&addresses);
    for (number, task) in shown.iter().enumerate() {
        let file = format!("token-{number}");
        let launch = Launch::new(&addresses, &task.id, task.token.clone(), folder.path(), &file, emulated.clone())?;
        say_lines(task, &launch, &addresses, environment);
    }
    say_warnings(environment, emulated.as_ref());
    run_until_asked_to_stop(proxy, signals).await;
    stop_sts.cancel();
    Ok(ExitCode::SUCCESS)
}

fn show(task: &mut NewTask) -> Shown {
    let token = task::token_of(task);
    let family =
        task.spec.tags.iter().find(|tag| tag.key() == "ecs-task-family").map(|tag| format!("{}: ", tag.value()));
    let heading = format!("{}{} {} of {}", family.unwrap_or_default(), task.role_kind, task.spec.role_arn, task.arn);
    Shown { heading, id: task.id.clone(), token }
}

fn say_lines(task: &Shown, launch: &Launch, addresses: &[SocketAddr], environment: &HashMap<String, String>) {
    let set = launch.set(environment);
    let removed = launch.removed();
    say(format!("\n# {}", task.heading));
    if addresses.contains(&SocketAddr::from((crate::http::LINK_LOCAL, 80))) {
        say(format!("# on 169.254.170.2: AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/v2/credentials/{}", task.id.expose()));
    }
    say("# sh:");
    say(format!("unset {}", removed.join(" ")));
    for (name, value) in &set {
        say(format!("export {name}={}", sh(value)));
    }
    say("# PowerShell:");
    let drives: Vec<_> = removed.iter().map(|name| format!("Env:{name}")).collect();
    say(format!("Remove-Item -ErrorAction SilentlyContinue {}", drives.join(", ")));
    for (name, value) in &set {
        say(format!("$env:{name} = '{}'", value.replace('\'', "''")));
    }
    say("# compose file, under the service (its containers reach this machine's loopback with `network_mode: host`):");
    say("    environment:");
    for (name, value) in set.iter().filter(|(name, _)| *name != "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        say(format!("      {name}: {}", serde_json::json!(value)));
    }
}

/// Quotes a value for sh, where it needs it.
fn sh(value: &str) -> String {
    let plain = value.bytes().all(|b| b.is_ascii_alphanumeric() || b"/:._,=@%+-[]".contains(&b));
    if plain { value.to_owned() } else { format!("'{}'", value.replace('\'', r"'\''")) }
}

fn say_warnings(environment: &HashMap<String, String>, emulated: Option<&Emulated>) {
    for (variable, file) in default_profiles(environment) {
        say(format!(
            "\n# Attention: the default profile in {} has credentials, which most SDKs take before these.\n\
             # For the shell that uses these lines: export {variable}=/dev/null",
            file.display()
        ));
    }
    match emulated {
        Some(emulated) => say(format!(
            "\n# Embedded STS at {}: no AWS account, and no other AWS service.\n# Try, after pasting: aws sts get-caller-identity",
            emulated.endpoint
        )),
        None => say("\n# Real STS through your own profile. Try, after pasting: aws sts get-caller-identity"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_for_sh_where_they_need_it() {
        assert_eq!(sh("http://127.0.0.1:1/v2/x"), "http://127.0.0.1:1/v2/x");
        assert_eq!(sh("a b"), "'a b'");
        assert_eq!(sh("it's $(x)"), r"'it'\''s $(x)'");
    }
}
