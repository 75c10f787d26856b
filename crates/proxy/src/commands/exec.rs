//! `taskcreds exec -- CMD`: one command with a role's credentials; a port and a token for it alone, gone when it ends.
//!
//! Standard input, output and error belong to CMD. CMD starts when its session is there, because some clients ask only once.

#[cfg(target_os = "linux")]
mod orphans;

use std::collections::HashMap;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use taskcreds_core::{FailureKind, NewTask, RoleKind, SessionError};
use taskcreds_sts_emulator::Roles;
use tokio::process::{Child, Command};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::definition::{self, Defined};
use super::signals::{self, Signals};
use super::{embedded, own_task, warn_of_another_sts};
use crate::app::Proxy;
use crate::aws::{Base, own_region_name};
use crate::cli::{self, SessionTagging};
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::handover::Sockets;
use crate::http::credentials::Endpoint;
use crate::launch::{self, Launch, Surroundings, default_profiles};
use crate::task_definition::Container;

/// How long the first session may take: a slow source of base credentials, and a second try at STS.
const FIRST_SESSION: Duration = Duration::from_secs(20);
/// How long it is waited for in silence.
const SILENCE: Duration = Duration::from_secs(2);
/// How long answers under way may take when CMD has ended: what it has left running has no claim to them.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

pub(super) async fn run(flags: cli::Exec, environment: &HashMap<String, String>) -> Result<ExitCode, Failure> {
    let mut signals = Signals::listen_for_a_command()?;
    let region = own_region_name().await;
    let is_emulated = flags.emulated.emulated_roles.is_some() || flags.emulated.emulated_caller.is_some();
    if is_emulated && !flags.emulate {
        return Err(Failure::new(
            Exit::Usage,
            "--emulated-roles and --emulated-caller are for the embedded STS: add --emulate",
        ));
    }
    let session_tags = embedded::session_tags(&flags.emulated, flags.session_tags);
    let roles = embedded::roles(&flags.emulated, Vec::new())?;
    let Program { mut task, caller, container, region } = Program::of(&flags, region, session_tags, &roles)?;
    let task_arn = task.as_ref().map(|task| task.arn.clone());
    let secrets = task.as_mut().map(|task| (task.id.clone(), own_task::token_of(task)));
    let session_seconds = flags.short.of(flags.emulate, "give --emulate")?;
    let stop = CancellationToken::new();
    let (base, surroundings) = if flags.emulate {
        let (base, endpoint) =
            embedded::start(&caller, task_arn.as_ref(), &flags.emulated, roles, session_seconds, stop.clone()).await?;
        let region = region.or_else(|| Some(own_task::DEFAULT_REGION.to_owned()));
        (base, Surroundings { region, embedded_sts: Some(endpoint), ..Surroundings::default() })
    } else {
        warn_of_another_sts(environment);
        (Base::Chain, Surroundings { region, ..Surroundings::default() })
    };
    let listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    let mut config = Config { listen, tasks: task.into_iter().collect(), ..Config::default() };
    flags.testing.apply(&mut config)?;
    let proxy = Proxy::start(config, base, environment, Sockets::default())?;
    let surroundings = Surroundings { control: proxy.control(), ..surroundings };
    let (addresses, endpoint) = (proxy.addresses(), Arc::clone(proxy.endpoint()));
    let running = tokio::spawn(proxy.run(stop.clone()));
    tokio::select! {
        there = first_session(&endpoint) => there?,
        received = signals.end() => return Ok(received.exit_code()),
    }

    let folder = launch::private_folder()?;
    let launch = match secrets {
        Some((id, token)) => Launch::new(&addresses, &id, token, folder.path(), "token", surroundings)?,
        None => Launch::without_credentials(surroundings),
    };
    let hidden = hide_default_profiles(environment, folder.path())?;
    let child = start(&flags.command, &launch, container.as_ref(), &hidden, environment)?;
    let status = wait(child, &mut signals).await;
    stop.cancel();
    tokio::select! {
        _ = tokio::time::timeout(LAST_ANSWERS, running) => {}
        _ = signals.end() => {}
    }
    // Dropped, the folder would be removed as well, but a failure would go unseen.
    if let Err(error) = folder.close() {
        tracing::warn!(%error, "the folder with the token could not be removed");
    }
    status.map(exit_code).map_err(|error| Failure::software("cannot wait for the command", error))
}

/// What CMD runs as.
struct Program {
    /// None: the role of a definition that has none.
    task: Option<NewTask>,
    /// The user as whom the embedded STS is called.
    caller: String,
    container: Option<Container>,
    region: Option<String>,
}

impl Program {
    fn of(
        flags: &cli::Exec,
        region: Option<String>,
        session_tags: SessionTagging,
        emulated: &Roles,
    ) -> Result<Self, Failure> {
        let usage = |message: &str| Failure::new(Exit::Usage, message);
        let definition = &flags.container.definition;
        let kinds = [RoleKind::Task];
        let defined = Defined::read(definition, flags.emulate, region.as_deref(), session_tags, &kinds)?;
        let role_arn = match (&flags.role, defined) {
            (Some(_), Some(_)) => {
                let message = "--role and --task-definition are both given: keep one; --overrides has another role for the definition";
                return Err(usage(message));
            }
            (None, Some(defined)) => return Self::of_definition(&defined, flags, region),
            (Some(role_arn), None) => role_arn.clone(),
            (None, None) if flags.emulate => own_task::demo_role(emulated)?,
            (None, None) => {
                let message = "which role? Give --role ARN or --task-definition FILE to run with a role of your AWS account, or \
                               --emulate to need no account";
                return Err(usage(message));
            }
        };
        let caller = embedded::user(role_arn.partition(), role_arn.account());
        let task = own_task::for_this_run("exec", role_arn, region.as_deref(), session_tags)?;
        Ok(Self { task: Some(task), caller, container: None, region })
    }

    fn of_definition(defined: &Defined, flags: &cli::Exec, region: Option<String>) -> Result<Self, Failure> {
        let (container, task) = (defined.container(&flags.container)?, defined.task_role()?);
        if task.is_none() {
            tracing::warn!("{} has no taskRoleArn: the command gets no credentials, as in ECS", defined.name());
        }
        let (caller, region) = (defined.user(), region.or_else(|| defined.region()));
        Ok(Self { task, caller, container: Some(container.clone()), region })
    }
}

/// Waits for the session of the one task.
async fn first_session(endpoint: &Endpoint) -> Result<(), Failure> {
    let start = Instant::now();
    let (deadline, mut is_told) = (start + FIRST_SESSION, false);
    let Some(task) = endpoint.registry.tasks().pop() else { return Ok(()) };
    let role = &task.spec().role_arn;
    loop {
        match endpoint.sessions.get(&task).await {
            Ok(_) => return Ok(()),
            Err(SessionError::NotReady(Some(error))) if error.kind == FailureKind::BaseCredentials => {
                let message = format!(
                    "your own AWS credentials do not do to assume {role}: {error}, or use --emulate to need none"
                );
                return Err(Failure::new(Exit::NoPermission, message));
            }
            Err(SessionError::NotReady(why)) if Instant::now() < deadline => {
                if !is_told && start.elapsed() >= SILENCE {
                    is_told = true;
                    let why = why.map_or_else(
                        || "neither STS nor the source of your AWS credentials has answered so far".to_owned(),
                        |error| error.to_string(),
                    );
                    tracing::warn!(
                        "no session for {role} yet: {why}; it is tried for {} s in all",
                        FIRST_SESSION.as_secs()
                    );
                }
            }
            Err(SessionError::NotReady(None) | SessionError::Revoked) => {
                let message = format!(
                    "no session for {role} within {} s: see whether STS and the source of your AWS credentials answer",
                    FIRST_SESSION.as_secs()
                );
                return Err(Failure::new(Exit::TemporaryFailure, message));
            }
            Err(SessionError::NotReady(Some(error))) => {
                return Err(Failure::new(Exit::TemporaryFailure, format!("no session for {role}: {error}")));
            }
            Err(SessionError::Refused(error)) => {
                let hint = if task.spec().tags.is_empty() {
                    ""
                } else {
                    "; a role without sts:TagSession needs --session-tags off"
                };
                return Err(Failure::new(Exit::NoPermission, format!("STS refuses {role}: {error}{hint}")));
            }
        }
    }
}

/// SDKs take a default profile before they ask a container endpoint, so CMD sees an empty file in place of one that has
/// credentials, and its user is told.
fn hide_default_profiles(
    environment: &HashMap<String, String>,
    folder: &Path,
) -> Result<Vec<(&'static str, PathBuf)>, Failure> {
    let found = default_profiles(environment);
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let empty = folder.join("no-profiles");
    std::fs::File::create_new(&empty)
        .map_err(|error| Failure::software("cannot write an empty profile file", error))?;
    for (variable, file) in &found {
        tracing::warn!(
            "the default profile in {} has credentials, which SDKs take before the role's: the command sees an empty file instead ({variable})",
            file.display()
        );
    }
    Ok(found.into_iter().map(|(variable, _)| (variable, empty.clone())).collect())
}

fn start(
    command: &[OsString],
    launch: &Launch,
    container: Option<&Container>,
    hidden: &[(&'static str, PathBuf)],
    environment: &HashMap<String, String>,
) -> Result<Child, Failure> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Failure::new(Exit::Usage, "no command given"));
    };
    let mut child = Command::new(program);
    child.args(arguments);
    let outranking = environment.keys().map(String::as_str).filter(|name| launch::outranks(name));
    for name in launch.removed().into_iter().chain(outranking) {
        child.env_remove(name);
    }
    match container {
        None => drop(child.envs(launch.set(environment))),
        Some(container) => {
            let is_set = |name: &str| environment.get(name).is_some();
            let stands_in = |name: &str| if is_set(name) { " (yours is passed on)" } else { " (not set)" };
            let (set, warnings) = definition::environment(container, launch, environment);
            for told in definition::missing(container, stands_in).iter().chain(&warnings) {
                tracing::warn!("{told}");
            }
            child.envs(set);
        }
    }
    child.envs(hidden.iter().map(|(variable, file)| (variable, file)));
    child.spawn().map_err(|error| {
        let exit = if error.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::NotExecutable };
        let hint = match exit {
            Exit::NotFound if program.to_string_lossy().contains(' ') => {
                "; write the command and its arguments apart, without quotes around all of it"
            }
            _ => "",
        };
        Failure::new(exit, format!("cannot run {}: {error}{hint}", program.display()))
    })
}

/// Waits for CMD and passes on every signal that is meant for it.
async fn wait(mut child: Child, signals: &mut Signals) -> std::io::Result<ExitStatus> {
    #[cfg(target_os = "linux")]
    let orphans = orphans::collect(child.id());
    #[cfg(not(target_os = "linux"))]
    let orphans = std::future::pending::<()>();
    tokio::pin!(orphans);
    loop {
        tokio::select! {
            status = child.wait() => return status,
            received = signals.next() => received.pass_on(&child),
            () = &mut orphans => {}
        }
    }
}

/// CMD's own status; 128 + N when signal N ended it, as shells have it.
fn exit_code(status: ExitStatus) -> ExitCode {
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    #[cfg(not(unix))]
    let signal: Option<i32> = None;
    status
        .code()
        .map_or_else(|| signals::ended_by(signal), |code| ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1)))
}
