//! The seam between Holdfast and where it remembers.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

pub use database::Durability;

use crate::containers::ContainerRecords;
use crate::error::StoreError;
use crate::images::ImageRecords;
use crate::objects::ObjectRecords;
use crate::shares::ShareRecords;
use crate::stubs::StubRecords;
use crate::tasks::TaskRecords;
use crate::tokens::TokenRecords;
use crate::workers::WorkerRecords;
use crate::workspaces::WorkspaceRecords;

/// The answer of a store, to be awaited.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// All that one installation remembers. Texts in canonical form are so already: whoever calls has
/// parsed them.
pub trait ControlStore:
    WorkspaceRecords
    + ShareRecords
    + TokenRecords
    + ImageRecords
    + ObjectRecords
    + StubRecords
    + TaskRecords
    + ContainerRecords
    + WorkerRecords
    + Debug
    + Send
    + Sync
{
    /// Has all that was changed survive a power cut.
    fn sync(&self) -> StoreFuture<'_, ()>;
}
