//! Bytes that workspaces uploaded: what is known of them. The bytes themselves are files.

use ids::{ObjectId, WorkspaceId};
use jiff::Timestamp;
use reference::Digest;

use crate::store::StoreFuture;

/// An uploaded object. Two workspaces that upload the same bytes have two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub id: ObjectId,
    pub workspace: WorkspaceId,
    pub digest: Digest,
    pub size_bytes: u64,
    pub created_at: Timestamp,
}

/// Where objects are kept track of.
pub trait ObjectRecords {
    /// The object with this content, made under a new id when the workspace has none.
    fn ensure_object<'a>(
        &'a self,
        workspace: WorkspaceId,
        digest: &'a Digest,
        size_bytes: u64,
    ) -> StoreFuture<'a, Object>;

    fn object(&self, workspace: WorkspaceId, id: ObjectId) -> StoreFuture<'_, Option<Object>>;

    /// The workspace's own object with this content.
    fn object_of_digest<'a>(
        &'a self,
        workspace: WorkspaceId,
        digest: &'a Digest,
    ) -> StoreFuture<'a, Option<Object>>;

    /// Gives an object of the workspace a name, which it takes from any other; answers whether
    /// there is such an object.
    fn name_object<'a>(
        &'a self,
        workspace: WorkspaceId,
        name: &'a str,
        object: ObjectId,
    ) -> StoreFuture<'a, bool>;

    /// The workspace's own object that was last given this name.
    fn object_of_name<'a>(
        &'a self,
        workspace: WorkspaceId,
        name: &'a str,
    ) -> StoreFuture<'a, Option<Object>>;
}
