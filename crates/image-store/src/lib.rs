//! Layer indexes on one disk, by the origin that the layer was read from, what workspaces uploaded,
//! and what their starts have read.
//!
//! ```text
//! <dir>/indexes/<origin>/sha256/<layer hex>/v2    a layer's index
//! <dir>/objects/<workspace>/sha256/<hex>          an uploaded object
//! <dir>/traces/<workspace>/<key>                  what the last runs of a command read
//! <dir>/tmp/                                      files being written
//! ```
//!
//! The index of a layer tells what is in it. So what one origin's credential opened is kept from
//! those who have only another origin's, also when that one names the same layer: knowing a digest
//! proves nothing.
//!
//! A file appears complete or not at all: written under `tmp`, synced, renamed, directory synced.
//! But for traces, which are not synced: a damaged one is none, and no start fails for want of it.
//! Indexes are what a confined process made of hostile bytes; here only their first, fixed part is
//! looked at. One in which that is damaged, or that is no file, counts as absent, so that it is
//! made again; one that its reader finds damaged further on is to be removed.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use layer_index::{FORMAT_VERSION, IndexError, IndexSummary};
use reference::Digest;
use sha2::{Digest as _, Sha256};

mod objects;
mod temporary;
mod traces;

pub use objects::{IncomingObject, ObjectKey, StoredObject};
pub use temporary::Temporary;
pub use traces::{Touch, TracedLayer, TracedStart, existing, pack_touches, unpack_touches};

/// Characters of the hash that an origin's or a workspace's directory is called: none has ever met
/// another's.
const HASHED_NAME_CHARS: usize = 32;

/// Why something cannot be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    /// Not a digest that names a file here.
    #[error("{0:?} is not a SHA-256 digest")]
    Name(String),
    /// The index that was written does not read back.
    #[error("index of {layer}: {source}")]
    Index { layer: String, source: IndexError },
    /// More bytes than an object may have.
    #[error("object is larger than {limit_bytes} bytes")]
    TooLarge { limit_bytes: u64 },
    /// Other bytes than were promised.
    #[error("object is {found} and not {expected}")]
    OtherObject { expected: Digest, found: Digest },
}

impl StoreError {
    /// True when the disk is full: the one failure that a person mends by making room.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }
}

/// Which layer, as read from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexKey<'a> {
    /// Any text that tells origins apart.
    pub origin: &'a str,
    /// `sha256:…` of the compressed layer.
    pub layer: &'a str,
}

/// A directory of indexes and objects. Cheap to clone; safe to share between processes.
#[derive(Clone, Debug)]
pub struct ImageStore {
    directory: PathBuf,
}

impl ImageStore {
    /// Opens the store, making its directories where they are missing, and removes what a crash
    /// left half-written.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let store = Self {
            directory: directory.into(),
        };
        for part in ["indexes", "objects", "tmp"] {
            make_directory(&store.directory.join(part))?;
        }
        let directory = store.directory.join("tmp");
        temporary::sweep(&directory).map_err(|error| io_error(&directory, error))?;
        Ok(store)
    }

    /// Where the index of a layer is, or would be.
    pub fn index_path(&self, key: IndexKey<'_>) -> Result<PathBuf, StoreError> {
        let name = format!("v{FORMAT_VERSION}");
        Ok(self
            .directory
            .join("indexes")
            .join(hashed_name(key.origin))
            .join("sha256")
            .join(hex_of(key.layer)?)
            .join(name))
    }

    /// What the index of a layer says of itself, if there is one.
    pub fn index(&self, key: IndexKey<'_>) -> Result<Option<IndexSummary>, StoreError> {
        let path = self.index_path(key)?;
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => return self.remove_index(key).map(|()| None),
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(io_error(&path, error)),
        }
        let file = File::open(&path).map_err(|error| io_error(&path, error))?;
        match IndexSummary::read(&file) {
            Ok(index) if index.header.layer_digest == key.layer => Ok(Some(index)),
            Err(IndexError::Io(error)) => Err(io_error(&path, error)),
            // A damaged index is as good as none: it can be made again.
            Ok(_) | Err(_) => self.remove_index(key).map(|()| None),
        }
    }

    /// The file of an index, if there is one.
    pub fn open_index(&self, key: IndexKey<'_>) -> Result<Option<File>, StoreError> {
        if self.index(key)?.is_none() {
            return Ok(None);
        }
        let path = self.index_path(key)?;
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(io_error(&path, error)),
        }
    }

    /// Takes an index away that turned out to be damaged.
    pub fn remove_index(&self, key: IndexKey<'_>) -> Result<(), StoreError> {
        let path = self.index_path(key)?;
        match remove_whatever(&path) {
            Err(error) if !is_absent(&error) => Err(io_error(&path, error)),
            _ => Ok(()),
        }
    }

    /// A file to write an index to.
    pub fn new_file(&self) -> Result<Temporary, StoreError> {
        let directory = self.directory.join("tmp");
        Temporary::new(&directory).map_err(|error| io_error(&directory, error))
    }

    /// Publishes an index that has been written.
    pub fn publish_index(
        &self,
        key: IndexKey<'_>,
        file: Temporary,
    ) -> Result<IndexSummary, StoreError> {
        let path = self.index_path(key)?;
        let failed = |source| StoreError::Index {
            layer: key.layer.to_owned(),
            source,
        };
        let index = IndexSummary::read(file.file()).map_err(failed)?;
        if index.header.layer_digest != key.layer {
            return Err(failed(IndexError::Corrupt("it is another layer's")));
        }
        let parent = path.parent().expect("an index has a directory");
        if parent.symlink_metadata().is_ok_and(|found| !found.is_dir()) {
            remove_whatever(parent).map_err(|error| io_error(parent, error))?;
        }
        make_directory(parent)?;
        file.publish(&path)
            .map_err(|error| io_error(&path, error))?;
        Ok(index)
    }
}

/// Private to its owner: indexes tell what is in private images, and objects are code.
fn make_directory(path: &Path) -> Result<(), StoreError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| io_error(path, error))
}

/// Removes a file, a directory with what is in it, or what else has that name. Follows no link.
fn remove_whatever(path: &Path) -> io::Result<()> {
    if path.symlink_metadata()?.is_dir() {
        return fs::remove_dir_all(path);
    }
    fs::remove_file(path)
}

/// There is nothing, or something on the way there is no directory.
fn is_absent(error: &io::Error) -> bool {
    let kind = error.kind();
    matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn io_error(path: &Path, source: io::Error) -> StoreError {
    StoreError::Io {
        path: path.display().to_string(),
        source,
    }
}

fn hex_of(digest: &str) -> Result<String, StoreError> {
    let name = || StoreError::Name(digest.chars().take(100).collect());
    let digest = Digest::parse(digest).map_err(|_| name())?;
    match digest.algorithm() {
        "sha256" => Ok(digest.hex().to_owned()),
        _ => Err(name()),
    }
}

fn hashed_name(text: &str) -> String {
    let hash = Digest::sha256(Sha256::digest(text).into());
    hash.hex()[..HASHED_NAME_CHARS].to_owned()
}

#[cfg(test)]
mod tests;
