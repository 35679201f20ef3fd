//! From an image name to something that can be mounted: resolve, check, index, publish.
//!
//! The command line and the gateway both come through here. Resolving always asks the registry
//! with the caller's own credential, which is what proves that the caller may use the image;
//! knowing a digest proves nothing. Layers without an index are streamed once through the
//! confined indexer, which fills the span cache in the same pass. Nothing is published before the
//! digests of the whole layer are right.
//!
//! This crate holds no credential and opens no secret: it is handed a [`RegistryClient`] that asks
//! its own auth source.
//!
//! [`RegistryClient`]: registry_client::RegistryClient

mod error;
mod index;
mod keep;
mod pinned;
mod progress;

pub use error::ImageError;
pub use index::{Fill, Indexing, LayerReport};
pub use keep::{Filled, manifest_pinned_as, names_pinned};
pub use pinned::{PinnedImage, PinnedLayer, diff_ids, resolve};
pub use progress::Progress;
