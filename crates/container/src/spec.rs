//! What a caller asks of a container, as plain values.
//!
//! Nothing here has been checked against the machine: that happens when the container starts.

use std::path::PathBuf;
use std::str::FromStr;

use ids::ContainerId;

use crate::port::PortMap;
use crate::process::Process;
use crate::volume::Volume;

/// `/dev/shm` of a container that asks for no other size, as in docker.
pub const DEFAULT_SHM_BYTES: u64 = 64 << 20;

/// Processes of a container that asks for no other number: far above what programs need, far
/// below what brings a machine down.
pub const DEFAULT_PIDS: u32 = 32_768;

/// One container.
#[derive(Clone, Debug)]
pub struct ContainerSpec {
    /// Names its directory, its cgroup and its network interface.
    pub id: ContainerId,
    /// The root of the image, never written to.
    pub lower: PathBuf,
    /// What runs.
    pub process: Process,
    /// Host folders and files shown inside.
    pub volumes: Vec<Volume>,
    /// What the container can reach.
    pub network: NetworkMode,
    /// What reaches the container.
    pub ports: Vec<PortMap>,
    /// Size of `/dev/shm`.
    pub shm_bytes: u64,
    /// Limits.
    pub resources: Resources,
    /// The name that the container sees itself under.
    pub hostname: String,
}

/// What a container can reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NetworkMode {
    /// Nothing but itself.
    None,
    /// The networks around this machine, but no metadata service, no address of this machine and
    /// no other container.
    #[default]
    Nat,
    /// What this machine can: it shares the machine's own network.
    Host,
}

/// A text that is no network mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("network `{0}` is none of none, nat and host")]
pub struct ParseNetworkError(String);

impl FromStr for NetworkMode {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<Self, ParseNetworkError> {
        match text {
            "none" => Ok(Self::None),
            "nat" => Ok(Self::Nat),
            "host" => Ok(Self::Host),
            other => Err(ParseNetworkError(other.to_owned())),
        }
    }
}

/// Limits; absent means none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resources {
    /// Memory, swap included.
    pub memory_bytes: Option<u64>,
    /// Processors' worth of time.
    pub cpus: Option<f64>,
    /// What it gets of the processors when others want them too, in their worth of time. More than
    /// this is free for the taking, up to the limit.
    pub reserved_cpus: Option<f64>,
    /// Processes and threads.
    pub pids: Option<u32>,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            memory_bytes: None,
            cpus: None,
            reserved_cpus: None,
            pids: Some(DEFAULT_PIDS),
        }
    }
}

/// The name that a container gets when nobody gives one: the end of its id, as docker's is part of
/// its own.
pub fn default_hostname(id: &ContainerId) -> String {
    short_id(id)
}

/// Twelve hexadecimal digits of the random end of an id: short enough for an interface's name.
pub(crate) fn short_id(id: &ContainerId) -> String {
    const SHORT: usize = 12;
    let text = id.to_string();
    text[text.len().saturating_sub(SHORT)..].to_owned()
}
