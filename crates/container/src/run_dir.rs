//! The directory that holds all of one container on the host, and the lock that says that somebody
//! lives in it.
//!
//! ```text
//! <run root>/.lock            held while a directory appears, and while stale ones are cleared
//! <run root>/<container id>/  0700
//!     owner                   held for the container's life by its owner and the owner's tools
//!     lower/                  the image, mounted by whoever has it
//!     scratch/upper, work     what the container writes
//!     config.json, etc/       the runtime's bundle and generated files
//!     runtime/                the runtime's own state
//!     users, network          its user and network namespaces
//!     volumes/                host folders, with the owners that the container is to see
//! /run/holdfast/roots/<id>/   0710: closed to all but the container's root
//!     root/                   image and writes, as the container sees them
//! ```
//!
//! The root stands apart because the container's root, which is nobody outside, has to find its way
//! there, and a run root may lie where nobody but the machine's root can go.
//!
//! Everything that has to be undone can be found from the directory's name and place, so that a
//! start after a crash clears it away without any record of what was done.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use ids::ContainerId;
use rustix::fs::{FlockOperation, flock};
use rustix::io::fcntl_dupfd_cloexec;

use crate::id_range::IdRange;
use crate::reap;
use crate::starting::forget;
use crate::streams;
use crate::user_namespace;

/// Characters that have a meaning in the kernel's mount options.
const RESERVED: [char; 3] = [',', ':', '\\'];

/// Where containers' roots are mounted, each in a directory of its own.
const ROOTS: &str = "/run/holdfast/roots";

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
    /// Switched off, or used up.
    #[error("the kernel gives the container no user namespace of its own")]
    UserNamespace(#[source] io::Error),
}

/// One container's directory, owned by this process until it is dropped or removed.
#[derive(Debug)]
pub struct RunDir {
    layout: Layout,
    id: ContainerId,
    owner: Arc<OwnedFd>,
    gate: Arc<Gate>,
    /// The container's first process, which is our child.
    process: OnceLock<OwnedFd>,
    removed: bool,
}

/// Lets work in a directory end before the directory goes, and none begin afterwards.
///
/// Work may go on in a thread after whoever waited for it has stopped waiting.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    passage: Mutex<Passage>,
    left: Condvar,
}

#[derive(Debug, Default)]
struct Passage {
    inside: usize,
    closed: bool,
}

/// What must be kept while working in a directory.
#[derive(Debug)]
pub(crate) struct Pass(Arc<Gate>);

impl Gate {
    /// `None` when the directory is going.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Pass> {
        let mut passage = self.passage();
        if passage.closed {
            return None;
        }
        passage.inside += 1;
        Some(Pass(Arc::clone(self)))
    }

    fn close(&self) {
        let mut passage = self.passage();
        passage.closed = true;
        while passage.inside > 0 {
            let waited = self.left.wait(passage);
            passage = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn passage(&self) -> MutexGuard<'_, Passage> {
        self.passage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.passage().inside -= 1;
        self.0.left.notify_all();
    }
}

/// Where things are in one container's directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) path: PathBuf,
    /// The container's own directory of those where roots are mounted.
    pub(crate) root_dir: PathBuf,
    /// Whose ids the container has; without, they are the machine's.
    pub(crate) ids: Option<IdRange>,
}

impl Layout {
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.root_dir.join("root")
    }

    /// The user namespace, where there is one.
    pub(crate) fn users(&self) -> Option<PathBuf> {
        self.ids.map(|_| self.path.join("users"))
    }

    /// Gives a path to the container's root.
    pub(crate) fn give(&self, path: &Path) -> io::Result<()> {
        let owner = self.ids.map_or(0, IdRange::first);
        chown(path, Some(owner), Some(owner))
    }

    pub(crate) fn scratch(&self) -> PathBuf {
        self.path.join("scratch")
    }

    pub(crate) fn network(&self) -> PathBuf {
        self.path.join("network")
    }
}

impl RunDir {
    /// Makes the directory of a new container and locks it. With a range of ids the container has
    /// a user namespace of its own, without one it has the machine's.
    pub fn create(
        run_root: &Path,
        id: ContainerId,
        ids: Option<IdRange>,
    ) -> Result<Self, RunDirError> {
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
        let layout = Layout {
            root_dir: root_dir(id),
            path: path.clone(),
            ids,
        };
        let dir = Self {
            layout,
            id,
            owner: Arc::new(owner),
            gate: Arc::default(),
            process: OnceLock::new(),
            removed: false,
        };
        if let (Some(users), Some(ids)) = (dir.layout.users(), ids) {
            user_namespace::create(&users, ids).map_err(RunDirError::UserNamespace)?;
        }
        make_root_place(&dir.layout).map_err(io)?;
        Ok(dir)
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

    /// Makes sure that the container's first process is asked how it ended, at the latest when the
    /// directory goes.
    pub(crate) fn adopt(&self, process: OwnedFd) {
        self.process
            .set(process)
            .expect("the runtime refuses to start a second container of one id");
    }

    /// The lock, for programs that must keep it.
    pub(crate) fn owner(&self) -> &Arc<OwnedFd> {
        &self.owner
    }

    /// Ends whatever still runs and takes everything away. Waits for a start that is in progress,
    /// which may itself wait for the image: end the image's mount before.
    pub fn remove(mut self) -> io::Result<()> {
        self.removed = true;
        self.clear()
    }

    fn clear(&self) -> io::Result<()> {
        self.gate.close();
        let cleared = reap::clear(&self.layout.path, self.id);
        if let (Ok(()), Some(process)) = (&cleared, self.process.get()) {
            forget(process);
        }
        cleared
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if self.removed {
            return;
        }
        if let Err(error) = self.clear() {
            tracing::warn!(container = %self.id, %error, "cannot clear the container away");
        }
    }
}

/// Where a container's root is mounted.
pub(crate) fn root_dir(id: ContainerId) -> PathBuf {
    Path::new(ROOTS).join(id.to_string())
}

/// Makes the place for the root: closed, since set-id programs of the image work there, but for
/// the container's root, which can go through and not list.
fn make_root_place(layout: &Layout) -> io::Result<()> {
    let (roots, own) = (Path::new(ROOTS), &layout.root_dir);
    fs::create_dir_all(roots)?;
    for path in roots.ancestors().take(2) {
        let mode = path.metadata()?.permissions().mode();
        fs::set_permissions(path, fs::Permissions::from_mode(mode | 0o111))?;
    }
    DirBuilder::new().mode(0o700).create(own)?;
    chown(own, None, layout.ids.map(IdRange::first))?;
    fs::set_permissions(own, fs::Permissions::from_mode(0o710))?;
    fs::create_dir(layout.rootfs())
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

/// The number that the owner's descriptor has at least. The runtime keeps it, and passes what has a
/// lower number on to the container.
const LOWEST_OWNER: RawFd = streams::SOCKET + 1;

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
    for name in ["lower", "scratch", "etc", "runtime", "volumes"] {
        fs::create_dir(path.join(name))?;
    }
    // For people; the lock is what counts.
    let mut file = File::from(fcntl_dupfd_cloexec(owner, LOWEST_OWNER)?);
    writeln!(file, "{}", std::process::id())?;
    Ok(file.into())
}
