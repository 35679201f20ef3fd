//! Why a filesystem could not be opened or a read failed, by what the caller would do.

use layer_index::MergeError;

/// An image that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("layers do not make a filesystem")]
    Merge(#[from] MergeError),
    #[error("an image filesystem needs a running tokio runtime")]
    NoRuntime,
}

/// A read that gave no bytes. Every variant is an I/O error to the program that reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("no such inode")]
    NoSuchInode,
    #[error("not a regular file")]
    NotAFile,
    /// The source did not answer, or refused, for all of the time that a read may wait.
    #[error("layer {layer} could not be read in time: {message}")]
    Deadline { layer: String, message: String },
    /// The source refuses for good.
    #[error("layer {layer} cannot be read: {message}")]
    Refused { layer: String, message: String },
    /// The source gives bytes that are not the layer's.
    #[error("layer {layer} is corrupt: {message}")]
    Corrupt { layer: String, message: String },
    #[error("reading layer {layer} failed: {message}")]
    Internal { layer: String, message: String },
}

/// Why not all of an image is in the cache.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WholeError {
    #[error("the cache, or its disk, has no room for all of it")]
    NoRoom,
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("a fetch was abandoned")]
    Abandoned,
}
