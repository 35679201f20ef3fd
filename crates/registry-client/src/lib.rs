//! The registry's side of Holdfast: the OCI distribution protocol, read-only.
//!
//! Owns challenges, manifests, blobs, ranges, redirects and retries. Asks an
//! [`AuthSource`](credential::auth::AuthSource) at the moment of use and never holds a stored
//! secret. Invariants: what an `AuthSource` gives goes to the registry's own origin (scheme, host
//! and port) and nowhere else; a challenge counts only when the registry itself sent it; every
//! manifest and every whole blob is checked against its digest; `urls` of a descriptor are never
//! dialled; text from a registry is bounded and escaped before it is part of an error. Ranges of a
//! blob have no digest of their own: who asks for a range verifies it.

mod blob;
mod body;
pub mod challenge;
mod client;
mod document;
mod endpoint;
mod error;
mod exchange;
mod flows;
mod follow;
#[doc(hidden)]
pub mod fuzzing;
mod location;
mod manifest;
mod media_type;
mod opening;
mod platform;
mod pull_limit;
mod refusal;
mod retry;
mod session;
mod stats;
mod verify;

pub use blob::BlobStream;
pub use challenge::Challenge;
pub use client::{Ping, RegistryClient};
pub use endpoint::Endpoint;
pub use error::RegistryError;
pub use flows::{BlobParts, Flows, Part};
pub use manifest::{Descriptor, ManifestHead, PinnedManifest};
pub use platform::Platform;
pub use pull_limit::PullLimit;
pub use retry::RetryPolicy;
pub use stats::ClientStats;
