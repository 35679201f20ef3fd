//! One type per kind of entity, so that a secret's id cannot stand where a lease's is meant.
//!
//! The text form is a prefix, a dash and a `UUIDv7` in 32 lower-case hexadecimal digits, such as
//! `ctr-0198f3a2c4d87b61a5e0c3f49d2b7e10`: fit for file names, host names and OCI runtimes, and in
//! order of creation. A value read back has its own prefix and nothing looser than that form.
//! Workspaces also have a name that people type. Does not say what the entities are.

mod typed_id;
mod workspace_name;

pub use typed_id::{
    ContainerId, GrantId, LeaseId, ObjectId, ParseIdError, SecretId, StubId, TaskId, TokenId,
    WorkerId, WorkspaceId,
};
pub use workspace_name::{ParseWorkspaceNameError, WorkspaceName};
