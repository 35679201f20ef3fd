//! What may leave a container, as one nftables table that is loaded whole.
//!
//! Every packet of a container is judged twice: where it enters the machine, before anybody else's
//! translation of addresses could send it elsewhere, and again where it is routed. Denied are other
//! sources than the container's own address, IPv6 (which containers do not have), the machine's own
//! addresses, other containers, link-local addresses and the metadata services of the large
//! clouds. Name servers that the container was told of may be asked, wherever they are.

use std::fmt::Write;
use std::net::Ipv4Addr;

use super::Subnet;
use super::link::INTERFACE_PREFIX;

const TABLE: &str = "holdfast";

/// Never reachable: Alibaba's metadata service, Azure's host agent, link-local with most clouds'
/// metadata services in it, Oracle's older one. Their IPv6 counterparts go with all of IPv6.
const DENIED: [&str; 4] = [
    "100.100.100.200",
    "168.63.129.16",
    "169.254.0.0/16",
    "192.0.0.192",
];

/// Replaces the table, in one transaction.
pub(super) fn ruleset(subnet: Subnet, nameservers: &[Ipv4Addr], routes_for_others: bool) -> String {
    let ours = format!("\"{INTERFACE_PREFIX}*\"");
    let mut text = removal();
    let denied = DENIED.join(", ");
    let _ = write!(
        text,
        "table inet {TABLE} {{
  chain leaving {{
    fib saddr . iif oif 0 drop
    meta nfproto ipv6 drop
    ct state established,related accept
    ct state invalid drop
{dns}    fib daddr type {{ broadcast, multicast, anycast }} drop
    fib daddr type local reject with icmp admin-prohibited
    ip daddr {{ {denied} }} reject with icmp admin-prohibited
    ip daddr {subnet} reject with icmp admin-prohibited
  }}
  chain early {{
    type filter hook prerouting priority mangle; policy accept;
    iifname {ours} jump leaving
  }}
  chain input {{
    type filter hook input priority filter - 10; policy accept;
    iifname {ours} ct state established,related accept
{dns_input}    iifname {ours} drop
  }}
  chain forward {{
    type filter hook forward priority filter - 10; policy accept;
    iifname {ours} oifname {ours} drop
    iifname {ours} jump leaving
    iifname {ours} accept
    oifname {ours} ct state established,related accept
    oifname {ours} drop
{guard}  }}
  chain translate {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {subnet} oifname != {ours} masquerade
  }}
}}
",
        dns = name_servers(nameservers, ""),
        dns_input = name_servers(nameservers, &format!("iifname {ours} ")),
        guard = guard(routes_for_others),
    );
    text
}

/// Removes the table, whether it is there or not.
pub(super) fn removal() -> String {
    format!("table inet {TABLE} {{ }}\ndelete table inet {TABLE}\n")
}

fn name_servers(servers: &[Ipv4Addr], condition: &str) -> String {
    if servers.is_empty() {
        return String::new();
    }
    let list: Vec<String> = servers.iter().map(Ipv4Addr::to_string).collect();
    let list = list.join(", ");
    format!("    {condition}ip daddr {{ {list} }} meta l4proto {{ tcp, udp }} th dport 53 accept\n")
}

/// A machine that did not route before routes for nobody else because of us.
fn guard(routes_for_others: bool) -> &'static str {
    if routes_for_others { "" } else { "    drop\n" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table() {
        let subnet = "10.88.0.0/16".parse().expect("a subnet");
        let expected = r#"table inet holdfast { }
delete table inet holdfast
table inet holdfast {
  chain leaving {
    fib saddr . iif oif 0 drop
    meta nfproto ipv6 drop
    ct state established,related accept
    ct state invalid drop
    ip daddr { 10.0.0.2, 192.0.2.53 } meta l4proto { tcp, udp } th dport 53 accept
    fib daddr type { broadcast, multicast, anycast } drop
    fib daddr type local reject with icmp admin-prohibited
    ip daddr { DENIED } reject with icmp admin-prohibited
    ip daddr 10.88.0.0/16 reject with icmp admin-prohibited
  }
  chain early {
    type filter hook prerouting priority mangle; policy accept;
    iifname "hfv*" jump leaving
  }
  chain input {
    type filter hook input priority filter - 10; policy accept;
    iifname "hfv*" ct state established,related accept
    iifname "hfv*" ip daddr { 10.0.0.2, 192.0.2.53 } meta l4proto { tcp, udp } th dport 53 accept
    iifname "hfv*" drop
  }
  chain forward {
    type filter hook forward priority filter - 10; policy accept;
    iifname "hfv*" oifname "hfv*" drop
    iifname "hfv*" jump leaving
    iifname "hfv*" accept
    oifname "hfv*" ct state established,related accept
    oifname "hfv*" drop
    drop
  }
  chain translate {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr 10.88.0.0/16 oifname != "hfv*" masquerade
  }
}
"#;
        let servers = [Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(192, 0, 2, 53)];
        // By itself, since the line would be too long.
        let denied = "100.100.100.200, 168.63.129.16, 169.254.0.0/16, 192.0.0.192";
        let expected = expected.replace("DENIED", denied);
        assert_eq!(ruleset(subnet, &servers, false), expected);
    }

    #[test]
    fn without_name_servers_on_a_router() {
        let subnet = "10.88.0.0/16".parse().expect("a subnet");
        let text = ruleset(subnet, &[], true);
        assert!(!text.contains("dport 53"));
        assert!(text.contains("drop\n  }\n  chain translate"));
        assert!(!text.contains("    drop\n  }"));
    }
}
