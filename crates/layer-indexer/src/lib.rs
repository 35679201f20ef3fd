//! A layer's compressed bytes in, its index and its decoded bytes out, in one pass.
//!
//! The pass runs in a child process that is fed through a pipe: hostile bytes are decoded and
//! parsed where there is no network, no key, no credential and no environment. [`index_layer`] is
//! the pass itself, [`child`] the process around it, [`IndexerProcess`] the parent's side. The
//! parent hashes what it feeds and compares both digests; nothing of a layer that does not match
//! is published, which is the caller's part.
//!
//! Archives are read as containerd reads them: what Go's reader would refuse is refused, and so is
//! what other readers would read differently. Nothing here unpacks.

mod attributes;
pub mod child;
mod chunk;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod hasher;
mod header;
mod member;
mod pass;
mod pax;
mod process;
mod scan;
mod sparse_windows;
mod stream;
mod zstd_checkpoints;
mod zstd_stream;

pub use child::Finished;
pub use error::IndexerError;
pub use pass::{Files, Indexed, Limits, index_bytes, index_layer};
pub use process::{CacheFile, IndexerProcess, Outputs, Patience};

#[cfg(test)]
mod tests;
