//! What the service manager passes at the start: listening sockets and the memory of the process before (sd_listen_fds(3)).
//!
//! What it guarantees: every descriptor that was passed is known for what it is or named in a fault; none is inherited by a
//! `credential_process`.

use std::collections::HashMap;
use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use rustix::fs::{FileType, fstat};
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};

use super::sockets::Sockets;
use crate::failure::{Exit, Failure};

/// The first descriptor that is passed (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;
/// What makes a socket the operations endpoint's (`FileDescriptorName=`).
const OPERATIONS: &str = "operations";

/// The names under which the service manager keeps memories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    A,
    B,
}

impl Name {
    /// The next one in turn.
    pub(super) fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    fn of(name: &str) -> Option<Self> {
        [Self::A, Self::B].into_iter().find(|known| known.to_string() == name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "sessions-a",
            Self::B => "sessions-b",
        })
    }
}

/// What was passed.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Sockets that listen already.
    pub sockets: Sockets,
    /// What the process before has left. Not looked into yet.
    pub(super) memories: Vec<(Name, OwnedFd)>,
}

impl Inherited {
    /// Takes what was passed to this process. The first thing that a process does, and once; later calls find nothing.
    ///
    /// # Errors
    /// Something that was passed is not what can be used; the message says what it is and what is expected.
    pub fn take(environment: &HashMap<String, String>) -> Result<Self, Failure> {
        let mut inherited = Self::default();
        for Passed { number, name, descriptor } in passed(environment)? {
            inherited.add(&name, descriptor).map_err(|what| {
                let message = format!(
                    "descriptor {number} (named {name:?}) was passed and {what}. Expected are listening TCP sockets for the credentials \
                     endpoint, at most one named {OPERATIONS:?} for the operations endpoint, at most one listening unix stream \
                     socket for the admin socket, and memories named \"sessions-a\" and \"sessions-b\""
                );
                Failure::new(Exit::Usage, message)
            })?;
        }
        Ok(inherited)
    }

    /// Adds one descriptor by what it is and how it is named.
    fn add(&mut self, name: &str, descriptor: OwnedFd) -> Result<(), String> {
        let Ok(kind) = socket_type(&descriptor) else { return self.add_memory(name, descriptor) };
        let domain = socket_domain(&descriptor).map_err(|error| format!("cannot be looked at: {error}"))?;
        let is_listening = kind == SocketType::STREAM && socket_acceptconn(&descriptor).unwrap_or(false);
        if !is_listening || ![AddressFamily::INET, AddressFamily::INET6, AddressFamily::UNIX].contains(&domain) {
            return Err("is a socket that does not listen for streams".to_owned());
        }
        if domain == AddressFamily::UNIX {
            return set_once(&mut self.sockets.admin, UnixListener::from(descriptor), "a second unix socket");
        }
        let listener = TcpListener::from(descriptor);
        let address = listener.local_addr().map_err(|error| format!("has no address: {error}"))?;
        crate::config::listen_address(&address.to_string()).map_err(|why| format!("listens on {address}: it {why}"))?;
        if name == OPERATIONS {
            return self.add_operations(address, listener);
        }
        self.sockets.endpoint.push((address, listener));
        Ok(())
    }

    fn add_operations(&mut self, address: SocketAddr, listener: TcpListener) -> Result<(), String> {
        crate::config::loopback_address(&address.to_string())
            .map_err(|why| format!("listens on {address}: it {why}"))?;
        set_once(&mut self.sockets.operations, (address, listener), "a second operations endpoint")
    }

    fn add_memory(&mut self, name: &str, descriptor: OwnedFd) -> Result<(), String> {
        let is_file =
            fstat(&descriptor).is_ok_and(|about| FileType::from_raw_mode(about.st_mode) == FileType::RegularFile);
        match Name::of(name) {
            Some(name) if is_file => self.memories.push((name, descriptor)),
            Some(_) => return Err("is no memory".to_owned()),
            None => return Err("is no socket".to_owned()),
        }
        Ok(())
    }
}

fn set_once<T>(place: &mut Option<T>, new: T, second: &str) -> Result<(), String> {
    match place.replace(new) {
        None => Ok(()),
        Some(_) => Err(format!("is {second}")),
    }
}

struct Passed {
    number: RawFd,
    name: String,
    descriptor: OwnedFd,
}

/// The descriptors that the variables `LISTEN_…` tell of, each closed on exec.
fn passed(environment: &HashMap<String, String>) -> Result<Vec<Passed>, Failure> {
    let set = |name| environment.get(name).map(String::as_str);
    // What was passed to another process, as the shell that has started this one, is not this one's.
    if set("LISTEN_PID").and_then(|pid| pid.parse().ok()) != Some(std::process::id()) {
        return Ok(Vec::new());
    }
    let fault = |message: String| Failure::new(Exit::Usage, message);
    let count = set("LISTEN_FDS").unwrap_or("0");
    let numbers = count.parse().map(|count: u16| FIRST..FIRST + RawFd::from(count));
    let numbers = numbers.map_err(|_| fault(format!("LISTEN_FDS={count} is no number of descriptors")))?;
    let names =
        set("LISTEN_FDNAMES").filter(|names| !names.is_empty()).map(|names| names.split(':').collect::<Vec<_>>());
    if let Some(names) = names.as_ref().filter(|names| names.len() != numbers.len()) {
        return Err(fault(format!("LISTEN_FDNAMES has {} names for {count} descriptors", names.len())));
    }
    let descriptors = crate::sys::take_descriptors(numbers.clone())
        .map_err(|missing| fault(format!("LISTEN_FDS={count}, but descriptor {missing} is not open")))?;
    let names = names.unwrap_or_default().into_iter().map(str::to_owned).chain(std::iter::repeat(String::new()));
    let passed = numbers.zip(names).zip(descriptors);
    Ok(passed.map(|((number, name), descriptor)| Passed { number, name, descriptor }).collect())
}
