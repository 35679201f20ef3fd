//! What can go wrong between a name and an indexed image.

use image_store::StoreError;
use layer_indexer::IndexerError;
use registry_client::RegistryError;

/// Variants by what the caller would do.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The registry's answer; it says itself whether to retry, fix a credential or a name.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The image's own documents contradict each other or exceed a limit.
    #[error("image {image}: {problem}")]
    Malformed { image: String, problem: String },
    /// More than any honest image has; refused before it is recorded or mounted.
    #[error("image {image}: {problem}")]
    TooLarge { image: String, problem: String },
    /// The layer could not be read to its end and checked.
    #[error("layer {layer}: {source}")]
    Layer { layer: String, source: IndexerError },
    /// Our own disk.
    #[error("image store: {0}")]
    Store(#[from] StoreError),
    /// The span cache's disk, or its limit.
    #[error("span cache: {0}")]
    Cache(#[from] image_fs::CacheError),
    #[error("there is no cache to keep an image in")]
    NoCache,
    /// Something else took from the cache what was to be kept.
    #[error("image {image} is not whole in the cache: {missing} of {spans} spans are missing")]
    NotWhole {
        image: String,
        missing: u64,
        spans: u64,
    },
}
