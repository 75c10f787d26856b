//! The way of a connection as Linux tells it: the interface that it came in by, and the network namespace behind that.
//!
//! The kernel notes with each TCP connection by which interface its first packet came in, before any redirection and whatever its
//! addresses say, and tells it by the options that ip(7) and RFC 2292 section 4.1 have for packets. Which namespace the other end of
//! a veth is in is for rtnetlink(7) to say.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;

use rustix::net::netdevice::index_to_name;
use taskcreds_core::Way;
use tokio::net::{TcpListener, TcpStream};

use super::netns;
use crate::{netlink, sys};

/// getsockopt of IP level: what was noted with the connection, as control messages. Not in libc: linux/in.h.
const IP_PKTOPTIONS: i32 = 9;
/// The same of IPv6 level: linux/in6.h.
const IPV6_2292PKTOPTIONS: i32 = 6;
/// The cookie of a socket's network namespace. Since Linux 5.14: asm-generic/socket.h.
const SO_NETNS_COOKIE: i32 = 71;

/// The loopback device, in every network namespace.
pub(crate) const LOOPBACK: u32 = 1;

/// The way that one connection came.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// The other end.
    peer: SocketAddr,
    /// The index of the interface in the listener's network namespace; 0: not told.
    interface: u32,
    /// The listener is in the network namespace of this process, the only one whose addresses and interfaces can be asked about.
    is_here: bool,
}

impl Told {
    /// Of a connection of which nothing is told.
    pub const NOTHING: Self =
        Self { peer: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0), interface: 0, is_here: false };

    pub(super) fn of(stream: &TcpStream, peer: SocketAddr, is_here: bool) -> Self {
        interface(stream).map_or(Self::NOTHING, |interface| Self { peer, interface, is_here })
    }

    /// Where a program of this machine has asked an address of another interface than loopback, the kernel tells that interface, although
    /// nothing came in by it.
    fn interface(&self) -> Option<u32> {
        match self.interface {
            0 => None,
            LOOPBACK => Some(LOOPBACK),
            _ if !self.is_here => None,
            other => Some(if is_own(self.peer).ok()? { LOOPBACK } else { other }),
        }
    }
}

impl Way for Told {
    fn is_by(&self, interface: &str) -> bool {
        match self.interface() {
            Some(LOOPBACK) => interface == "lo",
            Some(index) => name_of(index).is_ok_and(|name| name == interface),
            None => false,
        }
    }

    fn is_from(&self, network_namespace: &Path) -> bool {
        let is_behind = |interface| netns::is_behind(interface, network_namespace).unwrap_or(false);
        self.is_here && self.interface().is_some_and(is_behind)
    }
}

/// Not the other way round: asked for the number of a name that no interface has, the kernel looks for a module of that name.
fn name_of(index: u32) -> io::Result<String> {
    Ok(index_to_name(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?, index)?)
}

/// Whether an address is this machine's, by the kernel's own routes: all of 127.0.0.0/8, and an interface's second address too, which is
/// not the source that the kernel would choose. Sends nothing.
///
/// # Errors
/// The system's: there is no route to the address.
pub(crate) fn is_own(address: SocketAddr) -> io::Result<bool> {
    // linux/rtnetlink.h.
    const RTM_NEWROUTE: u16 = 24;
    const RTM_GETROUTE: u16 = 26;
    const RTMSG: usize = 12;
    const TYPE: usize = 7;
    const RTN_LOCAL: u8 = 2;
    const RTA_DST: u16 = 1;
    const RTA_OIF: u16 = 4;
    let (family, bits, bytes, device) = match (address.ip().to_canonical(), address) {
        (IpAddr::V4(ip), _) => (libc::AF_INET, 32, ip.octets().to_vec(), 0),
        (IpAddr::V6(ip), SocketAddr::V6(whole)) => (libc::AF_INET6, 128, ip.octets().to_vec(), whole.scope_id()),
        (IpAddr::V6(ip), SocketAddr::V4(_)) => (libc::AF_INET6, 128, ip.octets().to_vec(), 0),
    };
    let mut request = vec![0; RTMSG];
    request.splice(0..2, [u8::try_from(family).map_err(io::Error::other)?, bits]);
    netlink::add_attribute(&mut request, RTA_DST, &bytes);
    if device != 0 {
        netlink::add_attribute(&mut request, RTA_OIF, &device.to_ne_bytes());
    }
    let reply = netlink::ask(RTM_GETROUTE, RTM_NEWROUTE, &request)?;
    Ok(reply.get(TYPE) == Some(&RTN_LOCAL))
}

/// Whether a listener is in the network namespace of this process. Linux tells it since 5.14.
pub(super) fn is_here(listener: &TcpListener) -> bool {
    let own = || cookie(&UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?);
    matches!((cookie(listener), own()), (Some(there), Some(here)) if there == here)
}

fn cookie(socket: &impl std::os::fd::AsRawFd) -> Option<u64> {
    let mut value = [0; 8];
    let written = sys::option(socket, libc::SOL_SOCKET, SO_NETNS_COOKIE, &mut value).ok()?;
    written.try_into().ok().map(u64::from_ne_bytes)
}

/// The index of the interface by which the first packet came in.
fn interface(stream: &TcpStream) -> Option<u32> {
    let mut value = [0; 128];
    // The option of the connection and not of the listener, which would tell nothing of those made before it was set.
    let (written, kind, offset) = if stream.local_addr().ok()?.is_ipv4() {
        sys::switch_on(stream, libc::IPPROTO_IP, libc::IP_PKTINFO).ok()?;
        let written = sys::option(stream, libc::IPPROTO_IP, IP_PKTOPTIONS, &mut value).ok()?;
        // struct in_pktinfo begins with it.
        (written, [libc::IPPROTO_IP, libc::IP_PKTINFO], 0)
    } else {
        sys::switch_on(stream, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO).ok()?;
        let written = sys::option(stream, libc::IPPROTO_IPV6, IPV6_2292PKTOPTIONS, &mut value).ok()?;
        // struct in6_pktinfo has an address before it.
        (written, [libc::IPPROTO_IPV6, libc::IPV6_PKTINFO], 16)
    };
    message(written, kind)?.get(offset..offset + 4)?.try_into().ok().map(u32::from_ne_bytes).filter(|index| *index != 0)
}

/// What a control message of a level and type holds (struct cmsghdr: cmsg(3)).
fn message(mut messages: &[u8], kind: [i32; 2]) -> Option<&[u8]> {
    const WORD: usize = size_of::<usize>();
    const HEAD: usize = WORD + 8;
    loop {
        let (length, rest) = messages.split_first_chunk::<WORD>()?;
        let (level, rest) = rest.split_first_chunk::<4>()?;
        let (of_type, rest) = rest.split_first_chunk::<4>()?;
        let length = usize::from_ne_bytes(*length);
        let content = rest.get(..length.checked_sub(HEAD)?)?;
        if [i32::from_ne_bytes(*level), i32::from_ne_bytes(*of_type)] == kind {
            return Some(content);
        }
        messages = messages.get(length.next_multiple_of(WORD)..)?;
    }
}
