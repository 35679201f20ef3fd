//! Whom a container asks for names.
//!
//! It gets the machine's own name servers where it can reach them. Those on the machine's loopback
//! are out of its reach: then the upstream servers of systemd-resolved serve, and otherwise this
//! process relays questions from an address inside the container's own loopback.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::link::RELAY_ADDRESS;

/// The most that a resolver looks at, and more than any real file holds.
const MAX_RESOLV_CONF_BYTES: u64 = 64 << 10;

/// Resolvers read three and ignore the rest.
const MAX_NAME_SERVERS: usize = 3;

const MACHINE: &str = "/etc/resolv.conf";
const UPSTREAM: &str = "/run/systemd/resolve/resolv.conf";
const DNS_PORT: u16 = 53;

/// How a container resolves names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Its `/etc/resolv.conf`.
    pub(super) text: String,
    /// Servers that it asks itself.
    pub(super) direct: Vec<Ipv4Addr>,
    /// A server of the machine that is asked for it.
    pub(super) relayed: Option<SocketAddr>,
}

/// How a container in a private network resolves names.
pub(super) fn plan() -> Plan {
    plan_from(&read(MACHINE), &read(UPSTREAM))
}

/// The machine's own file.
pub(super) fn of_machine() -> String {
    read(MACHINE)
}

fn read(path: &str) -> String {
    let mut bytes = Vec::new();
    let opened = File::open(path);
    let read = opened.and_then(|file| file.take(MAX_RESOLV_CONF_BYTES).read_to_end(&mut bytes));
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

fn plan_from(machine: &str, upstream: &str) -> Plan {
    let (mut servers, mut source) = (reachable(machine), machine);
    if servers.is_empty() {
        (servers, source) = (reachable(upstream), upstream);
    }
    if !servers.is_empty() {
        let text = resolv_conf(&servers, source);
        return Plan {
            text,
            direct: servers,
            relayed: None,
        };
    }
    let relayed = name_servers(machine).next();
    let servers: Vec<Ipv4Addr> = relayed.map(|_| RELAY_ADDRESS).into_iter().collect();
    Plan {
        text: resolv_conf(&servers, machine),
        direct: Vec::new(),
        relayed: relayed.map(|address| SocketAddr::new(address, DNS_PORT)),
    }
}

/// Servers that a container with an IPv4 address can be let through to.
fn reachable(text: &str) -> Vec<Ipv4Addr> {
    let servers = name_servers(text).filter_map(|address| match address {
        IpAddr::V4(address) if !address.is_loopback() && !address.is_unspecified() => Some(address),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    });
    servers.take(MAX_NAME_SERVERS).collect()
}

fn name_servers(text: &str) -> impl Iterator<Item = IpAddr> + '_ {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then_some(())?;
        words.next()?.parse().ok()
    })
}

/// The given servers with the search list and options of a file.
fn resolv_conf(servers: &[Ipv4Addr], source: &str) -> String {
    let mut text = String::new();
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    let kept = ["search", "domain", "options"];
    for line in source.lines().map(str::trim) {
        let word = line.split_whitespace().next().unwrap_or_default();
        if kept.contains(&word) {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans() {
        let lan = "# x\nnameserver 192.168.1.1\nnameserver fe80::1%eth0\nsearch a.example b\n\
                   options ndots:2\nnameserver 10.0.0.2\n";
        let stub = "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch home\n";
        let upstream = "nameserver 10.1.1.1\nsearch corp\n";
        let v6 = "nameserver 2001:db8::53\n";
        let many = "nameserver 1.0.0.1\nnameserver 1.0.0.2\nnameserver 1.0.0.3\nnameserver 1.0.0.4";
        let table = [
            (
                (lan, upstream),
                "nameserver 192.168.1.1\nnameserver 10.0.0.2\nsearch a.example b\n\
                 options ndots:2\n",
                2,
                None,
            ),
            (
                (stub, upstream),
                "nameserver 10.1.1.1\nsearch corp\n",
                1,
                None,
            ),
            (
                (stub, ""),
                "nameserver 127.0.0.11\noptions edns0 trust-ad\nsearch home\n",
                0,
                Some("127.0.0.53:53"),
            ),
            (
                (v6, ""),
                "nameserver 127.0.0.11\n",
                0,
                Some("[2001:db8::53]:53"),
            ),
            (
                (many, ""),
                "nameserver 1.0.0.1\nnameserver 1.0.0.2\nnameserver 1.0.0.3\n",
                3,
                None,
            ),
            (("", ""), "", 0, None),
            (("nameserver\nnameserver x\n", ""), "", 0, None),
        ];
        for ((machine, upstream), text, direct, relayed) in table {
            let plan = plan_from(machine, upstream);
            assert_eq!(plan.text, text, "{machine}");
            assert_eq!(plan.direct.len(), direct, "{machine}");
            let relay = plan.relayed.map(|address| address.to_string());
            assert_eq!(relay.as_deref(), relayed, "{machine}");
        }
    }
}
