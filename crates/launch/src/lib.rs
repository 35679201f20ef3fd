//! One container from a lease: mount process, network, overlay, runtime, and everything away again.
//!
//! Invariants: whatever ends a launch (the command, a signal, an error, a mount process that died)
//! nothing is left mounted or running, and what a killed owner left behind goes at the next
//! launch. This crate's closure holds no vault, no token exchange and no control store: it is given
//! an auth source and passes it on. Text is handed to the caller, never printed.

mod about;
mod error;
mod launch;
mod leave;
mod sandbox;
mod spares;
mod traces;
mod waterfall;

pub use about::{About, Container, list};
pub use error::LaunchError;
pub use launch::{LaunchRequest, Observer, Outcome, launch};
pub use leave::{Leave, LeaveGiver};
pub use sandbox::{Preparing, SandboxRequest};
pub use spares::Spares;
pub use traces::Traces;
pub use waterfall::{Phase, Waterfall};

pub use container::{Control, ExitStatus, Outputs, Signals, Streams};
pub use image_mount::{MountLog, MountStats, NoticeKind};
