//! Bounds on what the process may take, and no copy of its memory for anybody.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// What the process may take of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Address space: memory that is only reserved counts too.
    pub memory_bytes: u64,
    pub descriptors: u64,
}

pub(crate) fn set(limits: &Limits) -> io::Result<()> {
    limit(Resource::As, limits.memory_bytes)?;
    limit(Resource::Nofile, limits.descriptors)
}

/// No core file and no debugger of another user: secrets and private files stay in memory.
pub fn forbid_dumps() -> io::Result<()> {
    limit(Resource::Core, 0)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    setrlimit(resource, limit)?;
    Ok(())
}
