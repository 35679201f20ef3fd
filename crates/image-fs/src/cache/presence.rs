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

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{FlockOperation, fcntl_lock};

const MAGIC: &[u8; 8] = b"HFSPANS\x01";
const HEADER: usize = 48;

/// What the map of the index with this root is called.
pub(super) fn file_name(root: &[u8; 32]) -> String {
    let name = blake3::Hash::from_bytes(*root).to_hex();
    format!("map-{}", &name[..16])
}

/// How many of `spans` this file claims for the index with this root.
pub(super) fn claimed(file: File, root: &[u8; 32], spans: u64) -> io::Result<u64> {
    let spans = usize::try_from(spans).map_err(io::Error::other)?;
    let map = PresenceMap { file, spans };
    let claimed = map.read(&map.header(root)).unwrap_or_default();
    Ok(claimed.iter().filter(|claimed| **claimed).count() as u64)
}

#[derive(Debug)]
pub(super) struct PresenceMap {
    file: File,
    spans: usize,
}

impl PresenceMap {
    /// The map in this file, and which spans it claims. One that is damaged, new or of another
    /// index starts empty.
    pub(super) fn new(file: File, root: &[u8; 32], spans: usize) -> io::Result<(Self, Vec<bool>)> {
        let map = Self { file, spans };
        let expected = map.header(root);
        let claimed = match map.read(&expected) {
            Some(claimed) => claimed,
            None => map.reset(&expected)?,
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

    /// Locks the map, or gives it free, for this process as against others. False when another one
    /// has it.
    pub(super) fn lock(&self, operation: FlockOperation) -> bool {
        fcntl_lock(&self.file, operation).is_ok()
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
