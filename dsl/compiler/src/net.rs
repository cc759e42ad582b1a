//! Networks as numbers: which addresses belong to one, and the same host part in another.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An aligned network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cidr {
    address: IpAddr,
    prefix: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CidrError {
    /// Not an address and a prefix length.
    Unreadable,
    /// Bits are set behind the prefix; this is the network they lie in.
    Unaligned(Cidr),
}

fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    }
}

fn address(value: u128, width: u8) -> IpAddr {
    if width == 32 {
        IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(value & u128::from(u32::MAX)).unwrap_or(0)))
    } else {
        IpAddr::V6(Ipv6Addr::from_bits(value))
    }
}

fn host_mask(width: u8, prefix: u8) -> u128 {
    match width - prefix {
        128.. => u128::MAX,
        free => (1u128 << free) - 1,
    }
}

impl Cidr {
    pub(crate) fn parse(text: &str) -> Result<Self, CidrError> {
        let (head, tail) = text.split_once('/').ok_or(CidrError::Unreadable)?;
        let parsed: IpAddr = head.parse().map_err(|_| CidrError::Unreadable)?;
        let prefix: u8 = tail.parse().map_err(|_| CidrError::Unreadable)?;
        let (value, width) = bits(parsed);
        if prefix > width {
            return Err(CidrError::Unreadable);
        }
        let base = value & !host_mask(width, prefix);
        let cidr = Self { address: address(base, width), prefix };
        if base == value { Ok(cidr) } else { Err(CidrError::Unaligned(cidr)) }
    }
    pub(crate) fn prefix(&self) -> u8 {
        self.prefix
    }
    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        let ((base, width), (value, of)) = (bits(self.address), bits(ip));
        width == of && value & !host_mask(width, self.prefix) == base
    }
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }
    /// The address with the same host part in `to`; `None` when it does not fit there.
    pub(crate) fn carry(&self, ip: IpAddr, to: &Self) -> Option<IpAddr> {
        let ((value, width), (base, target)) = (bits(ip), bits(to.address));
        let host = value & host_mask(width, self.prefix);
        (width == target && host <= host_mask(target, to.prefix)).then(|| address(base | host, target))
    }
    /// The network itself, the broadcast address, or the first host address (the gateway).
    pub(crate) fn is_reserved(&self, ip: IpAddr) -> bool {
        let (value, width) = bits(ip);
        let mask = host_mask(width, self.prefix);
        let host = value & mask;
        mask > 2 && (host == 0 || host == 1 || (width == 32 && host == mask))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        Cidr::parse(text).unwrap()
    }

    #[test]
    fn host_parts_carry_over() {
        let (from, to) = (cidr("10.10.20.0/24"), cidr("10.60.20.0/24"));
        assert_eq!(from.carry("10.10.20.11".parse().unwrap(), &to), Some("10.60.20.11".parse().unwrap()));
        assert_eq!(from.carry("10.10.20.77".parse().unwrap(), &cidr("10.60.20.0/26")), None);
        let v6 = (cidr("fd00:1::/64"), cidr("fd00:2::/64"));
        assert_eq!(v6.0.carry("fd00:1::11".parse().unwrap(), &v6.1), Some("fd00:2::11".parse().unwrap()));
    }

    #[test]
    fn networks_are_aligned_and_reserve_their_ends() {
        assert_eq!(Cidr::parse("10.0.0.5/24"), Err(CidrError::Unaligned(cidr("10.0.0.0/24"))));
        assert_eq!(Cidr::parse("10.0.0.0/33"), Err(CidrError::Unreadable));
        let net = cidr("10.0.0.0/24");
        for reserved in ["10.0.0.0", "10.0.0.1", "10.0.0.255"] {
            assert!(net.is_reserved(reserved.parse().unwrap()), "{reserved}");
        }
        assert!(!net.is_reserved("10.0.0.2".parse().unwrap()));
        assert!(net.overlaps(&cidr("10.0.0.128/25")) && !net.overlaps(&cidr("10.0.1.0/24")));
    }
}
