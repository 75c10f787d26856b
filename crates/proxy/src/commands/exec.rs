//! `taskcreds exec -- CMD`: one command with a role's credentials; a port and a token for it alone, gone when it ends.
//!
//! Standard input, output and error belong to CMD. CMD starts when its session is there, because some clients ask only once.

use std::collections::HashMap;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use taskcreds_core::{SessionCache, SessionError, Task};
use tokio::process::{Child, Command};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::embedded::{self, Embedded};
use crate::app::{Listeners, Proxy};
use crate::aws::{Base, Sts, points_at_itself};
use crate::cli;
use crate::failure::{Exit, Failure};
use crate::http::guard::AllowedHosts;
use crate::launch::{Launch, default_profiles};

/// How long the first session may take: the operation timeout of the STS client, and a second try.
const FIRST_SESSION: Duration = Duration::from_secs(15);

pub(super) async fn run(flags: cli::Exec, environment: &HashMap<String, String>) -> Result<ExitCode, Failure> {
    let region = embedded::region(environment);
    let role_arn = match flags.role {
        Some(role_arn) => role_arn,
        None if flags.emulate => embedded::demo_role()?,
        None => {
            let message =
                "which role? Give --role ARN to run with a role of your AWS account, or --emulate to need no account";
            return Err(Failure::new(Exit::Usage, message));
        }
    };
    let account = role_arn.account().to_owned();
    let (task, token) = embedded::new_task("exec", role_arn, &region)?;
    let id = task.id.clone();
    let stop = CancellationToken::new();
    let (base, emulated) = if flags.emulate {
        let Embedded { base, emulated } = embedded::start(&account, region, stop.clone()).await?;
        (base, Some(emulated))
    } else {
        (Base::Chain, None)
    };
    let listeners = Listeners::bind(&[SocketAddr::from((Ipv4Addr::LOCALHOST, 0))])?;
    let addresses = listeners.addresses();
    let budget = taskcreds_core::BudgetLimits::default();
    let proxy = Proxy::new(vec![task], Arc::new(Sts::new(base)), budget, AllowedHosts::with([]))?;
    if !flags.emulate
        && let Some(reason) = points_at_itself(environment, &addresses, proxy.registry())
    {
        return Err(Failure::new(Exit::Usage, reason));
    }
    let (sessions, task) = (Arc::clone(proxy.sessions()), proxy.tasks().pop());
    let running = tokio::spawn(proxy.run(listeners, stop.clone()));
    if let Some(task) = task {
        first_session(&sessions, &task).await?;
    }

    let folder = embedded::private_folder()?;
    let launch = Launch::new(&addresses, &id, token, folder.path(), "token", emulated)
        .map_err(|error| Failure::software("cannot write the token file", error))?;
    let hidden = hide_default_profiles(environment, folder.path())?;
    let child = start(&flags.command, &launch, &hidden, environment)?;
    let status = wait(child).await;
    stop.cancel();
    let _ = running.await;
    // Dropped, the folder would be removed as well, but a failure would go unseen.
    if let Err(error) = folder.close() {
        tracing::warn!(%error, "the folder with the token could not be removed");
    }
    status.map(exit_code).map_err(|error| Failure::software("cannot wait for the command", error))
}

async fn first_session(sessions: &Arc<SessionCache>, task: &Arc<Task>) -> Result<(), Failure> {
    let deadline = Instant::now() + FIRST_SESSION;
    let role = &task.spec().role_arn;
    loop {
        match sessions.get(task).await {
            Ok(_) => return Ok(()),
            Err(SessionError::NotReady(_)) if Instant::now() < deadline => {}
            Err(SessionError::NotReady(None) | SessionError::Revoked) => {
                let message = format!("no session for {role} within {} s", FIRST_SESSION.as_secs());
                return Err(Failure::new(Exit::TemporaryFailure, message));
            }
            Err(SessionError::NotReady(Some(error))) => {
                return Err(Failure::new(Exit::TemporaryFailure, format!("no session for {role}: {error}")));
            }
            Err(SessionError::Refused(error)) => {
                return Err(Failure::new(Exit::NoPermission, format!("STS refuses {role}: {error}")));
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
    hidden: &[(&'static str, PathBuf)],
    environment: &HashMap<String, String>,
) -> Result<Child, Failure> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Failure::new(Exit::Usage, "no command given"));
    };
    let mut child = Command::new(program);
    child.args(arguments);
    for name in launch.removed() {
        child.env_remove(name);
    }
    child.envs(launch.set(environment));
    child.envs(hidden.iter().map(|(variable, file)| (variable, file)));
    child.spawn().map_err(|error| {
        let exit = if error.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::NotExecutable };
        Failure::new(exit, format!("cannot run {}: {error}", program.display()))
    })
}

/// Waits for CMD and passes on every signal that would end this process.
#[cfg(unix)]
async fn wait(mut child: Child) -> std::io::Result<ExitStatus> {
    use rustix::process::{Pid, Signal, kill_process};
    use tokio::signal::unix::{SignalKind, signal};

    let (mut int, mut quit) = (signal(SignalKind::interrupt())?, signal(SignalKind::quit())?);
    let (mut term, mut hangup) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    let (mut usr1, mut usr2) = (signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?);
    loop {
        let received = tokio::select! {
            status = child.wait() => return status,
            _ = int.recv() => Signal::INT,
            _ = quit.recv() => Signal::QUIT,
            _ = term.recv() => Signal::TERM,
            _ = hangup.recv() => Signal::HUP,
            _ = usr1.recv() => Signal::USR1,
            _ = usr2.recv() => Signal::USR2,
        };
        // A terminal sends Ctrl-C and Ctrl-\ to the whole foreground group, CMD included: it must not get them twice.
        if matches!(received, Signal::INT | Signal::QUIT) && in_foreground() {
            continue;
        }
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid
            && let Err(error) = kill_process(pid, received)
        {
            tracing::warn!(%error, "a signal could not be passed on");
        }
    }
}

/// Whether this process is in the foreground group of a terminal.
#[cfg(unix)]
fn in_foreground() -> bool {
    rustix::termios::tcgetpgrp(std::io::stdin()).is_ok_and(|foreground| foreground == rustix::process::getpgrp())
}

#[cfg(not(unix))]
async fn wait(mut child: Child) -> std::io::Result<ExitStatus> {
    loop {
        tokio::select! {
            status = child.wait() => return status,
            // The console sends Ctrl-C to CMD too; what CMD makes of it decides.
            _ = tokio::signal::ctrl_c() => {}
        }
    }
}

/// CMD's own status; 128 + N when signal N ended it, as shells have it.
fn exit_code(status: ExitStatus) -> ExitCode {
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    #[cfg(not(unix))]
    let signal: Option<i32> = None;
    let code = status.code().or(signal.map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code & 0xff).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
