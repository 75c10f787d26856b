//! Where a task may be asked from, as its `sources` say. It is never who somebody is: it only takes away from what an id and a token give.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::grammar::Invalid;
use crate::network::Network;

/// One place that a request may come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// An address of these.
    Network(Network),
    /// The interface of this machine by which the connection came in, as a container bridge. Linux alone tells it.
    Interface(String),
    /// A network namespace, by its file. Linux tells it of a connection over loopback, and of one that came in by a veth or netkit device
    /// whose other end is there; behind a bridge it is not told.
    NetworkNamespace(PathBuf),
}

/// What the system can tell of a connection's way beyond its addresses. Asked only for a task that demands it.
pub trait Way {
    /// Whether it came in by the interface of this name.
    fn is_by(&self, interface: &str) -> bool;
    /// Whether it comes from the network namespace of this file.
    fn is_from(&self, network_namespace: &Path) -> bool;
}

const KINDS: [fn(&Origin) -> bool; 3] = [
    |origin| matches!(origin, Origin::Network(_)),
    |origin| matches!(origin, Origin::Interface(_)),
    |origin| matches!(origin, Origin::NetworkNamespace(_)),
];

impl Origin {
    /// Checks an address, a network, `interface:NAME` (at most 15 bytes, dev_valid_name() of Linux) or `netns:/ABSOLUTE/PATH`.
    ///
    /// # Errors
    /// [`Invalid`] for anything else, and for the last two where the system does not tell them.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        let invalid = |rule: &str| Err(Invalid::new("source", rule));
        let origin = if let Some(name) = text.strip_prefix("interface:") {
            let is_name = |name: &str| {
                (1..=15).contains(&name.len())
                    && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b':')
                    && ![".", ".."].contains(&name)
            };
            if !is_name(name) {
                return invalid(
                    "must name an interface after \"interface:\", in 1 to 15 characters, as interface:docker0",
                );
            }
            Self::Interface(name.to_owned())
        } else if let Some(path) = text.strip_prefix("netns:") {
            if !path.starts_with('/') || path.contains('\0') {
                return invalid("must have an absolute path after \"netns:\", as netns:/run/netns/web");
            }
            Self::NetworkNamespace(path.into())
        } else {
            return Network::new(text).map(Self::Network);
        };
        if !cfg!(target_os = "linux") {
            return invalid("cannot be an interface or a network namespace: only Linux tells these of a connection");
        }
        Ok(origin)
    }

    /// Whether a connection may ask: of each kind that there is, one is met.
    pub(crate) fn admit(origins: &[Self], address: IpAddr, way: &dyn Way) -> bool {
        KINDS.iter().all(|is_of_kind| {
            let mut of_kind = origins.iter().filter(|origin| is_of_kind(origin)).peekable();
            of_kind.peek().is_none() || of_kind.any(|origin| origin.is_met(address, way))
        })
    }

    fn is_met(&self, address: IpAddr, way: &dyn Way) -> bool {
        match self {
            Self::Network(network) => network.contains(address),
            Self::Interface(name) => way.is_by(name),
            Self::NetworkNamespace(path) => way.is_from(path),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => network.fmt(f),
            Self::Interface(name) => write!(f, "interface:{name}"),
            Self::NetworkNamespace(path) => write!(f, "netns:{}", path.display()),
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// In by docker0, from the namespace of /run/netns/web.
    struct Told;

    impl Way for Told {
        fn is_by(&self, interface: &str) -> bool {
            interface == "docker0"
        }

        fn is_from(&self, network_namespace: &Path) -> bool {
            network_namespace == Path::new("/run/netns/web")
        }
    }

    #[test]
    fn of_each_kind_that_is_named_one_must_be_met() {
        let table: [(&[&str], bool); 9] = [
            (&[], true),
            (&["10.0.0.0/8", "192.168.0.1"], true),
            (&["192.168.0.1"], false),
            (&["interface:eth0", "interface:docker0"], true),
            (&["interface:eth0"], false),
            (&["10.0.0.0/8", "interface:eth0"], false),
            (&["192.168.0.1", "interface:docker0"], false),
            (&["netns:/run/netns/web", "interface:docker0", "10.0.0.0/8"], true),
            (&["netns:/run/netns/other", "interface:docker0", "10.0.0.0/8"], false),
        ];
        for (texts, admitted) in table {
            let origins: Vec<_> = texts.iter().map(|text| Origin::new(text).unwrap()).collect();
            assert_eq!(Origin::admit(&origins, "10.1.2.3".parse().unwrap(), &Told), admitted, "{texts:?}");
            let again: Vec<_> = origins.iter().map(|origin| Origin::new(&origin.to_string()).unwrap()).collect();
            assert_eq!(again, origins);
        }
    }

    #[test]
    fn what_names_no_place_is_refused() {
        for bad in [
            "interface:",
            "interface:a/b",
            "interface:..",
            "interface:a b",
            "interface:sixteen-letters-",
            "netns:web",
            "netns:",
            "netns:/a\0b",
            "Interface:eth0",
            "docker0",
        ] {
            assert!(Origin::new(bad).is_err(), "{bad}");
        }
    }
}
