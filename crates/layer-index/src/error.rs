//! The ways in which an index or a layer read through one can be wrong.

use thiserror::Error;

/// An index that cannot be used. Every variant means: build it again.
#[derive(Debug, Error)]
pub enum IndexError {
    #[error("layer index is not in a format that is known here: {0}")]
    Format(&'static str),
    #[error("layer index is corrupted: {0}")]
    Corrupt(&'static str),
    #[error("layer index does not match its digest: {0}")]
    Digest(&'static str),
    #[error("layer index exceeds a limit: {0}")]
    Limit(&'static str),
    #[error("cannot read layer index")]
    Io(#[from] std::io::Error),
}

/// Compressed bytes that do not decode to what the index says.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// The bytes of the layer are not those that were indexed: fetch them again.
    #[error("span {span} of the layer does not match its digest")]
    Mismatch { span: usize },
    #[error("compressed bytes of span {span} do not decode: {reason}")]
    Undecodable { span: usize, reason: String },
    #[error("compressed bytes end inside span {span}")]
    Truncated { span: usize },
    #[error("no such span: {span}")]
    NoSuchSpan { span: usize },
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The receiver of the decoded bytes gave up.
    #[error("cannot store decoded span")]
    Sink(#[source] std::io::Error),
}

/// An entry, span or checkpoint that the format cannot hold, or layers that do not fit together.
#[derive(Debug, Error)]
pub enum BuildError {
    #[error("layer cannot be indexed: {0}")]
    Limit(&'static str),
    #[error("layer cannot be indexed: {0}")]
    Invalid(&'static str),
    #[error("cannot compress layer index")]
    Compress(#[source] std::io::Error),
    #[error("cannot write layer index")]
    Write(#[source] std::io::Error),
}
