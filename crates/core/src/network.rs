//! Addresses with a common beginning.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::grammar::Invalid;

/// Addresses with a common beginning: `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    first: IpAddr,
    prefix: u8,
}

impl Network {
    /// Checks `ADDRESS` or `ADDRESS/PREFIX` (RFC 4632 section 3.1, RFC 4291 section 2.3).
    ///
    /// # Errors
    /// [`Invalid`] for anything else, for a prefix that is too long, and for an address with bits behind its prefix, which is likely
    /// another network than was meant.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        let wrong =
            || Invalid::new("source", "must be an address or a network, as 172.17.0.2, 172.17.0.0/16 or fd00::/8");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let first: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if first.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => most,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().map_err(|_| wrong())?,
            Some(_) => return Err(wrong()),
        };
        if prefix > most {
            return Err(wrong());
        }
        let network = Self { first, prefix };
        if cut(first, prefix) != first {
            return Err(Invalid::new(
                "source",
                format!("has bits behind its prefix; {} is the network", Self { first: cut(first, prefix), prefix }),
            ));
        }
        Ok(network)
    }

    /// Whether an address belongs to it. An IPv4 address that came mapped into IPv6 is the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && cut(address, self.prefix) == self.first
    }
}

/// The address with all bits behind the prefix at zero.
fn cut(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - prefix.min(32)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - prefix.min(128)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
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
        ];
        for (network, address, inside) in table {
            assert_eq!(
                Network::new(network).unwrap().contains(address.parse().unwrap()),
                inside,
                "{network} {address}"
            );
        }
        for bad in
            ["", "10.0.0.0/33", "::/129", "10.0.0.1/8", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/8/8", "host", "10.0/8"]
        {
            assert!(Network::new(bad).is_err(), "{bad}");
        }
        assert!(Network::new("10.0.0.1/8").unwrap_err().rule.contains("10.0.0.0/8"));
    }
}
