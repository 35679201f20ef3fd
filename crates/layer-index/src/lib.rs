//! The index of one image layer: what is in it, where each file's bytes are, and where decoding
//! of the compressed layer can start.
//!
//! # Format, version 3
//!
//! ```text
//! +-----------------------------------------------------------------+ 0
//! | magic "hfindex\0" | version u32 | header length u32             |
//! +-----------------------------------------------------------------+ 16
//! | header: layer digest [32] | diff id [32] | codec u8             |
//! |   compressed size u64 | uncompressed size u64                   |
//! |   entries u64 | spans u64                                       |
//! |   A: stored u64, raw u64, BLAKE3 [32]                           |
//! |   B: stored u64, raw u64, BLAKE3 [32]                           |
//! |   C: stored u64                                                 |
//! +-----------------------------------------------------------------+
//! | A  metadata: one zstd frame of columns                          |
//! |    paths (front-coded) | kinds | modes | uids | gids | mtimes   |
//! |    xattr set numbers | sizes and extents | targets | devices    |
//! |    xattr sets, each stored once                                 |
//! +-----------------------------------------------------------------+
//! | B  span table: one zstd frame of columns                        |
//! |    per checkpoint: offset, bits, spans, window frame, digest    |
//! |    per span: length, BLAKE3 of the decoded bytes                |
//! +-----------------------------------------------------------------+
//! | C  windows: a zstd frame each, found by B, read when used       |
//! +-----------------------------------------------------------------+
//! ```
//!
//! Integers are little-endian; numbers in columns are LEB128, signed ones zigzag. The *root* is
//! the BLAKE3 of everything before section A: it covers A and B by their digests, and each window
//! by its own digest in B (16 bytes of BLAKE3). A layer that is decoded from one end only has one
//! checkpoint and no windows.
//!
//! A window of gzip is the 32 KiB before its checkpoint, with zeros for bytes that are not used.
//! One of zstd, whose windows are megabytes, has only what is used until the next checkpoint:
//!
//! ```text
//! | length | what to enter with: window descriptor u8 | frame has a checksum, 0 or 1, u8  |
//! |        |   the three offsets that may be repeated | how far back the first run begins |
//! | length | of each run: bytes between the run before and this one                       |
//! | length | of each run: its length                                                      |
//! | length | the runs, oldest first, without anything between them                        |
//! ```
//!
//! Both have no window where a member or a frame begins.
//!
//! A reader verifies A and B when it opens an index, and a window when it uses it. `limits` bounds
//! everything before it is allocated. No registry, no kernel, no policy.

mod builder;
mod column;
pub mod entry;
pub mod error;
mod format;
pub mod index;
pub mod limits;
mod long_column;
mod metadata;
mod scratch;
pub mod span;
mod span_decoder;
mod span_table;
mod sparse_window;
mod summary;
pub mod tree;
mod zstd_stream;

pub use builder::{Builder, Layer};
pub use entry::{Entry, EntryKind, Extent, Mtime, Xattr};
pub use error::{BuildError, DecodeError, IndexError};
pub use format::FORMAT_VERSION;
pub use index::{Codec, Header, LayerIndex};
pub use scratch::{Piece, Room, Scratch};
pub use span::{Checkpoint, Span, Window};
pub use span_decoder::SpanDecoder;
pub use span_table::SpanDigests;
pub use sparse_window::SparseWindow;
pub use summary::IndexSummary;
pub use tree::{Child, Inode, InodeId, MergeError, NodeKind, Tree};

#[cfg(test)]
mod tests;
