//! The span cache: decoded bytes of layers on disk, by the origin that they were read from.
//!
//! ```text
//! <directory>/
//!   lock                        held while layers come and go, never while they are read
//!   incoming/<name>             a layer that an indexer is filling, to be adopted whole
//!   backing/<name>              a whole file of an image that is mounted, for the kernel to read
//!   trash/<name>                a layer that is being deleted
//!   pins/<name>                 an image whose layers are kept: see `pins`
//!   layers/<origin>/<layer>/
//!     about                     origin and layer in words
//!     use                       locked shared by every process that has the layer open
//!     data                      decoded bytes at their own offsets; sparse
//!     map-<root>                which spans are there, per index root: see `presence`
//! ```
//!
//! The same layer from two origins is kept twice: what one origin's credential opened says nothing
//! about another's. A layer in use or pinned is never evicted; one that is unlinked stays readable
//! to those who have it open. The map is a hint and the digest decides, so no order of writes and
//! no power cut can make wrong bytes readable.

mod allowance;
mod backing;
mod budget;
mod layer;
mod pins;
mod presence;
mod usage;

use std::fs::{self, DirBuilder, File, FileTimes, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use layer_index::IndexSummary;
use rustix::fs::{FlockOperation, flock};

pub use self::allowance::{Allowance, Room};
pub use self::backing::{BackingFile, BackingPlace};
pub use self::layer::{LayerCache, LayerFiles, StoreError};
pub use self::pins::{Pin, PinPlan};
use self::presence::PresenceMap;
pub use self::usage::{LayerUsage, PruneReport};

/// A cache that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("{action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("layer digest is not one that the cache can name: {0:?}")]
    Layer(String),
    /// What is pinned is never evicted, so that the limit holds for it from the beginning.
    #[error(
        "{name} cannot be pinned: it needs {needs_bytes} bytes beside {pinned_bytes} that are \
         pinned, and the cache may take {limit_bytes}"
    )]
    NoRoomForPin {
        name: String,
        needs_bytes: u64,
        pinned_bytes: u64,
        limit_bytes: u64,
    },
    #[error("the cache has {limit} pins, and takes no more")]
    TooManyPins { limit: usize },
    #[error("layer {0} is not in the cache")]
    NotThere(String),
    #[error("{0:?} makes no pin")]
    Unpinnable(String),
    /// The file that was to be adopted is not the layer's.
    #[error("decoded layer {layer} has {found} bytes, its index says {expected}")]
    Length {
        layer: String,
        found: u64,
        expected: u64,
    },
}

/// How much of the disk the cache may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLimits {
    /// Disk blocks of all layers together. Layers in use and pinned ones count, and are never
    /// evicted: when they alone reach the limit, what is read beyond it is not kept.
    pub max_bytes: u64,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self {
            max_bytes: u64::MAX,
        }
    }
}

/// The cache of one directory. Cheap to clone; any number of processes may have it open.
#[derive(Clone, Debug)]
pub struct SpanCache {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    limits: CacheLimits,
    /// Makes names unique within the process.
    names: AtomicU64,
}

impl SpanCache {
    /// Opens or creates the cache in `directory`, and deletes what a crash left half-made.
    pub fn open(directory: &Path, limits: CacheLimits) -> Result<Self, CacheError> {
        let inner = Inner {
            directory: directory.to_owned(),
            limits,
            names: AtomicU64::default(),
        };
        let cache = Self {
            inner: Arc::new(inner),
        };
        for name in ["layers", "incoming", "backing", "trash", "pins"] {
            create_directories(&cache.path(name))?;
        }
        cache.sweep()?;
        Ok(cache)
    }

    /// The files of this layer as read from `origin`. The layer is not evicted for as long as the
    /// one with the lock is open somewhere. Nothing of the index but its summary is needed, so
    /// that who opens files need not be who reads them.
    pub fn layer_files(
        &self,
        origin: &str,
        index: &IndexSummary,
    ) -> Result<LayerFiles, CacheError> {
        let home = self.home(origin, index)?;
        let _lock = self.lock()?;
        Self::prepare(&home, origin, index)?;
        let usage = open_file(&home.join("use"), &mut OpenOptions::new())?;
        flock(&usage, FlockOperation::LockShared)
            .map_err(|error| failed("cannot lock", &home)(error.into()))?;
        let data = open_or_create(&home.join("data"))?;
        let length = index.header.uncompressed_size;
        let found = data.metadata().map_err(failed("cannot read", &home))?.len();
        if found != length {
            data.set_len(length).map_err(failed("cannot size", &home))?;
        }
        let map = open_or_create(&home.join(presence::file_name(&index.root)))?;
        mark_used(&usage);
        Ok(LayerFiles { data, map, usage })
    }

    pub fn limits(&self) -> CacheLimits {
        self.inner.limits
    }

    /// How many spans of this layer are there, as far as the map says.
    pub fn present_spans(&self, origin: &str, index: &IndexSummary) -> Result<u64, CacheError> {
        let home = self.home(origin, index)?;
        let map = home.join(presence::file_name(&index.root));
        if !is_file(&map) {
            return Ok(0);
        }
        let file = File::open(&map).map_err(failed("cannot open", &map))?;
        let claimed = presence::claimed(file, &index.root, index.header.span_count);
        claimed.map_err(failed("cannot read", &home))
    }

    /// Notes that the layer was in use until now: layers are evicted in the order of their last
    /// use.
    pub fn used(&self, origin: &str, index: &IndexSummary) {
        let usage = self.home(origin, index).map(|home| home.join("use"));
        let file = usage.ok().filter(|path| is_file(path)).map(File::open);
        if let Some(Ok(file)) = file {
            mark_used(&file);
        }
    }

    /// A file for an indexer to write the decoded layer into.
    pub fn incoming(&self) -> Result<Incoming, CacheError> {
        let _lock = self.lock()?;
        let (path, file) = self.owned_file("incoming")?;
        Ok(Incoming { path, file })
    }

    /// A new file that is deleted at the next opening if this process is gone then. The caller
    /// holds the lock, so that nobody takes the file for a dead one before it is locked itself.
    fn owned_file(&self, directory: &str) -> Result<(PathBuf, File), CacheError> {
        let path = self.path(directory).join(self.unique_name());
        let file = open_file(&path, OpenOptions::new().create_new(true))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| failed("cannot lock", &path)(error.into()))?;
        Ok((path, file))
    }

    /// Takes a whole decoded layer. Its spans are still verified when they are first used.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "the file is the cache's from here on"
    )]
    pub fn adopt(
        &self,
        origin: &str,
        index: &IndexSummary,
        incoming: Incoming,
    ) -> Result<(), CacheError> {
        let found = incoming
            .file
            .metadata()
            .map_err(failed("cannot read", &incoming.path))?
            .len();
        let expected = index.header.uncompressed_size;
        if found != expected {
            let layer = index.header.layer_digest.clone();
            return Err(CacheError::Length {
                layer,
                found,
                expected,
            });
        }
        let home = self.home(origin, index)?;
        let lock = self.lock()?;
        Self::prepare(&home, origin, index)?;
        let data = home.join("data");
        clear_for_file(&data);
        fs::rename(&incoming.path, &data).map_err(failed("cannot create", &data))?;
        let map = open_or_create(&home.join(presence::file_name(&index.root)))?;
        let spans = usize::try_from(index.header.span_count).unwrap_or(usize::MAX);
        let map = PresenceMap::new(map, &index.root, spans);
        map.and_then(|(map, _)| map.set_all())
            .map_err(failed("cannot write", &home))?;
        drop(lock);
        self.check_limit();
        Ok(())
    }

    /// Files of a layer that are there before anything of it is.
    fn prepare(home: &Path, origin: &str, index: &IndexSummary) -> Result<(), CacheError> {
        create_directories(home)?;
        let about = home.join("about");
        clear_for_file(&about);
        if !about.exists() {
            let text = format!("{origin}\n{}\n", index.header.layer_digest);
            let mut file = open_file(&about, OpenOptions::new().create(true).truncate(true))?;
            file.write_all(text.as_bytes())
                .map_err(failed("cannot write", &about))?;
        }
        let usage = home.join("use");
        open_or_create(&usage).map(drop)
    }

    fn home(&self, origin: &str, index: &IndexSummary) -> Result<PathBuf, CacheError> {
        self.home_of(origin, &index.header.layer_digest)
    }

    fn home_of(&self, origin: &str, layer: &str) -> Result<PathBuf, CacheError> {
        let layer = layer_name(layer)?;
        Ok(self.path("layers").join(origin_name(origin)).join(layer))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.inner.directory.join(name)
    }

    /// Waits until no other process adds or removes layers.
    fn lock(&self) -> Result<File, CacheError> {
        let path = self.path("lock");
        let file = open_or_create(&path)?;
        loop {
            match flock(&file, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(failed("cannot lock", &path)(error.into())),
            }
        }
    }

    /// Deletes what has no owner: trash, and files whose process is gone.
    fn sweep(&self) -> Result<(), CacheError> {
        let lock = self.lock()?;
        let mut dead = list(&self.path("trash"))?;
        for directory in ["incoming", "backing"] {
            let files = list(&self.path(directory))?.into_iter();
            dead.extend(files.filter(|path| !is_locked(path)));
        }
        drop(lock);
        for path in &dead {
            delete(path);
        }
        Ok(())
    }

    fn unique_name(&self) -> String {
        let number = self.inner.names.fetch_add(1, Relaxed);
        let now = std::time::UNIX_EPOCH
            .elapsed()
            .unwrap_or_default()
            .as_nanos();
        format!("{}-{now:x}-{number}", std::process::id())
    }
}

/// A decoded layer on its way into the cache. Gone when it is dropped without being adopted.
#[derive(Debug)]
pub struct Incoming {
    path: PathBuf,
    file: File,
}

impl Incoming {
    /// The file to write decoded bytes into, each at its own offset.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // After an adoption the name is gone already.
        let _ = fs::remove_file(&self.path);
    }
}

/// `sha256:…` as a file name.
fn layer_name(layer: &str) -> Result<String, CacheError> {
    let is_plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric());
    match layer.split_once(':') {
        Some((algorithm, hex)) if is_plain(algorithm) && is_plain(hex) && layer.len() <= 200 => {
            Ok(format!("{algorithm}-{hex}"))
        }
        _ => Err(CacheError::Layer(layer.chars().take(80).collect())),
    }
}

/// An origin as a file name: any text may be one, so it is hashed.
fn origin_name(origin: &str) -> String {
    blake3::hash(origin.as_bytes()).to_hex()[..32].to_owned()
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CacheError {
    let path = path.to_owned();
    move |source| CacheError::Io {
        action,
        path,
        source,
    }
}

/// Decoded private layers are for their owner only. What is no directory, and is in the way of
/// this one or the one above it, goes.
fn create_directories(path: &Path) -> Result<(), CacheError> {
    let mut builder = DirBuilder::new();
    let builder = builder.recursive(true).mode(0o700);
    let made = builder.create(path).or_else(|_| {
        for path in path.parent().into_iter().chain([path]) {
            if path.symlink_metadata().is_ok_and(|found| !found.is_dir()) {
                delete(path);
            }
        }
        builder.create(path)
    });
    made.map_err(failed("cannot create", path))
}

fn open_file(path: &Path, options: &mut OpenOptions) -> Result<File, CacheError> {
    options
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
        .map_err(failed("cannot open", path))
}

fn is_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_file())
}

/// What is there and is no file goes: nobody could ever use it, and opening it may wait for ever.
fn clear_for_file(path: &Path) {
    if path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
        delete(path);
    }
}

/// A file that is there, or is made empty.
fn open_or_create(path: &Path) -> Result<File, CacheError> {
    clear_for_file(path);
    open_file(path, OpenOptions::new().create(true).truncate(false))
}

fn mark_used(usage: &File) {
    // Costs the layer its place in the order of eviction, no more.
    let _ = usage.set_times(FileTimes::new().set_modified(SystemTime::now()));
}

fn list(directory: &Path) -> Result<Vec<PathBuf>, CacheError> {
    let entries = fs::read_dir(directory).map_err(failed("cannot read", directory))?;
    Ok(entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect())
}

/// Whether some process holds a lock on this file. One that cannot be opened counts as held; what
/// is no file is nobody's.
fn is_locked(path: &Path) -> bool {
    if path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
        return false;
    }
    match File::open(path) {
        Ok(file) => flock(&file, FlockOperation::NonBlockingLockExclusive).is_err(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Deletes a file or directory. What cannot be deleted is tried again at the next opening.
fn delete(path: &Path) {
    let is_directory = path.symlink_metadata().is_ok_and(|found| found.is_dir());
    let result = if is_directory {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    if let Err(error) = result
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cannot delete from the span cache");
    }
}
