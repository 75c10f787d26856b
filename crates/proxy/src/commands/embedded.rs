//! The embedded STS, started beside the proxy.

use std::net::Ipv4Addr;

use taskcreds_core::TaskArn;
use taskcreds_sts_emulator::{AccessKey, Emulator, Options, Role, Roles};
use tokio_util::sync::CancellationToken;

use crate::aws::{Base, Embedded};
use crate::cli::{Emulated, SessionTagging};
use crate::failure::{Exit, Failure};

/// The word by which Amazon ECS is the caller.
const ECS: &str = "ecs";

/// Whether sessions carry tags: ECS passes none.
pub(super) fn session_tags(emulated: &Emulated, asked: SessionTagging) -> SessionTagging {
    if emulated.emulated_caller.as_deref() == Some(ECS) { SessionTagging::Off } else { asked }
}

/// The roles of the folder that was given, after those of the configuration file.
pub(crate) fn roles(emulated: &Emulated, mut roles: Vec<Role>) -> Result<Roles, Failure> {
    let usage = |message: String| Failure::new(Exit::Usage, message);
    if let Some(folder) = &emulated.emulated_roles {
        roles.extend(Role::from_folder(folder).map_err(|faults| usage(faults.to_string()))?);
    }
    let twice = roles.iter().enumerate().find(|(n, role)| roles.iter().take(*n).any(|other| other.arn == role.arn));
    match twice {
        Some((_, role)) => Err(usage(format!("the emulated role {} is given twice", role.arn))),
        None if roles.is_empty() => Ok(Roles::Any),
        None => Ok(Roles::Listed(roles)),
    }
}

/// Who calls where nobody is named: a user of this account.
pub(crate) fn user(partition: &str, account: &str) -> String {
    format!("arn:{partition}:iam::{account}:user/taskcreds")
}

/// Starts an STS on a port of loopback that the system chooses, and tells where; it ends with `stop`. Its caller is `user`, unless
/// `emulated` names another; Amazon ECS calls for `task`. Its sessions last for `session_seconds` at most, where that is said.
pub(crate) async fn start(
    user: &str,
    task: Option<&TaskArn>,
    emulated: &Emulated,
    roles: Roles,
    session_seconds: Option<u32>,
    stop: CancellationToken,
) -> Result<(Base, String), Failure> {
    let cannot = |error: &dyn std::fmt::Display| {
        Failure::new(Exit::Unavailable, format!("cannot start the embedded STS on 127.0.0.1: {error}"))
    };
    let emulator = Emulator::new(Options { roles, session_seconds, ..Options::default() });
    let key = key(&emulator, user, task, emulated)?;
    let embedded = Some(Embedded { emulator: emulator.clone(), session_seconds });
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(|error| cannot(&error))?;
    let address = listener.local_addr().map_err(|error| cannot(&error))?;
    tokio::spawn(async move {
        if let Err(error) = emulator.run(listener, stop.cancelled_owned()).await {
            tracing::error!(%error, "the embedded STS has ended");
        }
    });
    let endpoint = format!("http://{address}");
    let base = Base::Emulator {
        endpoint: endpoint.clone(),
        access_key_id: key.access_key_id,
        secret_access_key: key.secret_access_key.into(),
        embedded,
    };
    Ok((base, endpoint))
}

fn key(emulator: &Emulator, user: &str, task: Option<&TaskArn>, emulated: &Emulated) -> Result<AccessKey, Failure> {
    let usage = |error: &dyn std::fmt::Display| Failure::new(Exit::Usage, format!("--emulated-caller: {error}"));
    let partition = |arn: &str| arn.split(':').nth(1).map(str::to_owned);
    match (emulated.emulated_caller.as_deref(), task) {
        (Some(ECS), Some(task)) => emulator.add_ecs_caller(task.as_str()).map_err(|error| usage(&error)),
        (Some(ECS), None) => Err(usage(&"there is no task for which ECS could call")),
        (Some(arn), _) => {
            let key = emulator.add_caller(arn).map_err(|error| usage(&error))?;
            match (partition(arn), partition(user)) {
                (Some(own), Some(of_role)) if own != of_role => Err(usage(&format_args!(
                    "`{arn}` is of the partition {own} and the role of {of_role}: nobody assumes a role of another partition"
                ))),
                _ => Ok(key),
            }
        }
        (None, _) => emulator.add_caller(user).map_err(|error| usage(&error)),
    }
}
