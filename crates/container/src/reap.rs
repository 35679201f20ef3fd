//! Taking a container away: its processes, mounts, network, control groups and directory.
//!
//! The same steps end a container in the ordinary way, after an error and after a crash; each step
//! is harmless when there is nothing to do. A directory is removed only when nothing is mounted
//! below it any more, so that nothing behind a mount can be deleted.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use ids::ContainerId;

use crate::cgroup::Cgroups;
use crate::mounts;
use crate::network;
use crate::run_dir::{OWNER, lock_root, root_dir, try_own};

/// A container that was left behind, and what became of it.
#[derive(Debug)]
pub struct Reaped {
    /// Which one.
    pub id: ContainerId,
    /// Its directory.
    pub path: PathBuf,
    /// Why it could not be cleared away whole.
    pub error: Option<io::Error>,
}

/// Clears away every container below a root whose owner is gone.
pub fn reap_stale(run_root: &Path) -> Vec<Reaped> {
    let Ok(entries) = fs::read_dir(run_root) else {
        return Vec::new();
    };
    let mut names: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    names.sort();
    // Nobody makes a directory while we look for those without an owner. Clearing may take long,
    // and holds nobody up.
    let Ok(lock) = lock_root(run_root) else {
        return Vec::new();
    };
    let stale: Vec<Stale> = names.iter().filter_map(|path| stale(path)).collect();
    drop(lock);
    stale.into_iter().map(reap).collect()
}

/// A container whose owner is gone, with its lock, so that nobody else clears it away.
struct Stale {
    id: ContainerId,
    path: PathBuf,
    _owner: Option<OwnedFd>,
}

/// The containers below a root whose owners live.
pub fn live(run_root: &Path) -> Vec<ContainerId> {
    let Ok(entries) = fs::read_dir(run_root) else {
        return Vec::new();
    };
    let mut found: Vec<ContainerId> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    found.sort();
    // Nobody is between making a directory and locking it while we try the locks.
    let Ok(_lock) = lock_root(run_root) else {
        return Vec::new();
    };
    let is_owned = |id: &ContainerId| {
        let path = run_root.join(id.to_string());
        path.is_dir() && matches!(try_own(&path), Ok(None))
    };
    found.retain(is_owned);
    found
}

fn stale(path: &Path) -> Option<Stale> {
    let id: ContainerId = path.file_name()?.to_str()?.parse().ok()?;
    let owner = match try_own(path) {
        Ok(None) => return None,
        Ok(owner) => owner,
        // Whoever made it was killed before it was locked, or it is no directory, as clearing says.
        Err(error) if has_no_owner(&error) && path.exists() => None,
        // Removed by its own owner meanwhile, or not to be known: a process that is short of
        // descriptors must not take those who live for dead.
        Err(_) => return None,
    };
    Some(Stale {
        id,
        path: path.to_owned(),
        _owner: owner,
    })
}

fn has_no_owner(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn reap(stale: Stale) -> Reaped {
    Reaped {
        id: stale.id,
        error: clear(&stale.path, stale.id).err(),
        path: stale.path,
    }
}

/// Takes away what of a container that has ended is not in its directory: its network and control
/// groups, and what still runs in them. It may be done beside the end of its image's mount, and is
/// no more than what [`RunDir::remove`](crate::RunDir::remove) does otherwise.
pub fn vacate(id: ContainerId) -> io::Result<()> {
    let cgroups = Cgroups::detect()?;
    let killed = cgroups.kill(&id);
    let released = network::release(id).map_err(io::Error::other);
    killed.and(cgroups.remove(&id)).and(released)
}

/// Takes a container away; goes on after a failed step and reports the first failure.
pub(crate) fn clear(path: &Path, id: ContainerId) -> io::Result<()> {
    let cgroups = Cgroups::detect()?;
    let killed = cgroups.kill(&id);
    let root = root_dir(id);
    let unmounted = mounts::unmount_below(&root).and_then(|_| mounts::unmount_below(path));
    let released = network::release(id).map_err(io::Error::other);
    let ungrouped = cgroups.remove(&id);
    killed.and(unmounted)?;
    remove_root_place(&root)?;
    remove_directory(path)?;
    released.and(ungrouped)
}

/// Only empty directories are removed, so that nothing behind a mount can be.
fn remove_root_place(root: &Path) -> io::Result<()> {
    for path in [&root.join("root"), root] {
        match fs::remove_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn remove_directory(path: &Path) -> io::Result<()> {
    match remove_with_owner_last(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io::Error::new(
            error.kind(),
            format!("cannot remove {}: {error}", path.display()),
        )),
        _ => Ok(()),
    }
}

/// The owner's lock goes together with the directory and while nobody looks, so that a directory
/// that is going is never taken for one that was left behind.
fn remove_with_owner_last(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == OWNER {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    let _lock = lock_root(path.parent().unwrap_or(path))?;
    fs::remove_dir_all(path)
}
