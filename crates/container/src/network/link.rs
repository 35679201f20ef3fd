//! One container's link: a network namespace kept by a mount, and a veth pair into it. Where the
//! container has a user namespace, its network belongs to that.
//!
//! The host's end carries the gateway's address and a route to exactly one address; inside, that
//! address is all there is, with a default route to the gateway. IPv6 is off inside before the
//! link exists.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread;

use ids::ContainerId;
use rustix::mount::mount_bind;
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketType, socket};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::NetworkError;
use super::address::{Lease, default_device};
use crate::run_dir::Layout;
use crate::spec::short_id;
use crate::sys;
use crate::tool::{ToolError, run_script};
use crate::user_namespace;

/// Starts the name of every interface of ours on the host.
pub(super) const INTERFACE_PREFIX: &str = "hfv";

/// Largest packet when the machine's own way out does not say.
const DEFAULT_MTU: u32 = 1500;

/// Where a container asks for names when this process relays them.
pub(super) const RELAY_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

const DNS_PORT: u16 = 53;

fn interface(id: &ContainerId) -> String {
    format!("{INTERFACE_PREFIX}{}", short_id(id))
}

/// Makes the namespace at a path and connects it.
pub(super) fn create(lease: &Lease, dir: &Layout, owner: &OwnedFd) -> Result<(), NetworkError> {
    let failed = || NetworkError::io("make a network namespace");
    let namespace = &dir.network();
    match dir.users() {
        Some(users) => user_namespace::create_network(&users, namespace),
        None => create_namespace(namespace),
    }
    .map_err(failed())?;
    within(namespace, disable_ipv6).map_err(failed())?;
    let outside = outside_script(lease, namespace, uplink_mtu());
    run_script("ip", &["-batch", "-"], &outside, Some(owner))?;
    let inside = inside_script(lease);
    let run = || run_script("ip", &["-batch", "-"], &inside, Some(owner));
    within(namespace, run).map_err(failed())??;
    Ok(())
}

/// Removes the host's end and with it the other; no link is fine.
pub(super) fn remove(id: &ContainerId) -> Result<(), NetworkError> {
    let name = interface(id);
    if !exists(&name) {
        return Ok(());
    }
    match run_script("ip", &["link", "delete", "dev", &name], "", None) {
        // Gone meanwhile: the kernel removes it too when the namespace ends.
        Err(ToolError::Failed { .. }) if !exists(&name) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(()),
    }
}

fn exists(name: &str) -> bool {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None);
    socket.is_ok_and(|socket| name_to_index(socket, name).is_ok())
}

fn outside_script(lease: &Lease, namespace: &Path, mtu: u32) -> String {
    let name = interface(&lease.id);
    let (address, gateway) = (lease.address, lease.subnet.gateway());
    let namespace = namespace.display();
    format!(
        "link add name {name} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {namespace}\n\
         address add {gateway}/32 dev {name}\n\
         link set dev {name} up\n\
         route add {address}/32 dev {name}\n"
    )
}

fn inside_script(lease: &Lease) -> String {
    let (address, gateway) = (lease.address, lease.subnet.gateway());
    format!(
        "link set dev lo up\n\
         address add {address}/32 dev eth0\n\
         link set dev eth0 up\n\
         route add {gateway} dev eth0 scope link\n\
         route add default via {gateway} dev eth0\n"
    )
}

fn uplink_mtu() -> u32 {
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let mtu = default_device(&routes).and_then(|device| {
        let path = Path::new("/sys/class/net").join(device).join("mtu");
        fs::read_to_string(path).ok()?.trim().parse().ok()
    });
    mtu.unwrap_or(DEFAULT_MTU)
}

/// A thread enters a new namespace, a mount keeps it, and the thread ends.
fn create_namespace(path: &Path) -> io::Result<()> {
    File::create(path)?;
    in_thread(|| {
        sys::unshare_network()?;
        mount_bind("/proc/thread-self/ns/net", path)?;
        Ok(())
    })
}

/// Before there is a link, so that none ever has an address of that kind.
fn disable_ipv6() {
    // Machines without IPv6 have no such file.
    let _ = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1\n");
}

/// Runs something as if from inside a network namespace.
fn within<T: Send>(namespace: &Path, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let namespace = File::open(namespace)?;
    in_thread(|| {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(work())
    })
}

/// A namespace belongs to a thread, so each change gets one of its own that is never used again.
fn in_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let handle = thread::Builder::new().spawn_scoped(scope, work)?;
        handle.join().expect("the work does not panic")
    })
}

/// Sockets inside the namespace on which its programs ask for names.
pub(super) fn resolver_sockets(namespace: &Path) -> io::Result<(TcpListener, UdpSocket)> {
    within(namespace, || {
        let stream = TcpListener::bind((RELAY_ADDRESS, DNS_PORT))?;
        let datagram = UdpSocket::bind((RELAY_ADDRESS, DNS_PORT))?;
        Ok((stream, datagram))
    })?
}
