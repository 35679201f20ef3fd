//! What Holdfast remembers beside its secrets: workspaces, settings of registries, images and the
//! right to run them.
//!
//! [`ControlStore`] is the seam: one machine keeps it in SQLite ([`SqliteStore`]), and every other
//! implementation must pass the same contract suite. Invariants: an image, its alias and its
//! grant appear in one transaction; a proof by an older version of a credential never replaces
//! one by a newer; what belongs to a workspace is only ever found through that workspace. Holds
//! no secret, sealed or not, and decides nothing.

#[cfg(test)]
mod contract;
mod database;
mod error;
mod images;
mod sqlite;
mod store;
mod workspaces;

pub use error::StoreError;
pub use images::{
    Grant, GrantOutcome, GrantProof, Image, ImageAlias, ImageLayer, ImageRecords, NewGrant,
    ProvenVersion, Publication,
};
pub use sqlite::SqliteStore;
pub use store::{ControlStore, StoreFuture};
pub use workspaces::{RegistrySettings, Workspace, WorkspaceRecords};
