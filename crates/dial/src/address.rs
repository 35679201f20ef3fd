//! What kind of place an address is, and how far a user's own words reach.
//!
//! Classification is by table and fails closed: an IPv6 address outside the global unicast block is
//! not public, whatever it may become one day. Transition formats that carry an IPv4 address inside
//! (6to4, NAT64, Teredo, ISATAP) are never taken for public, since the inner address is where they
//! lead.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of place an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressClass {
    /// An address of the public internet.
    Public,
    /// An address of a private network, which a user may name.
    Private,
    /// This machine, which a user may name.
    Loopback,
    /// A place that only the operator can allow, with the reason.
    Forbidden(&'static str),
}

/// How far connections for one registry may reach, from the way in which the user named it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Reach {
    /// The public internet only.
    #[default]
    Public,
    /// Private networks too: the user named such an address or a private name.
    Private,
    /// This machine too: the user named it.
    Loopback,
}

impl Reach {
    /// Whether an address of this class may be connected to without the operator's word.
    pub fn covers(self, class: AddressClass) -> bool {
        match class {
            AddressClass::Public => true,
            AddressClass::Private => self >= Reach::Private,
            AddressClass::Loopback => self >= Reach::Loopback,
            AddressClass::Forbidden(_) => false,
        }
    }

    /// How far the user reached by typing this host (no port, no brackets).
    pub fn of_host(host: &str) -> Self {
        if let Ok(address) = host.parse::<IpAddr>() {
            return match classify(address) {
                AddressClass::Loopback => Reach::Loopback,
                AddressClass::Private => Reach::Private,
                AddressClass::Public | AddressClass::Forbidden(_) => Reach::Public,
            };
        }
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        if is_loopback_name(&name) {
            Reach::Loopback
        } else if is_private_name(&name) {
            Reach::Private
        } else {
            Reach::Public
        }
    }
}

/// Whether a host, as typed, is this machine: a loopback literal or the reserved name.
pub(crate) fn is_loopback_host(host: &str) -> bool {
    Reach::of_host(host.trim_start_matches('[').trim_end_matches(']')) == Reach::Loopback
}

fn is_loopback_name(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

/// Names that no public resolver answers for: a single label, and the suffixes that are reserved
/// for private use (RFC 6762, RFC 8375, ICANN's `.internal`).
fn is_private_name(name: &str) -> bool {
    const SUFFIXES: [&str; 6] = [
        ".local",
        ".internal",
        ".home.arpa",
        ".lan",
        ".intranet",
        ".corp",
    ];
    !name.contains('.') || SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

/// What kind of place this address is.
pub fn classify(address: IpAddr) -> AddressClass {
    match address {
        IpAddr::V4(address) => classify_v4(address),
        IpAddr::V6(address) => classify_v6(address),
    }
}

/// Cloud services that answer on addresses which would otherwise be private or public.
const METADATA_V4: [Ipv4Addr; 2] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
];

fn classify_v4(address: Ipv4Addr) -> AddressClass {
    use AddressClass::{Forbidden, Loopback, Private, Public};
    if METADATA_V4.contains(&address) {
        return Forbidden("a cloud metadata address");
    }
    match address.octets() {
        [0, ..] => Forbidden("an unspecified address"),
        [127, ..] => Loopback,
        [169, 254, ..] => Forbidden("a link-local or metadata address"),
        // 100.64/10 (carriers) and 198.18/15 (benchmarks) are used inside networks and VPNs.
        [10, ..]
        | [172, 16..=31, ..]
        | [192, 168, ..]
        | [100, 64..=127, ..]
        | [198, 18 | 19, ..] => Private,
        [192, 0, 0, _] => Forbidden("a protocol assignment address"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => {
            Forbidden("a documentation address")
        }
        [192, 88, 99, _] => Forbidden("a 6to4 relay address"),
        [224..=239, ..] => Forbidden("a multicast address"),
        [240..=255, ..] => Forbidden("a reserved address"),
        _ => Public,
    }
}

fn classify_v6(address: Ipv6Addr) -> AddressClass {
    use AddressClass::{Forbidden, Loopback, Private, Public};
    if address == Ipv6Addr::LOCALHOST {
        return Loopback;
    }
    if let Some(inner) = address.to_ipv4_mapped() {
        return classify_mapped(inner);
    }
    match address.segments() {
        // The interface identifier of RFC 5214, below any prefix, with a local or a global address.
        [.., 0x0000 | 0x0200, 0x5efe, _, _] => Forbidden("an ISATAP address"),
        [0, 0, 0, 0, 0, 0, ..] => Forbidden("an unspecified address"),
        [0x0064, 0xff9b, ..] => Forbidden("a NAT64 address"),
        // AWS (fd00:ec2::/32) and Google (fd20:ce::/32) answer for their metadata services there.
        [0xfd00, 0x0ec2, ..] | [0xfd20, 0x00ce, ..] => Forbidden("a cloud metadata address"),
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Private,
        [0xfe80..=0xfebf, ..] => Forbidden("a link-local address"),
        [0xff00..=0xffff, ..] => Forbidden("a multicast address"),
        [0x2002, ..] => Forbidden("a 6to4 address"),
        [0x2001, 0x0000, ..] => Forbidden("a Teredo address"),
        [0x2001, 0x0db8, ..] | [0x3fff, 0x0000..=0x0fff, ..] => {
            Forbidden("a documentation address")
        }
        [0x2001, 0x0001..=0x01ff, ..] => Forbidden("a protocol assignment address"),
        [0x2000..=0x3fff, ..] => Public,
        _ => Forbidden("not a global unicast address"),
    }
}

/// A mapped address leads to the inner one, but nothing honest hands it out: never public.
fn classify_mapped(inner: Ipv4Addr) -> AddressClass {
    match classify_v4(inner) {
        AddressClass::Public => AddressClass::Private,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(text: &str) -> AddressClass {
        classify(text.parse().expect("test address"))
    }

    #[test]
    fn addresses_are_classified() {
        let public = [
            "8.8.8.8",
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1111",
        ];
        for address in public {
            assert_eq!(class(address), AddressClass::Public, "{address}");
        }
        let private = [
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "198.18.0.1",
            "fd12::1",
            "fec0::1",
            "::ffff:10.0.0.1",
            "::ffff:8.8.8.8",
        ];
        for address in private {
            assert_eq!(class(address), AddressClass::Private, "{address}");
        }
        for address in ["127.0.0.1", "127.255.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(class(address), AddressClass::Loopback, "{address}");
        }
    }

    #[test]
    fn what_leads_astray_is_forbidden() {
        let forbidden = [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.170.2",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.1",
            "192.88.99.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::7f00:1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001::1",
            "2001::a9fe:a9fe",
            "2606:4700::5efe:a9fe:a9fe",
            "2606:4700::200:5efe:808:808",
            "fd12::5efe:7f00:1",
            "::ffff:0:127.0.0.1",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "2001:db8::1",
            "3fff::1",
            "100::1",
            "::ffff:169.254.169.254",
            "4000::1",
        ];
        for address in forbidden {
            assert!(
                matches!(class(address), AddressClass::Forbidden(_)),
                "{address}"
            );
        }
    }

    #[test]
    fn reach_follows_what_the_user_typed() {
        let cases = [
            ("127.0.0.1", Reach::Loopback),
            ("::1", Reach::Loopback),
            ("localhost", Reach::Loopback),
            ("LOCALHOST.", Reach::Loopback),
            ("a.localhost", Reach::Loopback),
            ("localhost.evil.com", Reach::Public),
            ("127.0.0.1.evil.com", Reach::Public),
            ("10.1.2.3", Reach::Private),
            ("fd12::1", Reach::Private),
            ("registry", Reach::Private),
            ("registry.home.arpa", Reach::Private),
            ("registry.internal", Reach::Private),
            ("internal.example.com", Reach::Public),
            ("notlocal", Reach::Private),
            ("notinternal.com", Reach::Public),
            ("169.254.169.254", Reach::Public),
            ("ghcr.io", Reach::Public),
        ];
        for (host, reach) in cases {
            assert_eq!(Reach::of_host(host), reach, "{host}");
        }
    }

    #[test]
    fn reach_widens_in_order() {
        assert!(!Reach::Public.covers(AddressClass::Private));
        assert!(!Reach::Private.covers(AddressClass::Loopback));
        assert!(Reach::Loopback.covers(AddressClass::Private));
        for reach in [Reach::Public, Reach::Private, Reach::Loopback] {
            assert!(reach.covers(AddressClass::Public));
            assert!(!reach.covers(AddressClass::Forbidden("x")));
        }
    }
}
