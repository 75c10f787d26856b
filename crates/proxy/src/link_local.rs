//! 169.254.170.2 on `lo` of a network namespace that containers share, and the listener on its port 80: so a relative URI leads to this
//! proxy with no subnet.
//!
//! What it guarantees: nothing is added where the port cannot be had; nothing is taken away that was there before, or while another
//! process listens there. Who holds the port decides: it is bound before the address is added and once more before it goes.

use std::io;

use tokio::net::TcpListener;

use crate::failure::{Exit, Failure};
use crate::http::way::{LOOPBACK, is_own};
use crate::http::{ENDPOINT, LINK_LOCAL, bind_before};
use crate::netlink;

// linux/rtnetlink.h, linux/if_addr.h.
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
/// AF_INET.
const FAMILY: u8 = 2;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_F_PERMANENT: u8 = 0x80;
/// Known to this machine only, so the kernel never takes it as the source of what goes out by another interface.
const RT_SCOPE_HOST: u8 = 254;

/// The address, which this process has added. Taken away when dropped, for which its listener must be closed already.
#[derive(Debug)]
pub(crate) struct Added(());

/// Listens, and adds the address unless it is there already; then there is nothing to take away.
///
/// # Errors
/// The port cannot be had, or the address not be added: which capability is missing, who may have the port, and what else does it.
pub(crate) fn listen() -> Result<(TcpListener, Option<Added>), Failure> {
    let bound = bind_before(ENDPOINT).and_then(TcpListener::from_std);
    let listener = bound.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => failure(&format!(
            "--link-local cannot listen on {ENDPOINT}: the port is taken, by another taskcreds in this network namespace or by a web server \
             on all addresses; stop or move it (ss -ltnp names it; {error})"
        )),
        io::ErrorKind::PermissionDenied if is_there() || netlink::may_tell() => failure(&no_port(&error)),
        io::ErrorKind::PermissionDenied => failure(&format!("{}\n{}", no_port(&error), no_address(&error))),
        _ => failure(&format!("--link-local cannot listen on {ENDPOINT}: {error}")),
    })?;
    Ok((listener, add()?))
}

/// Adds the address, for a listener that was passed, unless it is there already. It stays when this process ends as long as somebody
/// keeps that listener for the next one.
///
/// # Errors
/// As for [`listen`].
pub(crate) fn add() -> Result<Option<Added>, Failure> {
    if is_there() {
        tracing::info!("{LINK_LOCAL} was there before: it stays when this process ends");
        return Ok(None);
    }
    match netlink::tell(RTM_NEWADDR, netlink::NEW, &address()) {
        Ok(()) => {
            tracing::info!("added {LINK_LOCAL}/32 to lo of this network namespace");
            Ok(Some(Added(())))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(failure(&no_address(&error))),
    }
}

impl Drop for Added {
    fn drop(&mut self) {
        // Who listens there would be cut off: a process that has begun to since this one has stopped, or one that begins with the socket that
        // the service manager keeps. Nobody can begin to while this listener is there.
        let listener = match bind_before(ENDPOINT) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::info!(%error, "{LINK_LOCAL} stays on lo: somebody listens there still");
                return;
            }
        };
        if let Err(error) = netlink::tell(RTM_DELADDR, 0, &address()) {
            tracing::warn!(%error, "{LINK_LOCAL} stays on lo");
        }
        drop(listener);
    }
}

/// Whether the address is on `lo`, so that only programs of this network namespace have business with it. Not told: no.
pub(crate) fn is_on_loopback() -> bool {
    // struct ifaddrmsg.
    const HEAD: usize = 8;
    let is_it = |message: &Vec<u8>| {
        let index = message.get(4..HEAD).and_then(|index| index.try_into().ok()).map(u32::from_ne_bytes);
        let local = message.get(HEAD..).and_then(|attributes| netlink::attribute(attributes, IFA_LOCAL));
        index == Some(LOOPBACK) && local == Some(&LINK_LOCAL.octets())
    };
    netlink::list(RTM_GETADDR, RTM_NEWADDR, &[FAMILY, 0, 0, 0, 0, 0, 0, 0]).is_ok_and(|all| all.iter().any(is_it))
}

/// Whether the address is on an interface of this network namespace.
fn is_there() -> bool {
    is_own(ENDPOINT).unwrap_or(false)
}

/// 169.254.170.2/32 on `lo`: struct ifaddrmsg and its attributes.
fn address() -> Vec<u8> {
    let mut body = vec![FAMILY, 32, IFA_F_PERMANENT, RT_SCOPE_HOST];
    body.extend(LOOPBACK.to_ne_bytes());
    for attribute in [IFA_LOCAL, IFA_ADDRESS] {
        netlink::add_attribute(&mut body, attribute, &LINK_LOCAL.octets());
    }
    body
}

fn failure(message: &str) -> Failure {
    Failure::new(Exit::Unavailable, message)
}

fn no_port(error: &io::Error) -> String {
    format!(
        "--link-local cannot listen on {ENDPOINT}: port 80 needs CAP_NET_BIND_SERVICE, in the proxy alone ({error})"
    )
}

fn no_address(error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "this needs CAP_NET_ADMIN, in the proxy alone (compose: cap_add; Kubernetes: securityContext.capabilities.add)"
        }
        _ => "the kernel refuses it",
    };
    format!(
        "--link-local cannot add {LINK_LOCAL}/32 to lo: {why}; or have it added before, by ip address add {LINK_LOCAL}/32 dev lo ({error})"
    )
}
