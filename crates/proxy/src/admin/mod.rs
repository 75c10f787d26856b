//! The admin socket: HTTP and JSON over a unix socket, for the agent that starts tasks and for `taskcreds task`.
//!
//! The way of a change: socket → who asks ([`peer`]) → which request ([`api`]) → registry and store ([`registrations`]) → answer.

pub mod api;
pub mod client;
pub mod error;
mod folder;
pub mod messages;
pub mod peer;
mod record;
pub mod registrations;
pub mod socket;
pub mod store;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use taskcreds_core::{IdDigest, Registration, Registry, SessionCache};

use self::api::Api;
use self::peer::Peer;
use self::record::Record;
use self::registrations::Registrations;
use self::socket::AdminSocket;
use self::store::Store;
use crate::config;
use crate::failure::Failure;

/// The longest body of a request, in bytes: a registration has at most 50 tags and a policy of 2048 characters.
const MAX_BODY: usize = 64 * 1024;
/// How long a head, a body and an answer may each take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Where the admin socket is where nobody says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/taskcreds/admin.sock";

/// The registration that the store reads from these bytes and what it writes for it, if they are a record.
#[doc(hidden)] // Public for fuzz/ alone: no other public function reads bytes of one's choice.
#[must_use]
pub fn restored(bytes: &[u8], id: IdDigest) -> Option<(Registration, Vec<u8>)> {
    let record: Record = serde_json::from_slice(bytes).ok()?;
    let registration = record.registration(id).ok()?;
    let written = serde_json::to_vec(&Record::of(&registration)?).ok()?;
    Some((registration, written))
}

/// Binds the socket, or takes the one that was passed, and takes over what was registered over it before. `None` where there is neither.
///
/// # Errors
/// The place of the socket or the state folder cannot be used.
pub fn start(
    admin: Option<&config::Admin>,
    passed: Option<std::os::unix::net::UnixListener>,
    state: &Path,
    registry: Arc<Registry>,
    sessions: Arc<SessionCache>,
    addresses: Vec<SocketAddr>,
) -> Result<Option<(AdminSocket, Arc<Api>)>, Failure> {
    if admin.is_none() && passed.is_none() {
        return Ok(None);
    }
    let (store, kept) = Store::open(state)?;
    let rules = admin.map(|admin| admin.rules.clone()).unwrap_or_default();
    let socket = match (passed, admin) {
        (Some(listener), _) => AdminSocket::adopt(listener, rules)?,
        (None, Some(admin)) => AdminSocket::bind(admin)?,
        (None, None) => return Ok(None),
    };
    let peer = |uid| Peer::new(uid, socket.own_uid(), socket.rules());
    let registrations = Arc::new(Registrations::restore(registry, Arc::clone(&sessions), store, kept, peer));
    Ok(Some((socket, Arc::new(Api { registrations, sessions, addresses }))))
}
