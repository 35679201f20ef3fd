//! Spans and checkpoints. A span is the unit of decoding: a run of the uncompressed layer with a
//! BLAKE3 digest. A checkpoint is a place in the compressed layer where decoding can start; several
//! spans share one where a compressed block is long.

use std::fmt;

use inflate_resume::WINDOW_SIZE;

use crate::sparse_window::SparseWindow;

/// A run of the uncompressed layer that is decoded and verified as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub uncompressed_offset: u64,
    /// At least 1 and at most `limits::MAX_SPAN`.
    pub length: u32,
    /// Number of the checkpoint from which this span is reached.
    pub checkpoint: u32,
    /// BLAKE3 of the decoded bytes.
    pub digest: [u8; 32],
}

impl Span {
    /// The uncompressed offset just after this span.
    pub fn end(&self) -> u64 {
        self.uncompressed_offset + u64::from(self.length)
    }
}

/// A place in the compressed layer where decoding can start.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The first span that decoding from here yields.
    pub span: usize,
    /// The byte that holds the first bit to decode.
    pub compressed_offset: u64,
    /// How many low bits of that byte belong to what came before (0 to 7).
    pub bits: u8,
    pub window: Window,
}

/// The decoded bytes before a checkpoint that the bytes after it may refer to.
#[derive(Clone, PartialEq, Eq)]
pub enum Window {
    /// Nothing: the start of a gzip member, a zstd frame, or plain bytes.
    Empty,
    /// Bytes that are never referred to read as zero.
    Full(Box<[u8; WINDOW_SIZE]>),
    /// Of zstd, with what else is needed to enter at a block.
    Sparse(Box<SparseWindow>),
}

impl fmt::Debug for Window {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => formatter.write_str("Empty"),
            Self::Full(_) => formatter.write_str("Full(32 KiB)"),
            Self::Sparse(_) => formatter.write_str("Sparse"),
        }
    }
}
