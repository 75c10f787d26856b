//! rtnetlink(7), as `ip` speaks it: one message to the kernel, one answer or a list. What is asked about and changed is in the network namespace of
//! the thread.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};
use rustix::thread::{CapabilitySet, capabilities};

// linux/netlink.h.
const HEAD: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
/// What is there already is a fault (NLM_F_CREATE and NLM_F_EXCL).
pub(crate) const NEW: u16 = 0x400 | 0x200;

/// One question, one answer: what stands behind the answer's head. Needs no privilege.
///
/// # Errors
/// The system's; the kernel has no such answer.
pub(crate) fn ask(question: u16, answer: u16, body: &[u8]) -> io::Result<Vec<u8>> {
    let (kind, content) = exchange(question, NLM_F_REQUEST, body)?;
    if kind == answer { Ok(content) } else { Err(io::Error::from(io::ErrorKind::NotFound)) }
}

/// One question, any number of answers: what stands behind the head of each. Needs no privilege.
///
/// # Errors
/// The system's.
pub(crate) fn list(question: u16, answer: u16, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let route = send_message(question, NLM_F_REQUEST | NLM_F_DUMP, body)?;
    let (mut all, mut reply) = (Vec::new(), vec![0; 32 * 1024]);
    loop {
        let (length, _) = recv(&route, &mut reply, RecvFlags::DONTWAIT)?;
        let mut messages = reply.get(..length).unwrap_or_default();
        while let Some((kind, content, rest)) = first(messages) {
            match kind {
                NLMSG_DONE => return Ok(all),
                NLMSG_ERROR => return Err(io::Error::other("the kernel does not list that")),
                kind if kind == answer => all.push(content.to_vec()),
                _ => {}
            }
            messages = rest;
        }
    }
}

/// The type of the first message, what stands behind its head, and the messages behind it.
fn first(messages: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*messages.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes(*messages.get(4..)?.first_chunk()?);
    let rest = messages.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, messages.get(HEAD..length)?, rest))
}

/// Whether this process has CAP_NET_ADMIN.
pub(crate) fn may_tell() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::NET_ADMIN))
}

/// Has the kernel do something. Needs CAP_NET_ADMIN in the user namespace that the network namespace belongs to.
///
/// # Errors
/// The system's, by its number: EPERM without the capability, EEXIST with [`NEW`] for what is there.
pub(crate) fn tell(command: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    let (kind, content) = exchange(command, NLM_F_REQUEST | NLM_F_ACK | flags, body)?;
    match (kind, content.first_chunk::<4>().copied().map(i32::from_ne_bytes)) {
        (NLMSG_ERROR, Some(0)) => Ok(()),
        (NLMSG_ERROR, Some(number)) => Err(io::Error::from_raw_os_error(number.saturating_neg())),
        _ => Err(io::Error::other("the kernel gives another answer than expected")),
    }
}

/// The type of the answer, and what stands behind its head.
fn exchange(message: u16, flags: u16, body: &[u8]) -> io::Result<(u16, Vec<u8>)> {
    let route = send_message(message, flags, body)?;
    let mut reply = vec![0; 32 * 1024];
    let (length, _) = recv(&route, &mut reply, RecvFlags::DONTWAIT)?;
    let (kind, content, _) = first(reply.get(..length).unwrap_or_default()).ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok((kind, content.to_vec()))
}

/// The socket of the answer, which is there when this returns.
fn send_message(message: u16, flags: u16, body: &[u8]) -> io::Result<OwnedFd> {
    let route = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let length = u32::try_from(HEAD + body.len()).map_err(io::Error::other)?;
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(message.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(body);
    send(&route, &bytes, SendFlags::empty())?;
    Ok(route)
}

/// Adds an attribute to the body of a message (struct rtattr: rtnetlink(7)). A content of more than 65,531 bytes makes a message that the
/// kernel refuses.
pub(crate) fn add_attribute(body: &mut Vec<u8>, of_type: u16, content: &[u8]) {
    body.extend(u16::try_from(content.len() + 4).unwrap_or(u16::MAX).to_ne_bytes());
    body.extend(of_type.to_ne_bytes());
    body.extend(content);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// The content of the first attribute of a type.
pub(crate) fn attribute(mut attributes: &[u8], of_type: u16) -> Option<&[u8]> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_read_as_it_was_written_and_the_next_one_begins_at_a_multiple_of_four() {
        let mut body = Vec::new();
        for (of_type, content) in [(1, &b"veth\0"[..]), (2, b""), (3, b"1234")] {
            add_attribute(&mut body, of_type, content);
        }
        assert_eq!(body.len(), 12 + 4 + 8);
        assert_eq!(
            [1, 2, 3, 4].map(|of_type| attribute(&body, of_type)),
            [Some(&b"veth\0"[..]), Some(b""), Some(b"1234"), None]
        );
    }
}
