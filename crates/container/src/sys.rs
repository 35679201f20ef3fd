//! The raw system calls of this crate: what the safe wrappers do not offer.
//!
//! Everything else in the crate is safe code. Each block says why it is sound.
#![allow(
    unsafe_code,
    reason = "a child keeps a descriptor, a thread changes its network, a task waits on one"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::FdFlags;
use rustix::thread::UnshareFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Lets the child of a command keep a descriptor, so that a lock lasts as long as the child.
///
/// The descriptor must stay open until the command has been spawned.
pub(crate) fn keep_across_exec(command: &mut Command, descriptor: &OwnedFd) {
    let raw: RawFd = descriptor.as_raw_fd();
    // SAFETY: the closure runs in the child between fork and exec. It only calls fcntl, which is
    // async-signal-safe, and allocates nothing. The number is that of a descriptor which the
    // caller keeps open, and which the child has a copy of.
    unsafe {
        command.pre_exec(move || {
            let descriptor = BorrowedFd::borrow_raw(raw);
            rustix::io::fcntl_setfd(descriptor, FdFlags::empty()).map_err(io::Error::from)
        });
    }
}

/// Moves the calling thread, and nothing else of the process, into a new network namespace.
pub(crate) fn unshare_network() -> io::Result<()> {
    // SAFETY: only CLONE_NEWNET is passed. It neither splits the descriptor table nor the
    // filesystem state, which are what makes unshare unsafe for safe code that shares them.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.map_err(io::Error::from)
}

/// Lets a task wait until a descriptor can be read.
pub(crate) fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` always gives the same number, stays open until it is dropped, and the
    // returned value owns it for as long as it is registered.
    unsafe {
        Ok(AsyncFd::register_with_interest(
            descriptor,
            Interest::READABLE,
        )?)
    }
}
