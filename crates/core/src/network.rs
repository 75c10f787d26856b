//! Addresses with a common beginning.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::grammar::Invalid;

/// Addresses with a common beginning: `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(IpNet);

impl Network {
    /// Checks `ADDRESS` or `ADDRESS/PREFIX` (RFC 4632 section 3.1, RFC 4291 section 2.3).
    ///
    /// # Errors
    /// [`Invalid`] for anything else, for a prefix that is too long, and for an address with bits behind its prefix, which is likely
    /// another network than was meant.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        let wrong = || {
            let rule = "must be an address or a network, as 172.17.0.2, 172.17.0.0/16 or fd00::/8, an interface, as \
                        interface:docker0, or a network namespace, as netns:/run/netns/web";
            Invalid::new("source", rule)
        };
        // In two parts: ipnet's own parser takes `010.0.0.0`, which the standard library refuses, as some read it as octal.
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let network = match prefix {
            None => IpNet::from(address),
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                let prefix = digits.parse().map_err(|_| wrong())?;
                IpNet::new(address, prefix).map_err(|_| wrong())?
            }
            Some(_) => return Err(wrong()),
        };
        let cut = network.trunc();
        if cut != network {
            return Err(Invalid::new("source", format!("has bits behind its prefix; {cut} is the network")));
        }
        Ok(Self(network))
    }

    /// Whether an address belongs to it. An IPv4 address that came mapped into IPv6 is the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_what_begins_like_it_and_nothing_else() {
        let table = [
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.5", "10.0.0.5", true),
            ("10.0.0.5", "10.0.0.4", false),
            ("10.0.0.4/31", "10.0.0.5", true),
            ("10.0.0.4/31", "10.0.0.6", false),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("::/0", "::ffff:10.0.0.1", false),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe00::1", false),
            ("fd00::1", "fd00::1", true),
            ("::1/128", "::1", true),
            ("::ffff:10.0.0.0/104", "10.0.0.1", false),
            ("10.0.0.0/08", "10.0.0.1", true),
        ];
        for (network, address, inside) in table {
            assert_eq!(
                Network::new(network).unwrap().contains(address.parse().unwrap()),
                inside,
                "{network} {address}"
            );
        }
        for bad in [
            "",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.1/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "10.0.0.0/256",
            "010.0.0.0/8",
            "10.0.0.0 /8",
            "host",
            "10.0/8",
        ] {
            assert!(Network::new(bad).is_err(), "{bad}");
        }
        assert!(Network::new("10.0.0.1/8").unwrap_err().rule.contains("10.0.0.0/8"));
    }
}
