//! Where a connection comes from, as far as shares go.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An IPv4 address, or the first 64 bits of an IPv6 address: whoever has one address of such a network can take all
/// others of it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Source {
    V4(Ipv4Addr),
    V6(u64),
}

impl Source {
    /// Of a peer's address. An IPv4 address that a listener for both families shows as an IPv6 address is an IPv4
    /// address.
    pub(super) fn of(address: SocketAddr) -> Self {
        match address.ip().to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6(u64::try_from(address.to_bits() >> 64).unwrap_or_default()),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => address.fmt(f),
            Self::V6(network) => write!(f, "{}/64", Ipv6Addr::from_bits(u128::from(*network) << 64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(address: &str) -> Source {
        Source::of(address.parse().unwrap())
    }

    #[test]
    fn an_ipv4_address_is_a_source_whatever_the_listener_calls_it() {
        assert_eq!(source("192.0.2.7:1"), source("192.0.2.7:65535"));
        assert_eq!(source("192.0.2.7:1"), source("[::ffff:192.0.2.7]:1"));
        assert_ne!(source("192.0.2.7:1"), source("192.0.2.8:1"));
        assert_eq!(source("[::ffff:192.0.2.7]:1").to_string(), "192.0.2.7");
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        assert_eq!(source("[2001:db8:1:2::1]:1"), source("[2001:db8:1:2:ffff:ffff:ffff:ffff]:2"));
        assert_ne!(source("[2001:db8:1:2::1]:1"), source("[2001:db8:1:3::1]:1"));
        assert_eq!(source("[2001:db8:1:2::1]:1").to_string(), "2001:db8:1:2::/64");
        assert_eq!(source("[::1]:1").to_string(), "::/64");
    }
}
