//! How long work tells of itself. Callers draw bars, print lines or keep quiet.

use std::fmt::Debug;

/// Told of each layer's way through the indexer, from several tasks at once.
pub trait Progress: Debug + Send + Sync {
    /// So many layers will be read, of so many compressed bytes together. Comes first.
    fn begun(&self, layers: usize, compressed_bytes: u64);
    /// A layer is about to be read.
    fn layer_started(&self, layer: &str, compressed_bytes: u64);
    /// So many more compressed bytes of the layer were read.
    fn layer_advanced(&self, layer: &str, bytes: u64);
    /// The layer's index is published.
    fn layer_finished(&self, layer: &str);
}
