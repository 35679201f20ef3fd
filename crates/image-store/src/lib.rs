//! What is known of images, by digest, on one disk: layer indexes and small documents.
//!
//! ```text
//! <dir>/indexes/sha256/<layer hex>/v1        a layer's index
//! <dir>/documents/sha256/<hex>               a manifest or configuration
//! <dir>/tmp/                                 files being written
//! ```
//!
//! A file appears complete or not at all: written under `tmp`, synced, renamed, directory synced.
//! It is checked when it is opened, an index by its own root and a document by its name; one that
//! fails is removed, so that it will be made again, and the caller is told. Whether a workspace
//! may use an index is not asked here.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use layer_index::{FORMAT_VERSION, IndexError, LayerIndex};
use reference::Digest;
use sha2::{Digest as _, Sha256};

mod temporary;

pub use temporary::Temporary;

/// Documents are manifests and configurations, bounded at 4 MiB where they are fetched.
const DOCUMENT_MAX_BYTES: u64 = 8 << 20;

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
}

impl StoreError {
    /// True when the disk is full: the one failure that a person mends by making room.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }
}

/// A directory of indexes and documents. Cheap to clone; safe to share between processes.
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
        for part in ["indexes/sha256", "documents/sha256", "tmp"] {
            make_directory(&store.directory.join(part))?;
        }
        let directory = store.directory.join("tmp");
        temporary::sweep(&directory).map_err(|error| io_error(&directory, error))?;
        Ok(store)
    }

    /// Where the index of a layer is, or would be.
    pub fn index_path(&self, layer: &str) -> Result<PathBuf, StoreError> {
        let name = format!("v{FORMAT_VERSION}");
        Ok(self
            .directory
            .join("indexes/sha256")
            .join(hex_of(layer)?)
            .join(name))
    }

    /// The index of a layer, if there is a good one.
    pub fn open_index(&self, layer: &str) -> Result<Option<LayerIndex>, StoreError> {
        let path = self.index_path(layer)?;
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(&path, error)),
        };
        match LayerIndex::open(file) {
            Ok(index) if index.header().layer_digest == layer => Ok(Some(index)),
            Err(IndexError::Io(error)) => Err(io_error(&path, error)),
            // A damaged index is as good as none: it can be made again.
            Ok(_) | Err(_) => {
                fs::remove_file(&path).map_err(|error| io_error(&path, error))?;
                Ok(None)
            }
        }
    }

    /// A file to write an index to.
    pub fn new_file(&self) -> Result<Temporary, StoreError> {
        let directory = self.directory.join("tmp");
        Temporary::new(&directory).map_err(|error| io_error(&directory, error))
    }

    /// Publishes an index that has been written, after reading it back.
    pub fn publish_index(&self, layer: &str, file: Temporary) -> Result<LayerIndex, StoreError> {
        let path = self.index_path(layer)?;
        let opened = File::open(file.path()).map_err(|error| io_error(file.path(), error))?;
        let failed = |source| StoreError::Index {
            layer: layer.to_owned(),
            source,
        };
        let index = LayerIndex::open(opened).map_err(failed)?;
        if index.header().layer_digest != layer {
            return Err(failed(IndexError::Corrupt("it is another layer's")));
        }
        let parent = path.parent().expect("an index has a directory");
        make_directory(parent)?;
        file.publish(&path)
            .map_err(|error| io_error(&path, error))?;
        Ok(index)
    }

    /// Keeps a document under its digest.
    pub fn put_document(&self, digest: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.document_path(digest)?;
        if sha256(bytes) != digest {
            return Err(StoreError::Name(digest.to_owned()));
        }
        let mut file = self.new_file()?;
        file.write_all(bytes)
            .map_err(|error| io_error(&path, error))?;
        file.publish(&path).map_err(|error| io_error(&path, error))
    }

    /// A document, if there is a good one.
    pub fn document(&self, digest: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.document_path(digest)?;
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(&path, error)),
        };
        let mut bytes = Vec::new();
        let read = file.take(DOCUMENT_MAX_BYTES).read_to_end(&mut bytes);
        read.map_err(|error| io_error(&path, error))?;
        if sha256(&bytes) == digest {
            return Ok(Some(bytes));
        }
        fs::remove_file(&path).map_err(|error| io_error(&path, error))?;
        Ok(None)
    }

    fn document_path(&self, digest: &str) -> Result<PathBuf, StoreError> {
        Ok(self
            .directory
            .join("documents/sha256")
            .join(hex_of(digest)?))
    }
}

/// Private to its owner: indexes tell what is in private images.
fn make_directory(path: &Path) -> Result<(), StoreError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| io_error(path, error))
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

fn sha256(bytes: &[u8]) -> String {
    Digest::sha256(Sha256::digest(bytes).into()).to_string()
}

#[cfg(test)]
mod tests;
