//! One container on this machine: a root over a read-only image, an OCI configuration, control
//! groups, a network with an egress policy, and the OCI runtime that starts it.
//!
//! ```text
//! RunDir::create ─▶ (caller mounts the image at RunDir::lower)   Network::prepare
//!                        └──────────────┬─────────────────────────────┘
//!          Runtime::run, or Runtime::create ─▶ Created::start ─▶ Running::wait ─▶ ExitStatus
//! RunDir::remove, or dropping it: processes, mounts, network, cgroups and files are gone
//! reap_stale: the same for containers whose owner was killed
//! ```
//!
//! Invariants: the container's isolation is docker's default and beyond it no new privileges;
//! everything about the image is taken as hostile; nothing of the caller's environment reaches a
//! container or a tool. It deliberately knows nothing of images, registries or credentials.
//!
//! One process may run many containers side by side. It adopts orphans of its children
//! (`PR_SET_CHILD_SUBREAPER`), which is how it learns of their ends.

mod bundle;
mod capabilities;
mod cgroup;
mod config;
mod executable;
mod id_range;
mod inside;
mod mounts;
mod network;
mod port;
mod process;
mod reap;
mod rootfs;
mod run_dir;
mod running;
mod runtime;
mod seccomp;
mod signals;
mod size;
mod spec;
mod starting;
mod stdio;
mod streams;
mod sys;
mod terminal;
mod tool;
mod user;
mod user_namespace;
mod volume;

pub use bundle::{BundleError, check_limits};
pub use cgroup::{CgroupMode, Cgroups, UnsupportedLimit};
pub use executable::ExecutableError;
pub use id_range::{DEFAULT_FIRST_ID, IDS_PER_RANGE, IdRange, IdRangeError};
pub use network::{ForwardDrop, Network, NetworkError, NetworkRequest, Subnet, forward_drops};
pub use port::{ParsePortError, PortMap, Protocol};
pub use process::{
    DEFAULT_PATH, ImageDefaults, MAX_CONFIG_BYTES, Overrides, Process, ProcessError, compose,
};
pub use reap::{Reaped, live, reap_stale, vacate};
pub use rootfs::RootfsError;
pub use run_dir::{RunDir, RunDirError};
pub use running::{ExitStatus, MemoryNote, Running};
pub use runtime::{Created, RunError, Runtime, RuntimeError, Version};
pub use signals::{Control, Signals};
pub use size::{ParseSizeError, parse_size_bytes};
pub use spec::{
    ContainerSpec, DEFAULT_PIDS, DEFAULT_SHM_BYTES, NetworkMode, ParseNetworkError, Resources,
    default_hostname,
};
pub use streams::{Outputs, Streams};
pub use sys::keep_from_children;
pub use tool::{ToolError, find as find_program};
pub use user::{ResolvedUser, UserError, UserSpec};
pub use volume::{ParseVolumeError, Volume};
