//! What is to be there for the modes that are wanted: rules, addresses, routes, sysctls. Data only; nothing is asked or done here.
//!
//! 169.254.170.2 is on `lo` in every mode, and nothing but `lo` and the interfaces that containers come in by (the *doors*) reaches it.
//! A door that is one end of a pair leads there and nowhere else, whatever the task gives itself on the other end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where every SDK asks that has `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`.
pub const ENDPOINT: &str = "169.254.170.2";
/// The IPv6 address that newer SDKs allow in `AWS_CONTAINER_CREDENTIALS_FULL_URI`: that of EKS.
pub const ENDPOINT_V6: &str = "fd00:ec2::23";
/// The instance metadata service.
pub const IMDS: &str = "169.254.169.254";
/// The same over IPv6.
pub const IMDS_V6: &str = "fd00:ec2::254";
/// The port of [`ENDPOINT`].
pub const PORT: u16 = 80;
/// The other end of a pair, in the task's namespace.
pub(super) const INSIDE: &str = "taskcreds0";
/// The ends of pairs, link-local. 169.254.172.0/22 is the ECS agent's own for the same purpose.
const POOL: [u8; 3] = [169, 254, 176];
/// How many namespaces there may be: 169.254.176.2 to 169.254.179.254.
const LAST_NUMBER: u16 = 1022;

/// All modes together, as every `up` leaves them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Bridge mode: the bridges of containers.
    pub bridges: BTreeSet<String>,
    /// Whether instance metadata is blocked for what comes in by them.
    pub block_imds: bool,
    /// Host mode: programs of this machine.
    pub host: bool,
    /// Shared mode: this namespace is that of a pod, with the proxy in it. The value: whether instance metadata is blocked in it.
    pub shared: Option<bool>,
    /// awsvpc mode: the tasks' namespaces.
    pub namespaces: BTreeMap<PathBuf, Namespace>,
    /// The ECS way: the port of loopback to which requests are redirected. Without: the proxy listens on 169.254.170.2:80 itself.
    pub nat: Option<u16>,
    /// Whether [`ENDPOINT_V6`] is offered too.
    pub ipv6: bool,
}

/// The namespace of one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Makes its interface and address its own.
    pub number: u16,
    /// Whether instance metadata is blocked in it.
    pub block_imds: bool,
    /// Device and inode of its file when it was set up: the path of a process leads to another one when the process has gone.
    #[serde(default)]
    pub identity: Option<(u64, u64)>,
}

impl Wanted {
    /// Whether there is no mode.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bridges.is_empty() && !self.host && self.shared.is_none() && self.namespaces.is_empty()
    }

    /// The lowest number that no namespace has.
    #[must_use]
    pub fn free_number(&self) -> Option<u16> {
        let taken: BTreeSet<_> = self.namespaces.values().map(|namespace| namespace.number).collect();
        // The last byte 0 or 255 would look like that of a network.
        (2..=LAST_NUMBER).find(|number| !taken.contains(number) && !matches!(number % 256, 0 | 255))
    }
}

/// What this machine has.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// IPv6 is not switched off.
    pub ipv6: bool,
    /// Bridges that are wanted and not there yet. Their rules wait for them.
    pub absent: BTreeSet<String>,
}

/// What is to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What may pass.
    pub rules: Rules,
    /// In the order in which they are made.
    pub pieces: Vec<Piece>,
    /// What cannot be had in these modes.
    pub notes: Vec<&'static str>,
}

/// What may pass, for every backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The interfaces that the endpoint may be asked by, beside `lo`.
    pub doors: Vec<String>,
    /// The ends of pairs on this side. By them nothing but the endpoint is reached, and nothing is forwarded from or to them.
    pub pairs: Vec<String>,
    /// Those by which instance metadata is not reached.
    pub no_imds: Vec<String>,
    /// Programs of this machine ask the endpoint.
    pub own: bool,
    /// The port of 127.0.0.1 to which requests are redirected.
    pub nat: Option<u16>,
    /// There is IPv6 to guard.
    pub ipv6: bool,
    /// [`ENDPOINT_V6`] is offered.
    pub endpoint_v6: bool,
}

impl Rules {
    /// The rules while these go: a pair is guarded until it has gone.
    pub(super) fn guarding<'a>(&self, leaving: impl Iterator<Item = &'a Piece>) -> Self {
        let leaving = leaving.filter_map(|piece| match piece {
            Piece::Pair { device, .. } => Some(device.clone()),
            _ => None,
        });
        Self { pairs: self.pairs.iter().cloned().chain(leaving).collect(), ..self.clone() }
    }
}

/// One thing that is made with `ip` or below /proc/sys, here or in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Piece {
    /// An address on a device.
    Address {
        /// The namespace; `None`: this one.
        space: Option<PathBuf>,
        /// With its prefix length.
        address: String,
        /// The device.
        device: String,
    },
    /// A pair of interfaces, one end here and one, `taskcreds0`, in a namespace.
    Pair {
        /// The end here.
        device: String,
        /// The namespace.
        namespace: PathBuf,
    },
    /// A route.
    Route {
        /// The namespace; `None`: this one.
        space: Option<PathBuf>,
        /// With its prefix length.
        to: String,
        /// `unreachable`, or what follows the destination: `dev taskcreds0`.
        by: String,
    },
    /// A value below /proc/sys.
    Sysctl {
        /// `net/ipv4/conf/docker0/route_localnet`
        key: String,
        /// The value.
        value: String,
    },
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let space = match self {
            Self::Address { space, address, device } => {
                write!(f, "address {address} on {device}")?;
                space
            }
            Self::Route { space, to, by } => {
                write!(f, "route {to} {by}")?;
                space
            }
            Self::Pair { device, namespace } => {
                return write!(f, "interface {device}, a pair with {INSIDE} in {}", namespace.display());
            }
            Self::Sysctl { key, value } => return write!(f, "sysctl {}={value}", dotted(key)),
        };
        space.as_deref().map_or(Ok(()), |space| write!(f, " in {}", space.display()))
    }
}

/// As sysctl(8) has it: the dots of an interface's name become slashes.
pub(super) fn dotted(key: &str) -> String {
    key.chars()
        .map(|c| {
            if c == '/' {
                '.'
            } else if c == '.' {
                '/'
            } else {
                c
            }
        })
        .collect()
}

impl Plan {
    /// What is to be there.
    #[must_use]
    pub fn new(wanted: &Wanted, facts: &Facts) -> Self {
        let endpoint_v6 = wanted.ipv6 && facts.ipv6;
        let pairs: Vec<_> = wanted.namespaces.values().map(|namespace| device(namespace.number)).collect();
        let of_bridges = if wanted.block_imds { wanted.bridges.iter().cloned().collect() } else { Vec::new() };
        let of_pairs = wanted.namespaces.values().filter(|namespace| namespace.block_imds);
        let rules = Rules {
            doors: wanted.bridges.iter().chain(&pairs).cloned().collect(),
            no_imds: of_bridges.into_iter().chain(of_pairs.map(|namespace| device(namespace.number))).collect(),
            pairs,
            own: wanted.host || wanted.shared.is_some(),
            nat: wanted.nat,
            ipv6: facts.ipv6,
            endpoint_v6,
        };
        let mut pieces = vec![address(None, &format!("{ENDPOINT}/32"), "lo")];
        if endpoint_v6 {
            pieces.push(address(None, &format!("{ENDPOINT_V6}/128"), "lo"));
        }
        for (path, namespace) in &wanted.namespaces {
            of_namespace(&mut pieces, path, *namespace, facts, endpoint_v6);
        }
        if wanted.shared == Some(true) {
            block_imds(&mut pieces, None, facts);
        }
        if wanted.nat.is_some() {
            // On the doors and not on `all`, which would let every neighbour send to 127.0.0.1.
            let key = |door| format!("net/ipv4/conf/{door}/route_localnet");
            let there = rules.doors.iter().filter(|door| !facts.absent.contains(*door));
            pieces.extend(there.map(|door| Piece::Sysctl { key: key(door), value: "1".to_owned() }));
        }
        let mut notes = Vec::new();
        if wanted.host {
            notes.push("host mode: programs of this machine reach the instance metadata service as before; that cannot be blocked for them and left to the proxy");
        }
        if wanted.shared == Some(false) {
            notes.push("shared mode: instance metadata is not blocked, because the proxy is in the same namespace (--block-imds does it)");
        }
        if wanted.nat.is_some() && endpoint_v6 {
            notes.push("fd00:ec2::23 is never redirected: Linux routes nothing to ::1 from elsewhere; let the proxy listen on [fd00:ec2::23]:80");
        }
        if wanted.ipv6 && !facts.ipv6 {
            notes.push("IPv6 is switched off on this machine: fd00:ec2::23 is left out");
        }
        Self { rules, pieces, notes }
    }
}

/// The end of a pair on this side.
fn device(number: u16) -> String {
    format!("taskcreds-{number}")
}

fn address(space: Option<&Path>, address: &str, device: &str) -> Piece {
    Piece::Address { space: space.map(Path::to_owned), address: address.to_owned(), device: device.to_owned() }
}

fn route(space: Option<&Path>, to: &str, by: impl Into<String>) -> Piece {
    Piece::Route { space: space.map(Path::to_owned), to: to.to_owned(), by: by.into() }
}

/// A pair, because a listener in the namespace would have the proxy enter it, which takes CAP_SYS_ADMIN, and be there for every task; and
/// because by a pair the namespace can be a task's source. Not a bridge: by that tasks would reach each other.
fn of_namespace(pieces: &mut Vec<Piece>, path: &Path, namespace: Namespace, facts: &Facts, endpoint_v6: bool) {
    let device = device(namespace.number);
    let [a, b, c] = POOL;
    let inside = format!("{a}.{b}.{}.{}", u16::from(c) + namespace.number / 256, namespace.number % 256);
    pieces.push(Piece::Pair { device: device.clone(), namespace: path.to_owned() });
    pieces.push(address(Some(path), &format!("{inside}/32"), INSIDE));
    pieces.push(route(None, &format!("{inside}/32"), format!("dev {device}")));
    pieces.push(route(Some(path), &format!("{ENDPOINT}/32"), format!("dev {INSIDE} src {inside}")));
    if endpoint_v6 {
        pieces.push(address(None, "fe80::1/64", &device));
        pieces.push(address(Some(path), "fe80::2/64", INSIDE));
        pieces.push(route(Some(path), &format!("{ENDPOINT_V6}/128"), format!("via fe80::1 dev {INSIDE}")));
    }
    if namespace.block_imds {
        block_imds(pieces, Some(path), facts);
    }
}

/// Unreachable, not a blackhole: the SDK is told at once, and by an error that it knows.
fn block_imds(pieces: &mut Vec<Piece>, space: Option<&Path>, facts: &Facts) {
    pieces.push(route(space, &format!("{IMDS}/32"), "unreachable"));
    if facts.ipv6 {
        pieces.push(route(space, &format!("{IMDS_V6}/128"), "unreachable"));
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
