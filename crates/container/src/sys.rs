//! The raw system calls of this crate: what the safe wrappers do not offer.
//!
//! Everything else in the crate is safe code. Each block says why it is sound.
#![allow(
    unsafe_code,
    reason = "a child keeps a descriptor or not, or changes its namespaces, a thread changes its \
              network, a task waits on a descriptor, a mount shows other owners"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::FdFlags;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
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

/// Keeps a file that this process inherited from those that it starts. What is not open is fine.
pub fn keep_from_children(descriptor: u32) -> io::Result<()> {
    let Ok(raw) = RawFd::try_from(descriptor) else {
        return Ok(());
    };
    // SAFETY: the number is used within this call alone, and only a flag of it is changed, which
    // says nothing about who owns it. Where it is no open file, the call answers that.
    let set = unsafe { rustix::io::fcntl_setfd(BorrowedFd::borrow_raw(raw), FdFlags::CLOEXEC) };
    match set {
        Err(rustix::io::Errno::BADF) => Ok(()),
        set => Ok(set?),
    }
}

/// Moves the calling thread, and nothing else of the process, into a new network namespace.
pub(crate) fn unshare_network() -> io::Result<()> {
    // SAFETY: only CLONE_NEWNET is passed. It neither splits the descriptor table nor the
    // filesystem state, which are what makes unshare unsafe for safe code that shares them.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.map_err(io::Error::from)
}

/// Lets the child of a command begin in a new user namespace, in which it has no ids yet.
pub(crate) fn begin_in_new_users(command: &mut Command) {
    // SAFETY: the closure runs in the child between fork and exec, where there is one thread. It
    // makes one system call, which is async-signal-safe, and allocates nothing.
    unsafe {
        command.pre_exec(|| {
            rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER).map_err(io::Error::from)
        });
    }
}

/// Lets the child of a command begin in a new network that a user namespace owns.
///
/// The descriptor must stay open until the command has been spawned.
pub(crate) fn begin_in_network_of(command: &mut Command, users: &OwnedFd) {
    let raw: RawFd = users.as_raw_fd();
    // SAFETY: the closure runs in the child between fork and exec, where there is one thread. It
    // makes two system calls, which are async-signal-safe, and allocates nothing. The number is
    // that of a descriptor which the caller keeps open, and which the child has a copy of.
    unsafe {
        command.pre_exec(move || {
            let users = BorrowedFd::borrow_raw(raw);
            move_into_link_name_space(users, Some(LinkNameSpaceType::User))?;
            rustix::thread::unshare_unsafe(UnshareFlags::NEWNET).map_err(io::Error::from)
        });
    }
}

/// Lets a mount that is in no tree yet, and all below it, show owners as a user namespace maps
/// them. They leave their peers: what is unmounted here must not be unmounted on the machine.
pub(crate) fn map_owners(mount: &OwnedFd, users: &OwnedFd) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: u64::try_from(users.as_raw_fd()).expect("a descriptor is not negative"),
    };
    // SAFETY: the kernel reads an empty path that ends in zero, and as many bytes of the structure
    // as it is told. Both live until the call returns, and nothing is written.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
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

#[cfg(test)]
mod tests {
    use rustix::io::{fcntl_getfd, fcntl_setfd};

    use super::*;

    #[test]
    fn what_was_inherited_can_be_kept_from_children() {
        let file = std::fs::File::open("/dev/null").unwrap();
        fcntl_setfd(&file, FdFlags::empty()).unwrap();
        keep_from_children(u32::try_from(file.as_raw_fd()).unwrap()).unwrap();
        assert_eq!(fcntl_getfd(&file).unwrap(), FdFlags::CLOEXEC);
        for closed in [1_000_000, u32::MAX] {
            keep_from_children(closed).unwrap();
        }
    }
}
