//! What the service manager is told, and what it is given to keep: sd_notify(3), over the socket in `NOTIFY_SOCKET`.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr};

use super::inherited::Name;

/// How long a service manager may take to take a message.
const PATIENCE: Duration = Duration::from_secs(3);

/// A service manager that listens.
pub(super) struct ServiceManager {
    socket: UnixDatagram,
    address: SocketAddrUnix,
    /// Whether it may be given sessions: an abstract name can be taken by any user once its owner is gone.
    is_trusted: bool,
}

impl ServiceManager {
    /// The one in `NOTIFY_SOCKET`; `None` where there is none.
    ///
    /// # Errors
    /// The variable names no unix socket.
    pub(super) fn of(environment: &HashMap<String, String>) -> io::Result<Option<Self>> {
        let Some(path) = environment.get("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else { return Ok(None) };
        let address = match path.strip_prefix('@') {
            Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes())?,
            None if path.starts_with('/') => SocketAddrUnix::new(path.as_str())?,
            None => return Err(io::Error::other("it is neither a path nor an abstract name")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        // systemd says so where the unit has room (from version 254 on).
        let has_room = environment.get("FDSTORE").is_some_and(|count| !count.is_empty());
        Ok(Some(Self { socket, address, is_trusted: has_room || !path.starts_with('@') }))
    }

    /// Tells that the program listens.
    pub(super) fn ready(&self) {
        self.tell("READY=1");
    }

    /// Tells that the program is about to end.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Gives it a descriptor to keep under a name, for the next process.
    ///
    /// # Errors
    /// The system's. Whether the service manager has room for it, it does not tell.
    pub(super) fn store(&self, name: Name, descriptor: &OwnedFd) -> io::Result<()> {
        if !self.is_trusted {
            let why = "NOTIFY_SOCKET is an abstract name, which another user may have taken, and FDSTORE is not set";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        self.send(&format!("FDSTORE=1\nFDNAME={name}"), &[descriptor.as_fd()])
    }

    /// Has it close all that it keeps under a name.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn remove(&self, name: Name) -> io::Result<()> {
        self.send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), &[])
    }

    fn tell(&self, state: &str) {
        if let Err(error) = self.send(state, &[]) {
            tracing::warn!(%error, "the service manager was not told {state}");
        }
    }

    fn send(&self, message: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("more than one descriptor in a message"));
        }
        let message = [IoSlice::new(message.as_bytes())];
        // To the address each time, so that a service manager that has begun anew is reached.
        sendmsg_addr(&self.socket, &self.address, &message, &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}
