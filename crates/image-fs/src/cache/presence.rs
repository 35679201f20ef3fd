//! The map of a layer's spans on disk: a byte per span, so that two processes can publish
//! neighbours without taking a lock.
//!
//! ```text
//! 0   8   "HFSPANS" and version 1
//! 8   32  root digest of the index that numbers the spans
//! 40  8   number of spans, little endian
//! 48  n   1 = the span was written
//! ```
//!
//! A hint only: a byte of 1 says that looking is worthwhile, and the digest decides. Nothing here
//! is synced.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use layer_index::LayerIndex;

use super::{CacheError, failed, open_file};

const MAGIC: &[u8; 8] = b"HFSPANS\x01";
const HEADER: usize = 48;

#[derive(Debug)]
pub(super) struct PresenceMap {
    file: File,
    spans: usize,
}

impl PresenceMap {
    /// Opens the map for this index, and says which spans it claims. A map that is damaged or not
    /// there starts empty.
    pub(super) fn open(home: &Path, index: &LayerIndex) -> Result<(Self, Vec<bool>), CacheError> {
        let root = index.root();
        let name = blake3::Hash::from_bytes(root).to_hex();
        let path = home.join(format!("map-{}", &name[..16]));
        let file = open_file(&path, OpenOptions::new().create(true).truncate(false))?;
        let map = Self {
            file,
            spans: index.spans().len(),
        };
        let expected = map.header(&root);
        let claimed = match map.read(&expected) {
            Some(claimed) => claimed,
            None => map
                .reset(&expected)
                .map_err(failed("cannot write", &path))?,
        };
        Ok((map, claimed))
    }

    fn header(&self, root: &[u8; 32]) -> Vec<u8> {
        [&MAGIC[..], root, &(self.spans as u64).to_le_bytes()].concat()
    }

    fn read(&self, expected: &[u8]) -> Option<Vec<bool>> {
        let length = HEADER + self.spans;
        if self.file.metadata().ok()?.len() != length as u64 {
            return None;
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, 0).ok()?;
        let (header, flags) = bytes.split_at(HEADER);
        (header == expected).then(|| flags.iter().map(|flag| *flag == 1).collect())
    }

    fn reset(&self, header: &[u8]) -> io::Result<Vec<bool>> {
        self.file.set_len(0)?;
        self.file.set_len((HEADER + self.spans) as u64)?;
        self.file.write_all_at(header, 0)?;
        Ok(vec![false; self.spans])
    }

    pub(super) fn set(&self, span: usize, is_present: bool) -> io::Result<()> {
        self.file
            .write_all_at(&[u8::from(is_present)], (HEADER + span) as u64)
    }

    pub(super) fn set_all(&self) -> io::Result<()> {
        self.file.write_all_at(&vec![1; self.spans], HEADER as u64)
    }

    /// What the map says now: another process may have written the span meanwhile.
    pub(super) fn is_set(&self, span: usize) -> bool {
        let mut byte = [0];
        self.file
            .read_exact_at(&mut byte, (HEADER + span) as u64)
            .is_ok()
            && byte == [1]
    }
}
