//! What a workspace is called in a cloud. Made of its id, which nobody chooses and which no later
//! workspace of the same name gets.

use ids::WorkspaceId;

/// The subject of a workspace's tokens.
pub fn subject(workspace: WorkspaceId) -> String {
    format!("workspace:{workspace}")
}

/// The external id to demand in a role that is taken on with keys for this workspace.
pub fn external_id(workspace: WorkspaceId) -> String {
    format!("holdfast:{workspace}")
}
