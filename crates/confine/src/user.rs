//! A user id that no other process on the machine has.
//!
//! It owns no file and no process but this one, so that ordinary permissions already keep it from
//! everything that the owner did not open to all.

use std::io;

use rustix::process::{Gid, Uid, geteuid, getpid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// Ids from here on belong to nobody: above what user namespaces are usually given and below
/// 2^31, where signed readers stumble. Added to a process id (at most 2^22) no two processes of a
/// machine share one.
const FIRST: u32 = 0x7000_0000;

/// Takes the id on, for good: a process that is not root any more has no capability and cannot go
/// back. Who was not root to begin with stays what it was.
pub(crate) fn take_own() -> io::Result<Option<u32>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let id = FIRST + getpid().as_raw_nonzero().get().unsigned_abs();
    let (user, group) = (Uid::from_raw(id), Gid::from_raw(id));
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)?;
    Ok(Some(id))
}
