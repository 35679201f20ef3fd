//! What has to be known of a zstd stream in order to decode it from the middle.
//!
//! A frame can be entered at a block by whoever knows three things: the three offsets that blocks
//! may repeat, the output before the block that the blocks after it refer to, and that none of them
//! reuses an entropy table of before. [`Walker`] takes a stream apart into frames and blocks,
//! [`Frame`] reads the sequences of each block, which tell the first two, and [`TableWatch`] the
//! third. [`Entrance`] is what such a place is entered with: a frame header of its own and a
//! dictionary, which any decoder of zstd takes.
//!
//! Nothing is decompressed here: literals are skipped, and the bytes of a match are only named.
//! What is not understood is an error, which means that there is no entrance. RFC 8878 is the
//! reference.

mod bits;
mod block;
mod entrance;
mod fse;
mod sequences;
mod tables;
mod walker;

pub use block::{BlockSize, Frame, Referred};
pub use entrance::Entrance;
pub use tables::TableWatch;
pub use walker::{Block, BlockKind, FrameHeader, Unit, Walked, Walker};

/// No block is longer, compressed or not.
pub const MAX_BLOCK_BYTES: usize = 128 << 10;

/// What is no zstd stream, or one that is not understood here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("zstd stream has {0}")]
pub struct FormatError(pub(crate) &'static str);

#[cfg(test)]
mod tests;
