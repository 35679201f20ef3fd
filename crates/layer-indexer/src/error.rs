//! Why a layer has no index.

use std::io;

use layer_index::BuildError;
use serde::{Deserialize, Serialize};

/// Variants by what the caller would do.
#[derive(Debug, thiserror::Error)]
pub enum IndexerError {
    /// The bytes are not those that the manifest promises: a damaged or a lying source.
    #[error("{what} digest is {found}, not {expected}")]
    Digest {
        what: &'static str,
        expected: String,
        found: String,
    },
    /// The stream does not decompress.
    #[error("layer does not decompress: {0}")]
    Stream(String),
    /// The archive is damaged, or one that readers understand differently.
    #[error("layer is not an archive that can be used: {0}")]
    Archive(String),
    /// A bound that no honest layer reaches.
    #[error("layer exceeds a limit: {0}")]
    Limit(String),
    /// Our own disk: the index or the cache file.
    #[error("cannot write while indexing: {0}")]
    Write(String),
    /// The source of the compressed bytes.
    #[error("cannot read layer: {0}")]
    Read(#[source] io::Error),
    /// The child process ended without a result.
    #[error("indexing process failed: {0}")]
    Process(String),
}

impl From<BuildError> for IndexerError {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Limit(_) => Self::Limit(error.to_string()),
            BuildError::Invalid(_) => Self::Archive(error.to_string()),
            BuildError::Compress(_) | BuildError::Write(_) => Self::Write(error.to_string()),
        }
    }
}

/// An error on its way out of the child.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct WireError {
    kind: WireKind,
    message: String,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum WireKind {
    Stream,
    Archive,
    Limit,
    Write,
    Process,
}

/// Messages cross a process boundary and end on a terminal.
const MESSAGE_MAX_CHARS: usize = 500;

impl From<IndexerError> for WireError {
    fn from(error: IndexerError) -> Self {
        let (kind, message) = match error {
            IndexerError::Stream(message) => (WireKind::Stream, message),
            IndexerError::Archive(message) => (WireKind::Archive, message),
            IndexerError::Limit(message) => (WireKind::Limit, message),
            IndexerError::Write(message) => (WireKind::Write, message),
            other => (WireKind::Process, other.to_string()),
        };
        Self {
            kind,
            message: message.chars().take(MESSAGE_MAX_CHARS).collect(),
        }
    }
}

impl From<WireError> for IndexerError {
    fn from(error: WireError) -> Self {
        let message = error.message.chars().take(MESSAGE_MAX_CHARS).collect();
        match error.kind {
            WireKind::Stream => Self::Stream(message),
            WireKind::Archive => Self::Archive(message),
            WireKind::Limit => Self::Limit(message),
            WireKind::Write => Self::Write(message),
            WireKind::Process => Self::Process(message),
        }
    }
}
