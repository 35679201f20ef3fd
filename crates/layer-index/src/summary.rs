//! What an index says of itself in its first bytes, for processes that must not look further.
//!
//! The part that is read has a fixed size and a fixed form: nothing is decompressed, and nothing is
//! allocated by what it says. Sections that do not fit it are found by whoever opens the index.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::error::IndexError;
use crate::format::{PREFIX_BYTES, Prefix};
use crate::index::Header;

/// What can be said of an index without looking into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexSummary {
    pub header: Header,
    /// The digest of the whole index.
    pub root: [u8; 32],
    /// How long the index itself is.
    pub file_bytes: u64,
    /// What a reader of the index has to hold of it.
    pub memory_bytes: u64,
}

impl IndexSummary {
    pub fn read(file: &File) -> Result<Self, IndexError> {
        let length = file.metadata()?.len();
        let mut bytes = [0; PREFIX_BYTES];
        if length < bytes.len() as u64 {
            return Err(IndexError::Format("no layer index"));
        }
        file.read_exact_at(&mut bytes, 0)?;
        let prefix = Prefix::decode(&bytes)?;
        if prefix.file_bytes() != length {
            return Err(IndexError::Corrupt(
                "the file has another length than its header says",
            ));
        }
        Ok(Self::new(&prefix, Prefix::root(&bytes)))
    }

    pub(crate) fn new(prefix: &Prefix, root: [u8; 32]) -> Self {
        Self {
            header: prefix.header.clone(),
            root,
            file_bytes: prefix.file_bytes(),
            memory_bytes: prefix.metadata.raw + prefix.span_table.raw,
        }
    }
}
