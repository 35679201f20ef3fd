//! Decoding a gzip stream from the middle.
//!
//! A deflate stream can be entered at a block boundary by whoever knows three things: the byte
//! that holds the first bit of the block, how many of that byte's low bits belong to what came
//! before, and the 32 KiB of output before it, which the block may refer to. [`Inflate`] walks a
//! stream once and stops at block boundaries so that these can be recorded, and starts again from
//! any of them. Members of a concatenated stream follow each other; bytes after the last member
//! that are no further member are an error, as they are to Go's reader and so to containerd.
//!
//! This is the room for unsafe codec calls: they are in `codec` alone. Files, layers and indexes
//! are not known here, and nothing is checked but gzip's own checksums of whole members.

mod codec;
mod sparse;

pub use codec::{Inflate, InflateError, Place, Step};
pub use sparse::{Referenced, referenced};

/// How far back deflate can refer.
pub const WINDOW_SIZE: usize = 32 * 1024;

/// The output before a checkpoint. Bytes that are never referred to may be anything.
pub type Window = [u8; WINDOW_SIZE];

#[cfg(test)]
mod tests;
