//! Addresses, routes and pairs of interfaces: whether one is there, what makes it, what takes it away.

use std::path::Path;

use serde_json::Value;

use super::command::Call;
use super::plan::{INSIDE, Piece, dotted};
use super::{has_ipv6, sysctl};
use crate::failure::{Exit, Failure};

impl Piece {
    /// Whether it is there. What cannot be looked at, as in a namespace that has gone, is not.
    pub(super) fn is_there(&self) -> bool {
        match self {
            Self::Address { space, address, device } => {
                let shown = show(space.as_deref(), &format!("address show dev {device}"));
                let (wanted, length) = address.split_once('/').unwrap_or((address, "32"));
                let all = shown.iter().filter_map(|link| link.get("addr_info")?.as_array()).flatten();
                all.filter(|one| one.get("local").and_then(Value::as_str) == Some(wanted))
                    .any(|one| one.get("prefixlen").and_then(Value::as_u64) == length.parse().ok())
            }
            Self::Route { space, to, by } => {
                let family = if to.contains(':') { "-6 " } else { "" };
                let shown = show(space.as_deref(), &format!("{family}route show {to}"));
                shown.iter().any(|route| match by.as_str() {
                    "unreachable" => text(route, "type") == Some("unreachable"),
                    by => text(route, "dev").is_some_and(|dev| format!("{by} ").contains(&format!("dev {dev} "))),
                })
            }
            Self::Pair { device, namespace } => {
                !show(None, &format!("link show dev {device}")).is_empty()
                    && !show(Some(namespace), &format!("link show dev {INSIDE}")).is_empty()
            }
            Self::Sysctl { key, value } => sysctl::read(key).as_ref() == Some(value),
        }
    }

    /// What there is instead of it and has to be put back.
    pub(super) fn found(&self) -> Option<String> {
        match self {
            Self::Sysctl { key, .. } => sysctl::read(key),
            _ => None,
        }
    }

    /// What makes it.
    pub(super) fn making(&self) -> Vec<Call> {
        match self {
            Self::Address { space, address, device } => {
                // Of the host's scope it is never the source of what this machine sends elsewhere.
                let more = match (address.contains(':'), device.as_str()) {
                    (true, _) => " nodad",
                    (false, "lo") => " scope host",
                    (false, _) => "",
                };
                vec![ip(space.as_deref(), &format!("address add {address} dev {device}{more}"))]
            }
            Self::Route { space, to, by } if by == "unreachable" => {
                vec![ip(space.as_deref(), &format!("route add unreachable {to}"))]
            }
            Self::Route { space, to, by } => vec![ip(space.as_deref(), &format!("route add {to} {by}"))],
            Self::Pair { device, namespace } => {
                let add = ip(None, &format!("link add {device} type veth peer name {INSIDE} netns"));
                let mut calls = vec![
                    add.with(&namespace.to_string_lossy()),
                    ip(None, &format!("link set {device} up")),
                    ip(Some(namespace), &format!("link set {INSIDE} up")),
                ];
                if has_ipv6() {
                    // Before it is up, or it gives itself an address that this machine's IPv6 services are reached at without our rules.
                    calls.insert(1, ip(None, &format!("link set {device} addrgenmode none")));
                }
                calls
            }
            Self::Sysctl { key, value } => vec![Call::new("sysctl", &format!("-w {}={value}", dotted(key)))],
        }
    }

    /// What takes it away, or puts back what was found.
    pub(super) fn unmaking(&self, found: Option<&str>) -> Vec<Call> {
        match self {
            Self::Address { space, address, device } => {
                vec![ip(space.as_deref(), &format!("address del {address} dev {device}"))]
            }
            Self::Route { space, to, by } if by == "unreachable" => {
                vec![ip(space.as_deref(), &format!("route del unreachable {to}"))]
            }
            Self::Route { space, to, by } => vec![ip(space.as_deref(), &format!("route del {to} {by}"))],
            Self::Pair { device, .. } => vec![ip(None, &format!("link del {device}"))],
            Self::Sysctl { key, .. } => {
                found.map(|found| Call::new("sysctl", &format!("-w {}={found}", dotted(key)))).into_iter().collect()
            }
        }
    }

    /// Makes it.
    ///
    /// # Errors
    /// The system's; it is not there then, not even half of it.
    pub(super) fn make(&self) -> Result<(), Failure> {
        if let Self::Sysctl { key, value } = self {
            return set(key, value);
        }
        for (number, call) in self.making().iter().enumerate() {
            if let Err(failure) = call.run() {
                // An interface of that name that was there before is somebody else's.
                if number > 0 {
                    self.unmake(None)?;
                }
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Takes it away, or puts back what was found. What is not there is left alone.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn unmake(&self, found: Option<&str>) -> Result<(), Failure> {
        match (self, found) {
            // The interface may have gone.
            (Self::Sysctl { key, .. }, Some(found)) if sysctl::read(key).is_some() => set(key, found),
            (Self::Sysctl { .. }, _) => Ok(()),
            // Of a pair one end may be left.
            (Self::Pair { device, .. }, _) if show(None, &format!("link show dev {device}")).is_empty() => Ok(()),
            (Self::Pair { .. }, _) => self.unmaking(None).iter().try_for_each(|call| call.run().map(drop)),
            _ if !self.is_there() => Ok(()),
            _ => self.unmaking(None).iter().try_for_each(|call| call.run().map(drop)),
        }
    }
}

fn set(key: &str, value: &str) -> Result<(), Failure> {
    sysctl::write(key, value).map_err(|error| {
        let exit =
            if error.kind() == std::io::ErrorKind::PermissionDenied { Exit::NoPermission } else { Exit::Software };
        Failure::new(exit, format!("cannot set {} to {value}: {error}", dotted(key)))
    })
}

fn ip(space: Option<&Path>, arguments: &str) -> Call {
    Call::new("ip", arguments).inside(space)
}

/// What `ip -j` tells; nothing where it fails.
fn show(space: Option<&Path>, arguments: &str) -> Vec<Value> {
    let said = ip(space, &format!("-j {arguments}")).run().unwrap_or_default();
    let whole: Value = serde_json::from_str(&said).unwrap_or_default();
    // An interface that was left out is an empty object.
    let items = whole.as_array().into_iter().flatten();
    items.filter(|item| item.as_object().is_some_and(|item| !item.is_empty())).cloned().collect()
}

fn text<'a>(item: &'a Value, key: &str) -> Option<&'a str> {
    item.get(key).and_then(Value::as_str)
}
