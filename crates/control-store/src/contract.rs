//! What every control store must do. Each implementation runs this against an empty one.

mod images;
mod workspaces;

use std::sync::Arc;

use ids::{WorkspaceId, WorkspaceName};

use crate::store::ControlStore;

pub(crate) async fn check(store: Arc<dyn ControlStore>) {
    workspaces::workspaces_are_made_once(&store).await;
    let ours = workspace(&*store, "ours").await;
    let theirs = workspace(&*store, "theirs").await;
    workspaces::settings_belong_to_a_workspace(&*store, ours, theirs).await;
    images::publications_are_seen_by_their_workspace(&*store, ours, theirs).await;
    images::names_move_and_images_stay(&*store, ours).await;
    images::older_proofs_do_not_replace_newer(&*store, ours).await;
    images::grants_go_with_their_secret(&*store, ours, theirs).await;
}

async fn workspace(store: &dyn ControlStore, name: &str) -> WorkspaceId {
    let name = WorkspaceName::parse(name).unwrap();
    let proposed = WorkspaceId::new();
    let made = store.ensure_workspace(&name, proposed).await.unwrap();
    assert_eq!((made.id, &made.name), (proposed, &name));
    made.id
}
