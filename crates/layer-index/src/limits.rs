//! Every bound of the format in one place, each with its reason. The encoder refuses what the
//! decoder would refuse.

/// Longest span. A reader holds a few decoded spans at once, so this bounds its memory.
pub const MAX_SPAN: u32 = 4 * 1024 * 1024;

/// Spans end at the first block boundary after this much output (the knee of the curve of bytes
/// fetched against index size).
pub const TARGET_SPAN: u32 = 256 * 1024;

/// Entries in one layer. The largest public images have about two million files in all.
pub const MAX_ENTRIES: u64 = 16 * 1024 * 1024;

/// Longest path of an entry. Linux itself stops at 4096 for one call.
pub const MAX_PATH: usize = 4095;

/// Longest path component, as Linux has it.
pub const MAX_NAME: usize = 255;

/// Longest symlink target, as Linux has it.
pub const MAX_SYMLINK_TARGET: usize = 4095;

/// Longest name of an extended attribute, as Linux has it.
pub const MAX_XATTR_NAME: usize = 255;

/// Longest value of an extended attribute, as Linux has it.
pub const MAX_XATTR_VALUE: usize = 64 * 1024;

/// Extended attributes of one entry.
pub const MAX_XATTRS_PER_ENTRY: usize = 1024;

/// Different sets of extended attributes in one layer; equal sets are stored once.
pub const MAX_XATTR_SETS: usize = 1024 * 1024;

/// Extents of one sparse file: every other page of 2 GiB. Whoever indexes a layer holds a map in
/// three forms at once.
pub const MAX_EXTENTS_PER_FILE: usize = 256 * 1024;

/// Metadata section before compression: what a reader allocates to hold it.
pub const MAX_METADATA: u64 = 1024 * 1024 * 1024;

/// Span table before compression: enough for `MAX_SPANS`.
pub const MAX_SPAN_TABLE: u64 = 512 * 1024 * 1024;

/// Spans in one layer: 1 TiB at the target size.
pub const MAX_SPANS: u64 = 4 * 1024 * 1024;

/// Uncompressed layer. Keeps offsets far from overflow.
pub const MAX_UNCOMPRESSED: u64 = 1 << 40;

/// Compressed layer, by the same reason.
pub const MAX_COMPRESSED: u64 = 1 << 40;

/// Window of a zstd frame that is entered at a block. Encoders ask for as much at the levels that
/// people use, and whoever indexes a layer holds two of them within 64 MiB.
pub const MAX_ZSTD_WINDOW: u64 = 16 * 1024 * 1024;

/// What is kept of such a window, before compression.
pub const MAX_SPARSE_WINDOW: usize = 4 * 1024 * 1024;

/// The same, compressed: stored raw, it takes some bytes for each 128 KiB.
pub const MAX_SPARSE_WINDOW_FRAME: u32 = 4 * 1024 * 1024 + 64 * 1024;

/// One compressed window of gzip: 32 KiB stored raw plus a frame header.
pub const MAX_WINDOW_FRAME: u32 = 40 * 1024;
