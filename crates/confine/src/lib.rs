//! The room in which a process of ours reads what strangers wrote.
//!
//! Five walls, put up in this order and never taken down: limits on memory and descriptors, no
//! way to gain privileges, Landlock (files, TCP, signals), an own user id, a list of system calls.
//! What a process needs it opens or is handed before; afterwards a decoder that hostile bytes have
//! taken over can compute, use its descriptors and end.
//!
//! Invariants: a wall that this kernel must have and cannot put up is an error, and the caller
//! reads nothing; Landlock is one that older kernels lack, and [`Confined`] says so. The walls are
//! around the calling thread and all that it starts: call before any other thread exists. Knows
//! nothing of layers, mounts or keys.

#[cfg(feature = "attempts")]
pub mod attempts;
mod limits;
mod reach;
mod system_calls;
mod user;

use std::io;

pub use limits::{Limits, forbid_dumps};
pub use reach::has_landlock;
pub use system_calls::SystemCalls;

/// What a process still needs once it is inside.
#[derive(Clone, Copy, Debug)]
pub struct Profile<'a> {
    pub limits: Limits,
    /// Files and directories that may be opened for reading; nothing else may be opened at all.
    /// Those that are not there are passed over.
    pub readable: &'a [&'a str],
    pub system_calls: SystemCalls,
}

/// Which of the walls that may be missing are up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confined {
    /// The user id that no other process has; nothing where we were not root.
    pub user: Option<u32>,
    pub landlock: bool,
}

/// A wall that cannot be put up. Its words are whole, since they leave the process as a line.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    #[error("cannot confine this process: {wall}: {error}")]
    Io {
        wall: &'static str,
        error: io::Error,
    },
    #[error("cannot confine this process: Landlock: {0}")]
    Landlock(landlock::RulesetError),
    #[error("cannot confine this process: list of system calls: {0}")]
    SystemCalls(Box<dyn std::error::Error + Send + Sync>),
}

/// Confines the calling thread and every thread that it starts from now on.
pub fn confine(profile: &Profile<'_>) -> Result<Confined, ConfineError> {
    limits::set(&profile.limits).map_err(wall("limits"))?;
    rustix::thread::set_no_new_privs(true).map_err(|error| wall("privileges")(error.into()))?;
    let may_connect = profile.system_calls == SystemCalls::NetworkClient;
    let landlock = reach::restrict(profile.readable, may_connect)?;
    let user = user::take_own().map_err(wall("own user id"))?;
    // After the change of user, which leaves it to the machine whether there are dumps.
    forbid_dumps().map_err(wall("core dumps"))?;
    system_calls::restrict(profile.system_calls)?;
    Ok(Confined { user, landlock })
}

fn wall(wall: &'static str) -> impl FnOnce(io::Error) -> ConfineError {
    move |error| ConfineError::Io { wall, error }
}
