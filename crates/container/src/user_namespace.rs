//! A container's user namespace: root inside is an id outside that owns nothing of the machine's.
//!
//! It is made before the runtime starts and kept by a mount, since everything that the container is
//! given has to belong to it: its network (or it could neither bind a low port nor see `/sys`), its
//! pipes, and the mounts whose owners it is to see as its own. A process has to be in a namespace
//! to make one, so a child that only waits is, for as long as it takes to keep the namespace.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, mount_bind, move_mount, open_tree};

use crate::id_range::IdRange;
use crate::sys;
use crate::tool;

/// Makes a user namespace with a range of ids, kept at a path.
pub(crate) fn create(path: &Path, range: IdRange) -> io::Result<()> {
    let holder = Holder::start(sys::begin_in_new_users)?;
    for map in ["uid_map", "gid_map"] {
        fs::write(holder.file(map), range.map_line())?;
    }
    holder.keep("user", path)
}

/// Makes a network that belongs to a user namespace, kept at a path.
pub(crate) fn create_network(users: &Path, path: &Path) -> io::Result<()> {
    let users = OwnedFd::from(File::open(users)?);
    let holder = Holder::start(|command| sys::begin_in_network_of(command, &users))?;
    holder.keep("net", path)
}

/// Shows a folder or file at another place with the owners that it has outside: what belongs to
/// the machine's root belongs to the container's.
pub(crate) fn show_with_owners(users: &Path, source: &Path, place: &Path) -> io::Result<()> {
    let users = OwnedFd::from(File::open(users)?);
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(CWD, source, flags)?;
    sys::map_owners(&tree, &users)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&tree, "", CWD, place, flags)?;
    Ok(())
}

/// A child that waits in a namespace until its input ends.
struct Holder {
    child: Child,
}

impl Holder {
    fn start(begin: impl FnOnce(&mut Command)) -> io::Result<Self> {
        let program = tool::find("cat");
        let program = program.ok_or_else(|| io::Error::other("cat is not installed"))?;
        let mut command = tool::command(&program, None);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        begin(&mut command);
        let child = command.spawn()?;
        Ok(Self { child })
    }

    fn file(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.child.id()))
    }

    /// Keeps one of the child's namespaces by a mount.
    fn keep(&self, name: &str, path: &Path) -> io::Result<()> {
        File::create(path)?;
        mount_bind(self.file(&format!("ns/{name}")), path)?;
        Ok(())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It ends with its input; there is nobody to tell if it does not.
        let _ = self.child.wait();
    }
}
