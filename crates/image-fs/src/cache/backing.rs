//! Whole files of an image that is mounted, for the kernel to read in place of asking whoever
//! serves the mount. Each belongs to one mount and goes with it: what is in it was checked by its
//! own mount process, and by nobody else's.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, fallocate};

use super::{CacheError, SpanCache, failed, list};

/// What a copy that is only for speed leaves of the disk.
const LEFT_FREE: u64 = 1 << 30;

/// The part of the cache that copies may take: nothing is evicted of them while they are mounted,
/// and what is copied was there before.
const SHARE: u64 = 2;

/// A file of its own in the cache. Gone when it is dropped, but for those who have it open.
#[derive(Debug)]
pub struct BackingFile {
    place: BackingPlace,
    file: File,
    bytes: u64,
}

/// Where such a file is, for as long as this is kept.
#[derive(Debug)]
pub struct BackingPlace(PathBuf);

impl BackingFile {
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Its length, which nobody but its owner has a reason to change.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file is whole, and others have it open.
    pub fn close(self) -> BackingPlace {
        self.place
    }
}

impl Drop for BackingPlace {
    fn drop(&mut self) {
        // What cannot be deleted now is at the next opening of the cache.
        let _ = fs::remove_file(&self.0);
    }
}

impl SpanCache {
    /// A file of so many bytes, all of them zero and their blocks taken, if the cache stays within
    /// its limit and copies within their share of it, and the disk has room to spare. Nothing is
    /// evicted for it.
    pub fn backing_file(&self, bytes: u64) -> Result<Option<BackingFile>, CacheError> {
        let free = self.free_bytes()?;
        let most = self.limits().max_bytes;
        let total = self.total()?.saturating_add(bytes);
        let copied = self.backing_bytes().saturating_add(bytes);
        let is_too_much = total > most || copied > most / SHARE;
        if free < bytes.saturating_add(LEFT_FREE) || is_too_much {
            return Ok(None);
        }
        let lock = self.lock()?;
        let (path, file) = self.owned_file("backing")?;
        drop(lock);
        let place = BackingPlace(path);
        match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => Ok(Some(BackingFile { place, file, bytes })),
            // A file system that knows no such thing, or is full after all.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSPC) => Ok(None),
            Err(error) => Err(failed("cannot size", &place.0)(error.into())),
        }
    }

    /// What all of them take of the disk.
    pub(super) fn backing_bytes(&self) -> u64 {
        let files = list(&self.path("backing")).unwrap_or_default();
        let found = files.iter().filter_map(|path| path.symlink_metadata().ok());
        found.map(|found| found.blocks() * 512).sum()
    }
}
