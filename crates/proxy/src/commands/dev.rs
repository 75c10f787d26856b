//! `taskcreds dev`: the proxy on a laptop, with an embedded STS or with the real one through the user's own profile.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::process::ExitCode;

use taskcreds_core::{CredentialsId, NewTask, RoleKind, Token};
use tokio_util::sync::CancellationToken;

use super::definition::{self, Defined};
use super::signals::Signals;
use super::{
    config_failure, embedded, local_endpoints, own_task, run_until_asked_to_stop, say, say_listening,
    warn_of_another_sts,
};
use crate::app::Proxy;
use crate::aws::{Base, own_region_name};
use crate::cli;
use crate::config::Config;
use crate::documents::formats::sh;
use crate::failure::{Exit, Failure};
use crate::handover::Sockets;
use crate::http::local_endpoints::LocalEndpoints;
use crate::http::{ENDPOINT, is_local};
use crate::launch::{self, Launch, Surroundings, default_profiles};
use crate::task_definition::Container;

/// What is printed for one task, or for one container of it.
struct Shown {
    heading: String,
    id: CredentialsId,
    token: Token,
    container: Option<Container>,
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
    if config.network.manage.take().is_some() {
        tracing::warn!("dev sets no network up: [network] manage is for serve; `taskcreds network up` does the same");
    }
    flags.listen.apply(&mut config)?;
    if flags.local.local_endpoints {
        let settings = local_endpoints::Settings::read(environment)?;
        if config.listen.is_empty() {
            config.listen = settings.listen();
        } else {
            settings.warn_of_another_place();
        }
    }
    if let Some(address) = config.listen.iter().find(|address| !is_local(address.ip())) {
        let message = format!("dev listens on loopback and 169.254.170.2 only, not on {address}; use serve");
        return Err(Failure::new(Exit::Usage, message));
    }
    // On `lo` it is for the programs of this machine; Linux has neighbours reach it too, where an id or a path of the local endpoints is all
    // that is asked for. Where it is another interface's, as in a compose file, they are who it is for.
    let is_own = config.link_local || crate::link_local::is_on_loopback();
    if is_own && config.network.interfaces.is_empty() {
        config.network.interfaces.push("lo".to_owned());
    }
    let emulated_roles = std::mem::take(&mut config.emulated_roles);
    let is_emulated = flags.emulated.emulated_roles.is_some() || flags.emulated.emulated_caller.is_some();
    if flags.aws && is_emulated {
        return Err(Failure::new(
            Exit::Usage,
            "--emulated-roles and --emulated-caller are for the embedded STS, without --aws",
        ));
    }
    if flags.aws && !emulated_roles.is_empty() {
        tracing::warn!("the roles of [[emulated_role]] are those of the embedded STS, and --aws asks the real one");
    }
    let emulated_roles = embedded::roles(&flags.emulated, emulated_roles)?;
    let session_tags = embedded::session_tags(&flags.emulated, flags.session_tags);
    flags.testing.apply(&mut config)?;
    let session_seconds = flags.short.of(!flags.aws, "leave out --aws")?;
    let mut names = HashSet::new();
    if let Some((twice, _)) = flags.roles.iter().find(|(name, _)| !names.insert(name)) {
        let message = format!("two roles are called {twice}: give each a name of its own, as --role NAME=ARN");
        return Err(Failure::new(Exit::Usage, message));
    }
    for (name, role_arn) in flags.roles {
        config.tasks.push(own_task::for_this_run(&name, role_arn, region.as_deref(), session_tags)?);
    }
    let kinds = [RoleKind::Task, RoleKind::Execution];
    let defined = Defined::read(&flags.definition, !flags.aws, region.as_deref(), session_tags, &kinds)?;
    if let Some(defined) = &defined {
        config.tasks.extend(defined.tasks()?);
        if config.tasks.is_empty() {
            let message = format!(
                "{} has no taskRoleArn and no executionRoleArn: its containers get no credentials, and there is nothing to serve; \
                 give a role with --overrides '{{\"taskRoleArn\": \"…\"}}'",
                defined.name()
            );
            return Err(Failure::new(Exit::Usage, message));
        }
    }
    if config.tasks.is_empty() && flags.aws {
        let message = "which role? Give --role NAME=ARN of your account with --aws, or --config FILE";
        return Err(Failure::new(Exit::Usage, message));
    }
    if config.tasks.is_empty() {
        let demo = own_task::demo_role(&emulated_roles)?;
        config.tasks.push(own_task::for_this_run("demo", demo, region.as_deref(), session_tags)?);
    }
    let shown: Vec<Shown> = config.tasks.iter_mut().flat_map(|task| show(task, defined.as_ref())).collect();
    if flags.local.local_endpoints {
        let local = LocalEndpoints::new(&config.tasks, flags.local.creds_role.as_deref());
        config.local_endpoints = Some(local.map_err(|why| Failure::new(Exit::Usage, format!("--creds-role {why}")))?);
    }
    let role = config.tasks.first().map(|task| &task.spec.role_arn);
    let caller = role.map_or_else(
        || embedded::user("aws", own_task::DEMO_ACCOUNT),
        |role| embedded::user(role.partition(), role.account()),
    );
    let first = config.tasks.first().map(|task| task.arn.clone());
    let stop_sts = CancellationToken::new();
    let (base, surroundings) = if flags.aws {
        warn_of_another_sts(environment);
        (Base::Chain, Surroundings { region, ..Surroundings::default() })
    } else {
        let (base, endpoint) = embedded::start(
            &caller,
            first.as_ref(),
            &flags.emulated,
            emulated_roles,
            session_seconds,
            stop_sts.clone(),
        )
        .await?;
        let region = region.or_else(|| Some(own_task::DEFAULT_REGION.to_owned()));
        (base, Surroundings { region, embedded_sts: Some(endpoint), ..Surroundings::default() })
    };
    let proxy = Proxy::start(config, base, environment, Sockets::default())?;
    let addresses = proxy.addresses();
    let surroundings = Surroundings { control: proxy.control(), ..surroundings };
    let folder = launch::private_folder()?;
    say_listening(&addresses);
    if let Some(defined) = &defined {
        say_of_definition(defined);
    }
    for (number, task) in shown.iter().enumerate() {
        let file = format!("token-{number}");
        let launch = Launch::new(&addresses, &task.id, task.token.clone(), folder.path(), &file, surroundings.clone())?;
        say_lines(task, &launch, &addresses, environment);
    }
    if let Some(local) = &proxy.endpoint().local {
        local_endpoints::say_paths(local, &addresses);
    }
    say_where_sessions_come_from(&surroundings);
    run_until_asked_to_stop(proxy, signals).await;
    stop_sts.cancel();
    Ok(ExitCode::SUCCESS)
}

/// A task as it is shown: once, and the task role of a definition once for each of its containers, which share it.
fn show(task: &mut NewTask, defined: Option<&Defined>) -> Vec<Shown> {
    let token = own_task::token_of(task);
    let family =
        task.spec.tags.iter().find(|tag| tag.key() == "ecs-task-family").map(|tag| format!("{}: ", tag.value()));
    let what = format!("{} {} of {}", task.role_kind, task.spec.role_arn, task.arn);
    let shown = |heading: String, container| Shown { heading, id: task.id.clone(), token: token.clone(), container };
    match defined.filter(|defined| defined.is_of(&task.arn)) {
        Some(defined) if task.role_kind == RoleKind::Task => {
            let containers = defined.definition.containers.iter();
            let heading = |container: &Container| format!("{}, container {}: {what}", defined.name(), container.name);
            containers.map(|container| shown(heading(container), Some(container.clone()))).collect()
        }
        Some(defined) => {
            vec![shown(format!("{}, for its agent and not for its containers: {what}", defined.name()), None)]
        }
        None => vec![shown(format!("{}{what}", family.unwrap_or_default()), None)],
    }
}

/// What a reader of the lines would miss.
fn say_of_definition(defined: &Defined) {
    let containers = &defined.definition.containers;
    if defined.definition.task_role.is_none() {
        let names: Vec<_> = containers.iter().map(|container| container.name.as_str()).collect();
        say(format!(
            "\n# {} has no taskRoleArn: its containers get no credentials, as in ECS: {}",
            defined.name(),
            names.join(", ")
        ));
    }
    for missing in containers.iter().flat_map(|container| definition::missing(container, |_| "")) {
        tracing::warn!("{missing}");
    }
}

fn say_lines(task: &Shown, launch: &Launch, addresses: &[SocketAddr], environment: &HashMap<String, String>) {
    let set: Vec<(String, String)> = match &task.container {
        None => launch.set(environment).into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        Some(container) => {
            let (set, warnings) = definition::environment(container, launch, environment);
            warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
            set
        }
    };
    let removed = launch.removed();
    let hidden = default_profiles(environment);
    say(format!("\n# {}", task.heading));
    if addresses.contains(&ENDPOINT) {
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
        if !is_identifier(name) {
            say(format!("# {name:?} is no name of a variable for sh"));
            continue;
        }
        say(format!("export {name}={}", sh(value)));
    }
    for (variable, _) in &hidden {
        say(format!("export {variable}=/dev/null"));
    }
    say("# PowerShell:");
    let drives: Vec<_> = removed.iter().map(|name| format!("Env:{name}")).collect();
    say(format!("Remove-Item -ErrorAction SilentlyContinue {}", drives.join(", ")));
    for (name, value) in set.iter().filter(|(name, _)| is_identifier(name)) {
        say(format!("$env:{name} = '{}'", value.replace('\'', "''")));
    }
    for (variable, _) in &hidden {
        say(format!("$env:{variable} = 'NUL'"));
    }
    say("# compose file, under the service, whose containers share this machine's loopback:");
    say("    network_mode: host");
    say("    environment:");
    for (name, value) in set.iter().filter(|(name, _)| *name != "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        let name = if is_identifier(name) { name.clone() } else { serde_json::json!(name).to_string() };
        // Compose replaces what follows a single dollar sign.
        say(format!("      {name}: {}", serde_json::json!(value.replace('$', "$$"))));
    }
}

/// Whether a shell takes this as the name of a variable.
fn is_identifier(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn say_where_sessions_come_from(surroundings: &Surroundings) {
    match &surroundings.embedded_sts {
        Some(endpoint) => say(format!("\n# Embedded STS at {endpoint}: no AWS account, and no other AWS service.")),
        None => say("\n# Real STS through your own profile."),
    }
    say("# The lines hold until this program ends (Ctrl-C). Try, after pasting: aws sts get-caller-identity");
}
