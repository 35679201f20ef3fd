//! The directory that holds all of one container on the host, and the lock that says that somebody
//! lives in it.
//!
//! ```text
//! <run root>/.lock            held while a directory appears, and while stale ones are cleared
//! <run root>/<container id>/  0700
//!     owner                   held for the container's life by its owner and the owner's tools
//!     lower/                  the image, mounted by whoever has it
//!     scratch/upper, work     what the container writes
//!     rootfs/                 both, as the container sees them
//!     config.json, etc/       the runtime's bundle and generated files
//!     runtime/                the runtime's own state
//!     network                 its network namespace
//! ```
//!
//! Everything that has to be undone can be found from the directory's name and place, so that a
//! start after a crash clears it away without any record of what was done.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use ids::ContainerId;
use rustix::fs::{FlockOperation, flock};

use crate::reap;

/// Characters that have a meaning in the kernel's mount options.
const RESERVED: [char; 3] = [',', ':', '\\'];

/// Why there is no directory for a container.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// Not usable as a place for mounts.
    #[error("run directory {0} is not an absolute path without commas, colons and backslashes")]
    Path(PathBuf),
    /// The filesystem said no.
    #[error("cannot prepare run directory {path}")]
    Io {
        /// What was being made.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// One container's directory, owned by this process until it is dropped or removed.
#[derive(Debug)]
pub struct RunDir {
    layout: Layout,
    id: ContainerId,
    owner: Arc<OwnedFd>,
    gate: Arc<Gate>,
    removed: bool,
}

/// Lets work in a directory end before the directory goes, and none begin afterwards.
///
/// Work may go on in a thread after whoever waited for it has stopped waiting.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    closed: RwLock<bool>,
}

impl Gate {
    /// What must be kept while working; `None` when the directory is going.
    pub(crate) fn enter(&self) -> Option<RwLockReadGuard<'_, bool>> {
        let closed = self.closed.read().unwrap_or_else(PoisonError::into_inner);
        (!*closed).then_some(closed)
    }

    fn close(&self) {
        *self.closed.write().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

/// Where things are in one container's directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) path: PathBuf,
}

impl Layout {
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.path.join("rootfs")
    }

    pub(crate) fn scratch(&self) -> PathBuf {
        self.path.join("scratch")
    }

    pub(crate) fn network(&self) -> PathBuf {
        self.path.join("network")
    }
}

impl RunDir {
    /// Makes the directory of a new container and locks it.
    pub fn create(run_root: &Path, id: ContainerId) -> Result<Self, RunDirError> {
        let text = run_root.to_str().unwrap_or_default();
        if !run_root.is_absolute() || text.contains(RESERVED) {
            return Err(RunDirError::Path(run_root.to_owned()));
        }
        let path = run_root.join(id.to_string());
        let io = |source| RunDirError::Io {
            path: path.clone(),
            source,
        };
        let lock = lock_root(run_root).map_err(io)?;
        let owner = make(&path).map_err(io)?;
        drop(lock);
        Ok(Self {
            layout: Layout { path },
            id,
            owner: Arc::new(owner),
            gate: Arc::default(),
            removed: false,
        })
    }

    /// Whose directory it is.
    pub fn id(&self) -> ContainerId {
        self.id
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.layout.path
    }

    /// Where the image's root is to be mounted.
    pub fn lower(&self) -> PathBuf {
        self.layout.path.join("lower")
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// The lock, for programs that must keep it.
    pub(crate) fn owner(&self) -> &Arc<OwnedFd> {
        &self.owner
    }

    /// Ends whatever still runs and takes everything away. Waits for a start that is in progress,
    /// which may itself wait for the image: end the image's mount before.
    pub fn remove(mut self) -> io::Result<()> {
        self.removed = true;
        self.gate.close();
        reap::clear(&self.layout.path, self.id)
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if self.removed {
            return;
        }
        self.gate.close();
        if let Err(error) = reap::clear(&self.layout.path, self.id) {
            tracing::warn!(container = %self.id, %error, "cannot clear the container away");
        }
    }
}

/// Holds off others that make or clear directories below a root.
pub(crate) fn lock_root(run_root: &Path) -> io::Result<OwnedFd> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(run_root)?;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(run_root.join(".lock"))?;
    rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive))?;
    Ok(file.into())
}

/// The file that is locked for as long as a container has an owner.
pub(crate) const OWNER: &str = "owner";

/// The owner's lock of a directory, `None` while somebody has it. Makes no file: the directory may
/// be going.
pub(crate) fn try_own(path: &Path) -> io::Result<Option<OwnedFd>> {
    let file = OpenOptions::new().write(true).open(path.join(OWNER))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file.into())),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn make(path: &Path) -> io::Result<OwnedFd> {
    DirBuilder::new().mode(0o700).create(path)?;
    let mut options = OpenOptions::new();
    let options = options.create_new(true).write(true).mode(0o600);
    options.open(path.join(OWNER))?;
    let owner = try_own(path)?.expect("nobody knows the new directory");
    for name in ["lower", "scratch", "rootfs", "etc", "runtime"] {
        fs::create_dir(path.join(name))?;
    }
    // For people; the lock is what counts.
    let mut file = File::from(owner);
    writeln!(file, "{}", std::process::id())?;
    Ok(file.into())
}
