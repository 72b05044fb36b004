//! Addresses that the operator may connect to. The author of a store or a policy names hosts; they must not lead to services
//! that only the Pod or its node should reach: the operator's own ports, a sidecar, the cloud's metadata service.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// Metadata services and the like outside of the link-local networks: Azure, Alibaba Cloud, Oracle Cloud.
const METADATA: [Ipv4Addr; 3] =
    [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)];

/// The metadata service of Google Cloud.
const METADATA_GOOGLE: Ipv6Addr = Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254);

/// A kind of address that is refused unless it is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 127.0.0.0/8, `::1`: the Pod itself.
    Loopback,
    /// 169.254.0.0/16, `fe80::/10`: the node and its neighbours.
    LinkLocal,
    /// A cloud service that issues credentials.
    Metadata,
    /// 0.0.0.0/8, `::`, which lead to the Pod itself.
    Unspecified,
    /// 224.0.0.0/4, `ff00::/8`, 255.255.255.255: more than one host.
    Multicast,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "a loopback address",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "the address of a cloud's metadata service",
            Self::Unspecified => "an unspecified address",
            Self::Multicast => "a multicast address",
        })
    }
}

/// An address that the operator must not connect to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{host} resolves to {address}, which is {kind}")]
pub struct Refused {
    /// The host, as given.
    pub host: String,
    /// One of its addresses.
    pub address: IpAddr,
    /// Why the address is refused.
    pub kind: Kind,
}

/// An invalid list of exceptions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is neither a network such as 10.0.0.0/8, nor an address, nor a host name such as postgres.example.org; separate entries with commas"
)]
pub struct InvalidAddresses(String);

/// Decides which addresses are allowed: all except those of a [`Kind`], plus exceptions. By default there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressPolicy {
    unrestricted: bool,
    networks: Vec<IpNet>,
    names: Vec<String>,
}

impl AddressPolicy {
    /// Allows any address: for a command line, whose user can reach these addresses anyway.
    pub fn unrestricted() -> Self {
        Self { unrestricted: true, ..Self::default() }
    }

    /// Whether any address is allowed.
    pub const fn is_unrestricted(&self) -> bool {
        self.unrestricted
    }

    /// Checks whether `host`, which has this address, is allowed.
    ///
    /// # Errors
    /// The address is refused.
    pub fn check(&self, host: &str, address: IpAddr) -> Result<(), Refused> {
        let Some(kind) = kind(address).filter(|_| !self.unrestricted) else { return Ok(()) };
        let canonical = address.to_canonical();
        let by_network = self.networks.iter().any(|network| network.contains(&canonical));
        let name = host.trim_end_matches('.');
        if by_network || self.names.iter().any(|allowed| allowed.eq_ignore_ascii_case(name)) {
            return Ok(());
        }
        Err(Refused { host: host.to_owned(), address, kind })
    }
}

impl FromStr for AddressPolicy {
    type Err = InvalidAddresses;

    /// Parses exceptions: networks, addresses and host names, separated by commas; none in an empty text.
    fn from_str(text: &str) -> Result<Self, InvalidAddresses> {
        let mut policy = Self::default();
        for entry in text.split(',').map(str::trim).filter(|_| !text.trim().is_empty()) {
            if let Ok(network) = entry.parse::<IpNet>() {
                policy.networks.push(network);
            } else if let Ok(address) = entry.parse::<IpAddr>() {
                policy.networks.push(address.to_canonical().into());
            } else if is_name(entry) {
                policy.names.push(entry.to_ascii_lowercase());
            } else {
                return Err(InvalidAddresses(entry.to_owned()));
            }
        }
        Ok(policy)
    }
}

impl fmt::Display for AddressPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let networks = self.networks.iter().map(ToString::to_string);
        f.write_str(&networks.chain(self.names.iter().cloned()).collect::<Vec<_>>().join(","))
    }
}

/// Whether a text can be a host name. A last label of digits only is rejected, because some resolvers read it as an address.
pub fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= 253 && text.split('.').all(label) && !last.bytes().all(|b| b.is_ascii_digit())
}

/// Returns the kind of an address that is refused, or `None`.
fn kind(address: IpAddr) -> Option<Kind> {
    match address {
        IpAddr::V4(address) => kind_of_v4(address),
        IpAddr::V6(address) => kind_of_v6(address),
    }
}

fn kind_of_v4(address: Ipv4Addr) -> Option<Kind> {
    match address.octets() {
        [127, ..] => Some(Kind::Loopback),
        [0, ..] => Some(Kind::Unspecified),
        [169, 254, 169 | 170, _] => Some(Kind::Metadata),
        [169, 254, ..] => Some(Kind::LinkLocal),
        [224..=239, ..] | [255, 255, 255, 255] => Some(Kind::Multicast),
        _ => METADATA.contains(&address).then_some(Kind::Metadata),
    }
}

fn kind_of_v6(address: Ipv6Addr) -> Option<Kind> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some(Kind::Unspecified),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some(Kind::Loopback),
        // Amazon reserves the whole network for services of its instances.
        [0xfd00, 0x0ec2, ..] => Some(Kind::Metadata),
        _ if address == METADATA_GOOGLE => Some(Kind::Metadata),
        // fec0::/10 are the deprecated site-local addresses.
        [0xfe80..=0xfeff, ..] => Some(Kind::LinkLocal),
        [0xff00..=0xffff, ..] => Some(Kind::Multicast),
        _ => embedded_v4(address).and_then(kind_of_v4),
    }
}

/// Returns the IPv4 address embedded in an IPv6 address, which a kernel or a router may translate to.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        // IPv4-mapped, the deprecated IPv4-compatible, and translated (SIIT).
        [0, 0, 0, 0, 0, 0xffff | 0, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        // NAT64: the well-known prefix, and the prefix for local use.
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        // 6to4.
        | [0x2002, high, low, ..] => Some(v4(high, low)),
        // Teredo.
        [0x2001, 0, _, _, _, _, high, low] => Some(v4(!high, !low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(policy: &AddressPolicy, host: &str, address: &str) -> Option<Kind> {
        policy.check(host, address.parse().unwrap()).err().map(|refused| refused.kind)
    }

    #[test]
    fn addresses_of_the_pod_and_its_node_are_refused() {
        let policy = AddressPolicy::default();
        for (kind, addresses) in [
            (
                Kind::Loopback,
                "127.0.0.1 127.8.9.1 ::1 ::ffff:127.0.0.1 ::ffff:0:127.0.0.1 ::127.0.0.1 64:ff9b::7f00:1 64:ff9b:1::7f00:1 2002:7f00:1:: 2001::80ff:fffe",
            ),
            (Kind::LinkLocal, "169.254.1.1 fe80::1 febf::1 fec0::1 ::ffff:169.254.7.8"),
            (
                Kind::Metadata,
                "169.254.169.254 169.254.170.2 fd00:ec2::254 fd20:ce::254 168.63.129.16 100.100.100.200 192.0.0.192 ::ffff:169.254.169.254 64:ff9b::a9fe:a9fe",
            ),
            (Kind::Unspecified, "0.0.0.0 0.1.2.3 :: ::ffff:0.0.0.0"),
            (Kind::Multicast, "224.0.0.1 239.1.1.1 255.255.255.255 ff02::1"),
        ] {
            for address in addresses.split(' ') {
                assert_eq!(refused(&policy, "h", address), Some(kind), "{address}");
                assert_eq!(refused(&AddressPolicy::unrestricted(), "h", address), None, "{address}");
            }
        }
    }

    #[test]
    fn private_and_public_addresses_are_allowed() {
        let all = "10.0.0.1 172.16.0.1 192.168.1.1 100.64.0.1 8.8.8.8 128.0.0.1 169.253.1.1 fd00::1 fd12::1 2001:db8::1 2606:4700::1 \
                   ::ffff:10.0.0.1 64:ff9b::808:808 2002:808:808::1";
        for address in all.split(' ') {
            assert_eq!(refused(&AddressPolicy::default(), "h", address), None, "{address}");
        }
    }

    #[test]
    fn exceptions_are_networks_addresses_and_names() {
        let policy: AddressPolicy = " 127.0.0.0/8 , ::1,Postgres.Sidecar.local".parse().unwrap();
        for (host, address, expected) in [
            ("h", "127.0.0.1", None),
            ("h", "::ffff:127.0.0.1", None),
            ("h", "::1", None),
            ("h", "169.254.1.1", Some(Kind::LinkLocal)),
            ("postgres.sidecar.local.", "169.254.1.1", None),
            ("x.postgres.sidecar.local", "169.254.1.1", Some(Kind::LinkLocal)),
        ] {
            assert_eq!(refused(&policy, host, address), expected, "{host} {address}");
        }
        assert_eq!(policy.to_string(), "127.0.0.0/8,::1/128,postgres.sidecar.local");
        assert_eq!("".parse(), Ok(AddressPolicy::default()));
    }

    #[test]
    fn invalid_exception_is_rejected() {
        for text in [
            "10.0.0.0/33",
            "256.1.1.1",
            "a,,b",
            "a b",
            "*.example.org",
            "-a",
            "http://a",
            "a/8",
            "1",
            "[::1]",
        ] {
            assert!(text.parse::<AddressPolicy>().is_err(), "{text}");
        }
    }
}
