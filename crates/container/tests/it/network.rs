//! What a container's network reaches, tested in a small world of its own.
//!
//! Each test runs a script in new network, mount and process namespaces. There the script's own
//! network is the machine, and a further namespace is everything outside of it, with an allowed
//! server and servers at addresses that no container may reach.

use std::process::{Command, Stdio};

use container::reap_stale;

use crate::fixture::{FIRST_ID, Place, driver_path};

const WORLD: &str = r#"
set -eu
mount -t tmpfs none /run
mkdir -p /run/netns
ip link set lo up
ip netns add outside
ip link add up0 type veth peer name out0 netns outside
ip address add 198.18.0.1/24 dev up0
ip address add 192.168.77.1/24 dev up0
ip link set up0 up
ip route add default via 198.18.0.2
ip -n outside link set lo up
ip -n outside address add 198.18.0.2/24 dev out0
for address in 169.254.169.254 169.254.170.2 169.254.1.1 100.100.100.200 168.63.129.16 192.0.0.192 \
    203.0.113.5 10.255.0.53; do
    ip -n outside address add $address/32 dev lo
done
ip -n outside link set out0 up
mkdir -p "$TOP/www/cgi-bin"
echo page > "$TOP/www/index.html"
printf '#!/bin/sh\nprintf "Content-type: text/plain\\r\\n\\r\\n"; echo $REMOTE_ADDR\n' \
    > "$TOP/www/cgi-bin/who"
chmod 755 "$TOP/www/cgi-bin/who"
# Each returns when it listens.
ip netns exec outside busybox httpd -p 80 -h "$TOP/www"
busybox httpd -p 8080 -h "$TOP/www"
run() { "$DRIVER" run "$TOP/run" "$TOP/image" $IDS "$@"; }
nat() { run network=nat -- sh -c "$1"; }
fetch='fetch() { wget -q -O - "http://$1" 2>/dev/null || echo no; }'
# Starts a container in the background and waits until it runs.
background() { mkfifo "$TOP/$1"; name=$1; shift
    set -- $IDS report="$TOP/$name" "$@"
    "$DRIVER" run "$TOP/run" "$TOP/image" "$@" & read -r report < "$TOP/$name"
    echo "$report" > "$TOP/$name.json"; }
# The same of a web server, until it listens.
web() { background "$@" -- httpd -f -p 80 -h /etc
    until busybox wget -q -O /dev/null "http://$(field $1 address)/group" 2>/dev/null; do :; done; }
# The container's first process.
process() { cat "$TOP/run/$(field $1 id)/pid"; }
field() { sed "s/.*\"$2\":\[*\"*\([^],\"]*\).*/\1/" "$TOP/$1.json"; }
"#;

fn world(script: &str) -> String {
    let place = Place::new();
    let mut shell = Command::new("unshare");
    shell
        .args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .args(["sh", "-c", &format!("{WORLD}\n{script}")])
        .env("TOP", place.top.path())
        .env("DRIVER", driver_path())
        .env("IDS", format!("ids={FIRST_ID}"))
        .stdin(Stdio::null());
    let output = shell.output().expect("unshare: apt-get install util-linux");
    // Containers that still ran ended with the world; their control groups are the machine's.
    for reaped in reap_stale(&place.run_root()) {
        assert!(reaped.error.is_none(), "{reaped:?}");
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}\n{text}\n{errors}",
        output.status
    );
    text
}

#[test]
fn outside_is_reached_behind_the_machines_address() {
    let text = world(r#"nat "$fetch; fetch 198.18.0.2/; fetch 203.0.113.5/cgi-bin/who""#);
    assert_eq!(text, "page\n[::ffff:198.18.0.1]\n");
}

#[test]
fn metadata_services_are_not_reached() {
    let text = world(
        r#"
        for address in 169.254.169.254 169.254.1.1 100.100.100.200 168.63.129.16; do
            busybox wget -q -O - "http://$address/"
            nat "$fetch; fetch $address/"
        done"#,
    );
    assert_eq!(text, "page\nno\n".repeat(4));
}

/// What is to be refused is there: from the machine itself every address answers.
#[test]
fn metadata_services_are_not_reached_in_any_notation() {
    let text = world(
        r#"
        ip address add fd00:77::1/64 dev up0 nodad
        ip -n outside address add fd00:77::2/64 dev out0 nodad
        ip -6 route add default via fd00:77::2
        plain="169.254.169.254 169.254.170.2 169.254.1.1 100.100.100.200 168.63.129.16 192.0.0.192"
        # Amazon's own; what the others become behind translators (well-known and local prefix),
        # 6to4 and Teredo.
        six="fd00:ec2::254 64:ff9b::a9fe:a9fe 64:ff9b::6464:64c8 64:ff9b:1::a9fe:a9fe
            2002:a9fe:a9fe::1 2002:a83f:8110::1 2001:0:a9fe:a9fe::5601:5601 ::a9fe:a9fe"
        for address in $six; do ip -n outside address add $address/128 dev lo; done
        rows="198.18.0.2 [::ffff:198.18.0.2]"
        for address in $plain; do rows="$rows $address [::ffff:$address]"; done
        for address in $six; do rows="$rows [$address]"; done
        rows="$rows [fe80::a9fe:a9fe] 2852039166 0xa9fea9fe 0251.0376.0251.0376"
        for row in $plain; do busybox wget -q -O /dev/null http://$row/; done
        for row in $six; do busybox wget -q -O /dev/null "http://[$row]/"; done
        for row in $rows; do echo "$row"; done > "$TOP/rows"
        nat "$fetch; while read row; do echo \$row \$(fetch \$row/); done <<END
$(cat "$TOP/rows")
END""#,
    );
    let (reached, refused): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.ends_with(" page"));
    assert_eq!(reached, ["198.18.0.2 page", "[::ffff:198.18.0.2] page"]);
    assert_eq!(refused.len(), 6 * 2 + 8 + 4, "{text}");
    assert!(refused.iter().all(|line| line.ends_with(" no")), "{text}");
}

#[test]
fn the_machines_own_addresses_are_not_reached() {
    let text = world(
        r#"
        ip address add fd00:77::1/64 dev up0 nodad
        busybox httpd -p 127.0.0.1:8081 -h "$TOP/www"
        reach() { nat "$fetch; for row in $*; do fetch \$row/; done"; }
        for address in 198.18.0.1 192.168.77.1 [fd00:77::1] 127.0.0.1; do
            busybox wget -q -O - "http://$address:8080/"
        done
        # While a container runs the gateway is one of them too.
        web a network=nat port=8082:80
        busybox wget -q -O - http://10.88.0.1:8080/
        reach 198.18.0.1:8080 192.168.77.1:8080 10.88.0.1:8080 [fd00:77::1]:8080
        reach [::ffff:198.18.0.1]:8080 [::ffff:10.88.0.1]:8080 10.88.0.1:53 10.88.0.1:8082
        reach 127.0.0.1:8081 127.9.9.9:8080 [::1]:8080 0.0.0.0:8080 [::]:8080
        reach 198.18.0.1:8082 255.255.255.255:8080 10.88.255.255:8080 224.0.0.1:8080
        nat 'ping -c 1 -W 1 10.88.0.1 > /dev/null || echo no ping'"#,
    );
    assert_eq!(
        text,
        format!("{}{}no ping\n", "page\n".repeat(5), "no\n".repeat(17))
    );
}

/// Routes of its own do not help a container: what a program with the right to make some could do,
/// done from outside.
#[test]
fn routes_to_the_machines_loopback_are_of_no_use() {
    let text = world(
        r#"
        busybox httpd -p 127.0.0.1:8081 -h "$TOP/www"
        background a network=nat -- sleep 1000
        ip netns attach a $(process a)
        ip netns exec a sh -c 'echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet'
        ip -n a address delete 127.0.0.1/8 dev lo
        ip -n a route add 127.0.0.1 via 10.88.0.1 dev eth0 src $(field a address)
        ip -n a route show 127.0.0.1
        ip netns exec a busybox wget -q -O - http://127.0.0.1:8081/ || echo no
        ip netns exec a busybox wget -q -O - http://198.18.0.2/"#,
    );
    let (route, rest) = text.split_once('\n').unwrap();
    assert!(route.contains("via 10.88.0.1"), "{text}");
    assert_eq!(rest, "no\npage\n");
}

/// The machine drops IPv6 of a container, whatever the container has made of its own end.
#[test]
fn ipv6_that_a_container_turns_on_leads_nowhere() {
    let text = world(
        r#"
        ip address add fd00:77::1/64 dev up0 nodad
        ip -n outside address add fd00:77::2/64 dev out0 nodad
        ip -n outside address add fd00:ec2::254/128 dev lo
        ip -n outside route add default via fd00:77::1
        ip -6 route add default via fd00:77::2
        echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
        background a network=nat -- sleep 1000
        ip netns attach a $(process a)
        link=$(ip -o link | sed -n 's/.*\(hfv[^@]*\)@.*/\1/p')
        mac=$(ip -o link show dev $link | sed 's/.*link.ether \([^ ]*\).*/\1/')
        ip address add fd00:99::1/64 dev $link nodad
        ip netns exec a sh -c 'echo 0 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6'
        ip -n a address add fd00:99::2/64 dev eth0 nodad
        ip -n a -6 route add default via fd00:99::1 dev eth0
        ip -n a -6 neighbor add fd00:99::1 lladdr $mac dev eth0
        cat > "$TOP/seen" <<END
table inet seen { chain input {
    type filter hook input priority 100;
    udp dport 9 counter
    udp dport 10 counter
}
}
END
        nft -f "$TOP/seen"
        ip netns exec outside nft -f "$TOP/seen"
        count() { sed -n "s/.*dport $1 counter packets \([0-9]*\).*/\1/p"; }
        machine() { nft list table inet seen | count $1; }
        outside() { ip netns exec outside nft list table inet seen | count $1; }
        send() { ip netns exec a bash -c "echo x > /dev/udp/$1/$2"; }
        send_all() { for address in fd00:99::1 fd00:77::1 fd00:77::2 fd00:ec2::254; do
            send $address 9; done; }
        send_all
        send 198.18.0.2 10
        # Packets keep their order, so the others would have been before this one.
        while [ $(outside 10) = 0 ]; do :; done
        echo $(machine 9) $(outside 9)
        # With our rules gone the same packets arrive.
        nft delete table inet holdfast
        send_all
        while [ $(machine 9) != 2 ] || [ $(outside 9) != 2 ]; do :; done"#,
    );
    assert_eq!(text, "0 0\n");
}

#[test]
fn other_containers_are_not_reached() {
    let text = world(
        r#"
        web a network=nat port=8082:80
        address=$(field a address)
        busybox wget -q -O - "http://$address/group" | head -n 1
        nat "$fetch; for row in $address [::ffff:$address] 198.18.0.1:8082 10.88.0.1:8082; do
            fetch \$row/group; done
            ping -c 1 -W 1 $address > /dev/null || echo no ping""#,
    );
    assert_eq!(text, "root:x:0:\nno\nno\nno\nno\nno ping\n");
}

#[test]
fn a_container_has_no_ipv6_and_cannot_borrow_an_address() {
    let text = world(
        r"
        nat 'ip -6 address show dev eth0; ip address add 10.88.9.9/32 dev eth0 || echo no'",
    );
    assert_eq!(text, "no\n");
}

#[test]
fn spoofed_sources_are_dropped() {
    let text = world(
        r#"
        background a network=nat -- sleep 1000
        # What a program with raw sockets could do, done from outside with the address itself.
        ip netns attach a $(process a)
        ip -n a address add 10.88.77.77/32 dev eth0
        ip netns exec outside nft -f - <<END
table inet seen { chain input {
    type filter hook input priority 0;
    udp dport 9 counter
    udp dport 10 counter
}
}
END
        packets() { ip netns exec outside nft list table inet seen |
            sed -n "s/.*dport $1 counter packets \([0-9]*\).*/\1/p"; }
        send() { ip -n a route replace default via 10.88.0.1 dev eth0 src $1
            ip netns exec a bash -c "echo x > /dev/udp/198.18.0.2/$2"; }
        send 10.88.77.77 9
        send $(field a address) 10
        # Packets keep their order, so the second would have been behind the first.
        while [ $(packets 10) = 0 ]; do :; done
        packets 9"#,
    );
    assert_eq!(text, "0\n");
}

#[test]
fn published_ports_are_reached_from_the_machine_and_from_outside() {
    let text = world(
        r#"
        web a network=nat port=127.0.0.1:0:80
        web b network=nat port=8081:80
        busybox wget -q -O - "http://127.0.0.1:$(field a ports)/group" | head -n 1
        busybox wget -q -O - "http://127.0.0.1:8081/group" | head -n 1
        busybox wget -q -O - "http://[::1]:8081/group" | head -n 1
        ip netns exec outside busybox wget -q -O - http://198.18.0.1:8081/group | head -n 1
        ip netns exec outside busybox wget -q -O - \
            "http://198.18.0.1:$(field a ports)/" || echo no"#,
    );
    assert_eq!(text, format!("{}no\n", "root:x:0:\n".repeat(4)));
}

#[test]
fn ports_that_are_taken_or_make_no_sense_are_refused() {
    let text = world(
        r#"
        run network=nat port=8080:80 report=$TOP/r -- true || cat $TOP/r
        run network=none port=80 report=$TOP/r -- true || cat $TOP/r
        ls /run/holdfast/network/leases "$TOP/run""#,
    );
    assert!(
        text.contains("cannot publish port 8080:80/tcp: Address already in use"),
        "{text}"
    );
    assert!(
        text.contains("ports can only be published with network nat"),
        "{text}"
    );
    assert!(!text.contains("ctr-"), "{text}");
}

#[test]
fn names_are_asked_of_the_machines_servers() {
    let text = world(
        r#"
        echo nameserver 10.255.0.53 > "$TOP/resolv.conf"
        mount --bind "$TOP/resolv.conf" /etc/resolv.conf
        ip netns exec outside busybox httpd -p 53 -h "$TOP/www"
        for server in 10.255.0.53 169.254.169.254; do
            busybox wget -q -O - http://$server:53/
        done
        nat "$fetch; cat /etc/resolv.conf; fetch 10.255.0.53:53/; fetch 169.254.169.254:53/""#,
    );
    assert_eq!(text, "page\npage\nnameserver 10.255.0.53\npage\nno\n");
}

#[test]
fn a_loopback_server_is_asked_through_a_relay() {
    let text = world(
        r#"
        echo nameserver 127.0.0.53 > "$TOP/resolv.conf"
        mount --bind "$TOP/resolv.conf" /etc/resolv.conf
        busybox httpd -p 127.0.0.53:53 -h "$TOP/www"
        nat "$fetch; cat /etc/resolv.conf; fetch 127.0.0.11:53/""#,
    );
    assert_eq!(text, "nameserver 127.0.0.11\npage\n");
}

#[test]
fn the_last_container_leaves_the_machine_as_it_was() {
    let text = world(
        r#"
        state() { cat /proc/sys/net/ipv4/ip_forward; nft list tables; ip -o link | cut -d: -f2;
            ls /run/holdfast/network/leases; }
        echo 0 > /proc/sys/net/ipv4/ip_forward
        ip address show > /dev/null
        mkdir -p /run/holdfast/network/leases
        state > "$TOP/before"
        background a network=nat -- sleep 1000
        nat true
        cat /proc/sys/net/ipv4/ip_forward
        nft list tables
        nft list chain inet holdfast forward | grep -c '^		drop$'
        kill -TERM $!; kill -TERM $!; kill -9 $(pgrep -f '^sleep 1000')
        wait $! || echo ended $?
        state | diff "$TOP/before" - && echo same"#,
    );
    assert_eq!(text, "1\ntable inet holdfast\n1\nended 137\nsame\n");
}

#[test]
fn a_killed_owners_network_is_cleared_away() {
    let text = world(
        r#"
        background a network=nat port=8081:80 -- sleep 1000; owner=$!
        background b network=nat -- sleep 1000; b=$!
        a=$(field a address)
        kill -9 $owner
        wait $owner || true
        ip -o link | grep -c hfv
        # The next start takes the address back even before anybody clears the directory away.
        nat true
        ip -o link | grep -c hfv
        "$DRIVER" reap "$TOP/run"
        ls "$TOP/run" | grep -c ctr-
        grep -c "$TOP/run/$(field a id)" /proc/self/mountinfo || true
        find /sys/fs/cgroup -name "$(field a id)"
        pgrep -fc '^sleep 1000'
        kill -9 $b
        wait $b || true
        "$DRIVER" reap "$TOP/run"
        ip -o link | grep hfv || true
        ls "$TOP/run" /run/holdfast/network/leases | grep ctr- || true
        nft list tables"#,
    );
    assert_eq!(text, "2\n1\nreaped 1 []\n1\n0\n1\nreaped 1 []\n");
}

#[test]
fn the_machines_network_is_shared_when_asked() {
    let text = world(r"IDS=; run network=host -- ls /sys/class/net; run -- ls /sys/class/net");
    assert_eq!(text, "lo\nup0\nlo\n");
}
