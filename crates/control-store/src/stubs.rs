//! Stubs: functions as they were defined. A stub never changes; another definition is another
//! stub.

use ids::{ObjectId, StubId, WorkspaceId};
use jiff::Timestamp;
use reference::Digest;

use crate::store::StoreFuture;

/// All that decides how a function runs. Names secrets and holds none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    pub image: Digest,
    /// The code, as an archive; absent where the image has it.
    pub code: Option<ObjectId>,
    /// `module:attribute`
    pub handler: String,
    /// The interpreter's name in the image.
    pub python: String,
    pub cpu_millicores: u32,
    pub memory_bytes: u64,
    /// How long one attempt may take.
    pub timeout_ms: u64,
    /// Attempts beyond the first.
    pub retries: u32,
    /// Calls that one container takes at a time.
    pub concurrency: u32,
    /// How long a container without calls is kept.
    pub keep_warm_ms: u64,
    pub max_containers: u32,
    /// Calls that may wait.
    pub max_pending: u32,
    /// Plain variables, by name.
    pub environment: Vec<(String, String)>,
    /// Names of the workspace's secrets that become variables.
    pub secrets: Vec<String>,
}

/// A function of a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stub {
    pub id: StubId,
    pub workspace: WorkspaceId,
    pub name: String,
    pub definition: Definition,
    pub created_at: Timestamp,
}

/// Where stubs are kept.
pub trait StubRecords {
    /// The stub of this name and definition, made under a new id when the workspace has none.
    fn ensure_stub<'a>(
        &'a self,
        workspace: WorkspaceId,
        name: &'a str,
        definition: &'a Definition,
    ) -> StoreFuture<'a, Stub>;

    /// A stub of this workspace.
    fn stub(&self, workspace: WorkspaceId, id: StubId) -> StoreFuture<'_, Option<Stub>>;

    /// The stubs of a workspace, newest first.
    fn stubs(&self, workspace: WorkspaceId) -> StoreFuture<'_, Vec<Stub>>;
}
