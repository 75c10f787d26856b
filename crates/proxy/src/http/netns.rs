//! Which network namespace is at the other end of an interface: rtnetlink(7), as `ip -details link` asks it. Needs no privilege.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// Kinds of interface whose one other end is all that can send by them.
const PAIRS: [&[u8]; 2] = [b"veth", b"netkit"];

// linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/net_namespace.h.
const HEAD: usize = 16;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWNSID: u16 = 88;
const RTM_GETNSID: u16 = 90;
const IFINFOMSG: usize = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_LINK_NETNSID: u16 = 37;
const RTGENMSG: usize = 4;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

/// Whether what comes in by this interface of the process's own namespace comes from the namespace of this file.
///
/// # Errors
/// The system's: there is no such file, or no such interface any more.
pub(super) fn is_behind(interface: u32, network_namespace: &Path) -> io::Result<bool> {
    let file = File::open(network_namespace)?;
    let identity = |about: fs::Metadata| (about.dev(), about.ino());
    let is_own = identity(file.metadata()?) == identity(fs::metadata("/proc/self/ns/net")?);
    if interface == super::way::LOOPBACK {
        return Ok(is_own);
    }
    let mut request = vec![0; IFINFOMSG];
    request.splice(4..8, interface.to_ne_bytes());
    let reply = ask(RTM_GETLINK, RTM_NEWLINK, &request)?;
    let link = reply.get(IFINFOMSG..).unwrap_or_default();
    let kind = attribute(link, IFLA_LINKINFO).and_then(|info| attribute(info, IFLA_INFO_KIND));
    if !PAIRS.iter().any(|pair| kind.is_some_and(|kind| kind.strip_suffix(b"\0").unwrap_or(kind) == *pair)) {
        return Ok(false);
    }
    // Without a number the other end is in this namespace too.
    let Some(there) = attribute(link, IFLA_LINK_NETNSID) else { return Ok(is_own) };
    let mut request = vec![0; RTGENMSG];
    request.extend(8_u16.to_ne_bytes());
    request.extend(NETNSA_FD.to_ne_bytes());
    request.extend(file.as_raw_fd().to_ne_bytes());
    let reply = ask(RTM_GETNSID, RTM_NEWNSID, &request)?;
    let named = attribute(reply.get(RTGENMSG..).unwrap_or_default(), NETNSA_NSID);
    // -1 has no number here: no interface of this namespace leads there.
    Ok(named.is_some_and(|named| named == there && named != (-1_i32).to_ne_bytes()))
}

/// One question, one answer: what stands behind the answer's head.
fn ask(question: u16, answer: u16, body: &[u8]) -> io::Result<Vec<u8>> {
    const NLM_F_REQUEST: u16 = 1;
    let route = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let length = u32::try_from(HEAD + body.len()).map_err(io::Error::other)?;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(question.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    send(&route, &message, SendFlags::empty())?;
    let mut reply = vec![0; 32 * 1024];
    // The kernel has answered when `send` returns.
    let (length, _) = recv(&route, &mut reply, RecvFlags::DONTWAIT)?;
    reply.truncate(length);
    let kind = reply.get(4..6).and_then(|kind| kind.try_into().ok()).map(u16::from_ne_bytes);
    if kind != Some(answer) {
        return Err(io::Error::from(io::ErrorKind::NotFound));
    }
    Ok(reply.split_off(HEAD.min(length)))
}

/// The content of the first attribute of a type (struct rtattr: rtnetlink(7)).
fn attribute(mut attributes: &[u8], of_type: u16) -> Option<&[u8]> {
    /// The two highest bits say how the content is made (linux/netlink.h: NLA_TYPE_MASK).
    const TYPE: u16 = 0x3fff;
    loop {
        let (length, rest) = attributes.split_first_chunk::<2>()?;
        let (kind, rest) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_ne_bytes(*length));
        let content = rest.get(..length.checked_sub(4)?)?;
        if u16::from_ne_bytes(*kind) & TYPE == of_type {
            return Some(content);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}
