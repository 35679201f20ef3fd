//! A container's network: none, the machine's own, or a private one behind address translation.
//!
//! A private network is one veth pair per container and no bridge: the host's end routes exactly
//! one address, so containers share no link on which one could speak for another. What may leave
//! is decided by one nftables table (`rules`), loaded whole at every start. Each address is leased
//! by a file that its owner keeps locked; whoever meets an unlocked one takes the rest of that
//! container's network away.
//!
//! Ports are published by copying bytes in this process (`forward`), which serves the machine's
//! own clients, other machines and IPv6 alike, and ends with the container.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use ids::ContainerId;

use crate::port::PortMap;
use crate::run_dir::{Layout, RunDir};
use crate::spec::NetworkMode;
use crate::tool::ToolError;

mod address;
mod firewall;
mod forward;
mod link;
mod resolver;
mod rules;

use address::{Lease, NetworkLock};
use forward::Forwarder;

pub use address::Subnet;
pub use firewall::{ForwardDrop, forward_drops};

/// Why a container has no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A program of the machine failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The machine said no.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: String,
        /// Why not.
        source: io::Error,
    },
    /// Every private range meets one that the machine uses.
    #[error("no private network is free: every candidate overlaps with a route of this machine")]
    NoSubnet,
    /// The range is used up.
    #[error("no address is free in {0}")]
    Full(Subnet),
    /// A published port is taken.
    #[error("cannot publish port {port}")]
    Port {
        /// Which one.
        port: PortMap,
        /// Why not.
        source: io::Error,
    },
    /// The machine's network belongs to the machine's user namespace.
    #[error("network host needs the machine's user namespace too")]
    HostWithoutUsers,
    /// Ports and a network without an outside.
    #[error("ports can only be published with network nat")]
    PortsWithoutNat,
    /// A text that is no subnet.
    #[error("subnet `{0}` is not of the form A.B.C.D/BITS with 8 to 28 bits")]
    Subnet(String),
}

impl NetworkError {
    fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }
}

/// What is asked of a container's network.
#[derive(Clone, Debug, Default)]
pub struct NetworkRequest {
    /// Which kind.
    pub mode: NetworkMode,
    /// The range for private addresses; when absent one that meets no route of this machine.
    pub subnet: Option<Subnet>,
}

/// A network that is ready for one container.
#[derive(Debug)]
pub struct Network {
    facts: NetworkFacts,
    _lease: Option<Lease>,
    forwarders: Vec<Forwarder>,
}

/// What a container has to know of its network.
#[derive(Clone, Debug)]
pub(crate) struct NetworkFacts {
    pub(crate) mode: NetworkMode,
    /// A namespace that exists already.
    pub(crate) namespace: Option<PathBuf>,
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) resolv_conf: String,
}

impl Network {
    /// Makes the network. Everything that it makes is found again, and taken away, by the
    /// container's id.
    pub async fn prepare(dir: &RunDir, request: NetworkRequest) -> Result<Self, NetworkError> {
        match request.mode {
            NetworkMode::None => Ok(Self::without_lease(NetworkMode::None, String::new())),
            NetworkMode::Host if dir.layout().ids.is_some() => Err(NetworkError::HostWithoutUsers),
            NetworkMode::Host => {
                let text = resolver::of_machine();
                Ok(Self::without_lease(NetworkMode::Host, text))
            }
            NetworkMode::Nat => Self::prepare_nat(dir, request).await,
        }
    }

    fn without_lease(mode: NetworkMode, resolv_conf: String) -> Self {
        Self {
            facts: NetworkFacts {
                mode,
                namespace: None,
                address: None,
                resolv_conf,
            },
            _lease: None,
            forwarders: Vec::new(),
        }
    }

    async fn prepare_nat(dir: &RunDir, request: NetworkRequest) -> Result<Self, NetworkError> {
        let (id, owner) = (dir.id(), Arc::clone(dir.owner()));
        let layout = dir.layout().clone();
        let namespace = layout.network();
        let plan = resolver::plan();
        let nameservers = plan.direct.clone();
        let gate = Arc::clone(dir.gate());
        let attach = move || {
            let Some(_open) = gate.enter() else {
                let gone = io::ErrorKind::Interrupted.into();
                return Err(NetworkError::io("connect a container that is going")(gone));
            };
            attach(id, &layout, request.subnet, &nameservers, &owner)
        };
        let lease = tokio::task::spawn_blocking(attach).await;
        let lease = lease.expect("attaching does not panic")?;
        let mut forwarders = Vec::new();
        if let Some(machine) = plan.relayed {
            let sockets = link::resolver_sockets(&namespace)
                .map_err(NetworkError::io("listen for name lookups of the container"))?;
            let relay = Forwarder::relay(sockets, machine);
            forwarders.extend(relay.map_err(NetworkError::io("relay name lookups"))?);
        }
        let facts = NetworkFacts {
            mode: NetworkMode::Nat,
            namespace: Some(namespace),
            address: Some(lease.address),
            resolv_conf: plan.text,
        };
        Ok(Self {
            facts,
            _lease: Some(lease),
            forwarders,
        })
    }

    /// Listens outside for ports of the container, until the network is dropped.
    pub async fn publish(&mut self, ports: &[PortMap]) -> Result<(), NetworkError> {
        for &port in ports {
            let address = self.facts.address.ok_or(NetworkError::PortsWithoutNat)?;
            let target = (address, port.container_port).into();
            let forwarder = Forwarder::publish(port, target).await;
            let forwarder = forwarder.map_err(|source| NetworkError::Port { port, source })?;
            self.forwarders.push(forwarder);
        }
        Ok(())
    }

    /// The container's address in a private network.
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.facts.address
    }

    /// What was published, free ports filled in.
    pub fn published(&self) -> impl Iterator<Item = PortMap> + '_ {
        self.forwarders.iter().filter_map(Forwarder::port)
    }

    pub(crate) fn facts(&self) -> &NetworkFacts {
        &self.facts
    }
}

/// Leases an address, loads the rules and connects a new namespace.
fn attach(
    id: ContainerId,
    dir: &Layout,
    wanted: Option<Subnet>,
    nameservers: &[Ipv4Addr],
    owner: &OwnedFd,
) -> Result<Lease, NetworkError> {
    let lock = NetworkLock::take()?;
    for stale in lock.take_stale()? {
        link::remove(&stale)?;
        lock.forget(&stale)?;
    }
    let lease = lock.lease(id, wanted)?;
    let routes_for_others = lock.enable_forwarding(|| {
        let rules = rules::ruleset(lease.subnet, nameservers, lock.forwards_for_others());
        crate::tool::run_script("nft", &["-f", "-"], &rules, Some(owner))?;
        Ok(())
    });
    routes_for_others?;
    drop(lock);
    link::create(&lease, dir, owner)?;
    Ok(lease)
}

/// Takes a container's network away, and with the last one all of ours.
pub(crate) fn release(id: ContainerId) -> Result<(), NetworkError> {
    if !address::is_leased(id) {
        return Ok(());
    }
    let lock = NetworkLock::take()?;
    link::remove(&id)?;
    lock.forget(&id)?;
    if lock.is_empty()? {
        lock.restore_forwarding()?;
        crate::tool::run_script("nft", &["-f", "-"], &rules::removal(), None)?;
    }
    Ok(())
}
