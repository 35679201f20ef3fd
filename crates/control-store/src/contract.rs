//! What every control store must do. Each implementation runs this against an empty one.

mod containers;
mod functions;
mod images;
mod tasks;
mod tokens;
mod workspaces;

use std::sync::Arc;

use ids::{WorkspaceId, WorkspaceName};

use crate::store::ControlStore;

pub(crate) async fn check(store: Arc<dyn ControlStore>) {
    workspaces::workspaces_are_made_once(&store).await;
    let ours = workspace(&*store, "ours").await;
    let theirs = workspace(&*store, "theirs").await;
    workspaces::what_follows_a_removal_is_a_workspaces_own(&*store, ours, theirs).await;
    workspaces::how_long_a_proof_counts_is_a_workspaces_own(&*store, ours, theirs).await;
    workspaces::settings_belong_to_a_workspace(&*store, ours, theirs).await;
    workspaces::shares_are_of_one_secret(&*store, ours, theirs).await;
    images::publications_are_seen_by_their_workspace(&*store, ours, theirs).await;
    images::names_move_and_images_stay(&*store, ours).await;
    images::an_image_is_read_from_where_it_was_proven_last(&*store, ours).await;
    images::images_are_bounded(&*store, ours).await;
    images::older_proofs_do_not_replace_newer(&*store, ours).await;
    images::a_refusal_stands_until_the_next_proof(&*store, ours, theirs).await;
    images::grants_go_with_their_secret(&*store, ours, theirs).await;
    tokens::tokens_are_found_by_their_hash_alone(&*store, ours, theirs).await;
    tokens::tokens_are_switched_off_by_their_workspace(&*store, ours, theirs).await;
    functions::objects_are_found_through_their_workspace(&*store, ours, theirs).await;
    functions::objects_have_names_of_their_workspace(&*store, ours, theirs).await;
    functions::another_definition_is_another_stub(&*store, ours, theirs).await;
    tasks::a_task_goes_from_acceptance_to_its_end(&*store, ours, theirs).await;
    tasks::a_call_that_is_sent_again_is_the_same_call(&*store, ours).await;
    tasks::a_call_that_has_ended_is_recorded_at_once(&*store, ours).await;
    tasks::what_is_asked_again_is_answered_again(&*store, ours, theirs).await;
    tasks::attempts_begin_when_they_may(&*store, ours).await;
    tasks::of_many_at_once_one_has_its_way(&store, ours).await;
    tasks::one_that_fails_costs_the_others_nothing(&store, ours).await;
    tasks::tasks_are_listed_newest_first(&*store, ours, theirs).await;
    tasks::tasks_that_ended_are_forgotten(&*store, theirs).await;
    tasks::payloads_are_bounded(&*store, ours).await;
    containers::a_container_belongs_to_one_delivery(&*store, ours, theirs).await;
    containers::a_token_lets_one_worker_join(&*store).await;
    containers::workers_are_known_by_their_key(&*store).await;
}

async fn workspace(store: &dyn ControlStore, name: &str) -> WorkspaceId {
    let name = WorkspaceName::parse(name).unwrap();
    let proposed = WorkspaceId::new();
    let made = store.ensure_workspace(&name, proposed).await.unwrap();
    assert_eq!((made.id, &made.name), (proposed, &name));
    made.id
}
