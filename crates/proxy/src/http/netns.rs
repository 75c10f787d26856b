//! Which network namespace is at the other end of an interface: rtnetlink(7), as `ip -details link` asks it. Needs no privilege.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::netlink::{add_attribute, ask, attribute};

/// Kinds of interface whose one other end is all that can send by them.
const PAIRS: [&[u8]; 2] = [b"veth", b"netkit"];

// linux/rtnetlink.h, linux/if_link.h, linux/net_namespace.h.
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

/// Opens the file of a namespace, and no other one: a pipe would be waited for, and a device does things when it is opened.
fn open(path: &Path) -> io::Result<File> {
    /// linux/magic.h.
    const NSFS_MAGIC: u32 = 0x6e73_6673;
    let looked_at = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    if u32::try_from(rustix::fs::fstatfs(&looked_at)?.f_type).ok() != Some(NSFS_MAGIC) {
        return Err(io::Error::other("no file of a namespace"));
    }
    let again = format!("/proc/self/fd/{}", looked_at.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(again, flags, Mode::empty())?.into())
}

/// Whether what comes in by this interface of the process's own namespace comes from the namespace of this file.
///
/// # Errors
/// The system's: there is no such file, or no such interface any more.
pub(super) fn is_behind(interface: u32, network_namespace: &Path) -> io::Result<bool> {
    let file = open(network_namespace)?;
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
    add_attribute(&mut request, NETNSA_FD, &file.as_raw_fd().to_ne_bytes());
    let reply = ask(RTM_GETNSID, RTM_NEWNSID, &request)?;
    let named = attribute(reply.get(RTGENMSG..).unwrap_or_default(), NETNSA_NSID);
    // -1 has no number here: no interface of this namespace leads there.
    Ok(named.is_some_and(|named| named == there && named != (-1_i32).to_ne_bytes()))
}
