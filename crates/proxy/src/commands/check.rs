//! `taskcreds check`: what is wrong with a configuration, what is in force, and whether STS agrees.

use std::process::ExitCode;

use taskcreds_core::{AssumeRole, FailureKind, NewTask, TokenRule};

use super::{config_failure, say};
use crate::audit::{self, log::Place};
use crate::aws::{Base, Sts};
use crate::cli;
use crate::config::{Config, DEFAULT_PORT, NOTHING_TO_SERVE, Pattern, Rule, State};
use crate::failure::{Exit, Failure};

pub(super) async fn run(flags: cli::Check) -> Result<ExitCode, Failure> {
    // Demanded by the command line.
    let file = flags.config.unwrap_or_default();
    let mut config = Config::load(&file).map_err(|error| config_failure(&error))?;
    config.warnings.extend(warnings_of_serve(&config));
    show(&config);
    say(format!(
        "\n{}: no faults, {} role{}",
        file.display(),
        config.tasks.len(),
        if config.tasks.len() == 1 { "" } else { "s" }
    ));
    let outcome = if flags.assume { assume(&config.tasks).await } else { Ok(ExitCode::SUCCESS) };
    #[cfg(target_os = "linux")]
    if flags.network {
        say("");
        let network = super::network::check(&flags.state);
        return outcome.and(network);
    }
    outcome
}

/// What `serve` would say of it, at its start or at a reload.
fn warnings_of_serve(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if config.is_blank {
        let why = "the file says nothing: a reload does not take it over, as it would end all tasks; to end them write task = []";
        warnings.push(why.to_owned());
    }
    if config.tasks.is_empty() && config.admin.is_none() {
        warnings.push(NOTHING_TO_SERVE.to_owned());
    }
    // Another user's answer may be another one, so this is no fault.
    let troubles = config.audit.iter().flat_map(audit::Settings::troubles);
    warnings.extend(troubles.map(|trouble| format!("serve would not start as this user: {trouble}")));
    warnings
}

/// The effective configuration, without ids and tokens.
fn show(config: &Config) {
    let list = |items: Vec<String>| items.iter().map(|item| format!("{item:?}")).collect::<Vec<_>>().join(", ");
    let listen = match config.listen.as_slice() {
        [] => vec![format!("127.0.0.1:{DEFAULT_PORT}"), format!("[::1]:{DEFAULT_PORT}")],
        addresses => addresses.iter().map(ToString::to_string).collect(),
    };
    say(format!("listen = [{}]", list(listen)));
    if config.link_local {
        say("link_local = true");
    }
    say(format!("allowed_hosts = [{}]", list(config.allowed_hosts.clone())));
    say(format!("sts = {{ calls_per_second = {}, burst = {} }}", config.budget.per_second, config.budget.burst));
    say(format!("max_tasks = {}", config.max_tasks));
    say(format!("hop_limit = {}, refuse_misrouted = {}", config.hop_limit, config.refuse_misrouted));
    let interfaces = match config.network.interfaces.as_slice() {
        [] => "any".to_owned(),
        interfaces => interfaces.join(" "),
    };
    let managed = config.network.manage.as_ref().map_or_else(|| "false".to_owned(), |manage| format!("{manage:?}"));
    say(format!("[network] interfaces = {interfaces}, manage = {managed}"));
    if let Some(address) = config.operations_listen {
        say(format!("operations_listen = {address}"));
    }
    if let Some(admin) = &config.admin {
        say(format!("[admin] socket = {}", admin.socket.display()));
        say(format!("  gid = {}", admin.gid.map_or_else(|| "none".to_owned(), |gid| gid.to_string())));
        for Rule { uid, role_arns, task_arns, max_tasks } in &admin.rules {
            let patterns = |patterns: &[Pattern]| match patterns {
                [] => "any".to_owned(),
                patterns => patterns.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            };
            let (roles, tasks) = (patterns(role_arns), patterns(task_arns));
            say(format!("  uid {uid} may register: role_arns {roles}; task_arns {tasks}; max_tasks {max_tasks}"));
        }
        let dir = config.state.dir.as_deref().unwrap_or(std::path::Path::new(State::DIR));
        say(format!("[state] dir = {}", dir.display()));
    }
    say(format!("[state] sessions = {}", config.state.sessions.word()));
    if let Some(audit) = &config.audit {
        let [json, ecs] = [&audit.json, &audit.ecs].map(|place| match place {
            None => "none".to_owned(),
            Some(Place::Stdout) => "stdout".to_owned(),
            Some(Place::File(file)) => file.display().to_string(),
        });
        let (megabytes, hours) = (audit.rotation.bytes / 1_000_000, audit.rotation.age.as_secs() / 3600);
        say(format!("[audit] file = {json}, ecs_file = {ecs}, required = {}", audit.required));
        say(format!("  max_megabytes = {megabytes}, max_hours = {hours}, keep = {}", audit.rotation.keep));
    }
    for task in &config.tasks {
        say("");
        let made = config.made_ids.iter().any(|made| made.task_arn == task.arn && made.role_kind == task.role_kind);
        show_task(task, made);
    }
    for warning in &config.warnings {
        say(format!("warning: {warning}"));
    }
}

fn show_task(task: &NewTask, id_is_made: bool) {
    let spec = &task.spec;
    say(format!("{} of {}", task.role_kind, task.arn));
    let tags: Vec<_> = spec.tags.iter().map(|tag| format!("{}={}", tag.key(), tag.value())).collect();
    let policies: Vec<_> = spec.policy_arns.iter().map(ToString::to_string).collect();
    let optional = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
    for (name, value) in [
        ("role", spec.role_arn.to_string()),
        (
            "credentials id",
            if id_is_made {
                "random at each start".to_owned()
            } else {
                format!("{} (first 8 hex digits of its SHA-256)", task.id.digest())
            },
        ),
        (
            "token",
            match (task.tokens.is_empty(), task.token_rule) {
                (true, _) => "none".to_owned(),
                (false, TokenRule::Loopback) => "yes, demanded everywhere but at 169.254.170.2".to_owned(),
                (false, TokenRule::Always) => "yes, demanded everywhere".to_owned(),
            },
        ),
        (
            "sources",
            match task.origins.as_slice() {
                [] => "any".to_owned(),
                origins => origins.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            },
        ),
        ("session name", spec.session_name.to_string()),
        ("duration", format!("{} s", spec.duration.seconds())),
        (
            "region",
            spec.region.as_ref().map_or_else(
                || format!("AWS_REGION or the profile's, else {}", spec.fallback_region),
                ToString::to_string,
            ),
        ),
        ("source identity", optional(spec.source_identity.as_ref().map(ToString::to_string))),
        ("external id", optional(spec.external_id.as_ref().map(ToString::to_string))),
        ("session policy", if spec.policy.is_some() { "yes".to_owned() } else { "none".to_owned() }),
        ("policy ARNs", optional((!policies.is_empty()).then(|| policies.join(" ")))),
        ("session tags", optional((!tags.is_empty()).then(|| tags.join(" ")))),
        ("transitive tags", if spec.transitive_tags { "yes" } else { "no" }.to_owned()),
    ] {
        say(format!("  {name}: {value}"));
    }
}

/// Assumes every role once, and tells all outcomes before it fails for one.
async fn assume(tasks: &[NewTask]) -> Result<ExitCode, Failure> {
    say("");
    let sts = Sts::new(Base::Chain);
    let (mut refused, mut unreached) = (0, 0);
    for task in tasks {
        let role = format!("{} ({} of {})", task.spec.role_arn, task.role_kind, task.arn);
        match sts.assume_role(&task.spec).await {
            Ok(session) => {
                let until = humantime::format_rfc3339_seconds(session.expiration());
                say(format!("can be assumed: {role} as {}, until {until}", session.assumed_role_arn()));
            }
            Err(error) => {
                match error.kind {
                    FailureKind::Refused | FailureKind::BaseCredentials => refused += 1,
                    FailureKind::Throttled | FailureKind::Unavailable => unreached += 1,
                }
                say(format!("CANNOT be assumed: {role}: {error}"));
            }
        }
    }
    match (refused, unreached) {
        (0, 0) => Ok(ExitCode::SUCCESS),
        (0, n) => Err(Failure::new(Exit::TemporaryFailure, format!("{n} of {} roles could not be tried", tasks.len()))),
        (n, _) => Err(Failure::new(Exit::NoPermission, format!("{n} of {} roles cannot be assumed", tasks.len()))),
    }
}
