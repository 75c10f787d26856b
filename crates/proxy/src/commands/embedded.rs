//! The embedded STS, started beside the proxy.

use std::net::Ipv4Addr;

use taskcreds_sts_emulator::{Emulator, Options};
use tokio_util::sync::CancellationToken;

use crate::aws::{Base, Embedded};
use crate::failure::{Exit, Failure};

/// Starts an STS on a port of loopback that the system chooses, and tells where; it ends with `stop`. Its caller is a user of this
/// account. Its sessions last for `session_seconds` at most, where that is said.
pub(crate) async fn start(
    account: &str,
    session_seconds: Option<u32>,
    stop: CancellationToken,
) -> Result<(Base, String), Failure> {
    let cannot = |error: &dyn std::fmt::Display| {
        Failure::new(Exit::Unavailable, format!("cannot start the embedded STS on 127.0.0.1: {error}"))
    };
    let emulator = Emulator::new(Options::default());
    let key = emulator.add_caller(&format!("arn:aws:iam::{account}:user/taskcreds")).map_err(|error| cannot(&error))?;
    if let Some(seconds) = session_seconds {
        emulator.limit_sessions(seconds);
    }
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
