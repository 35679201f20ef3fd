//! What becomes of containers whose credential is removed.

use std::time::Duration;

use broker::AfterRemoval;
use ids::WorkspaceId;

use crate::beta9::{Returning, Scene, rest};
use crate::support::Stage;
use crate::worker::FakeWorker;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

async fn scene() -> Scene {
    let stage = Stage::new().await;
    let worker = FakeWorker::attach(&stage).await;
    Scene::private(stage, worker).await
}

/// Removes the one credential, as another process would.
async fn log_out(scene: &Scene, then: impl Into<Option<AfterRemoval>>) -> String {
    let broker = &scene.stage.broker;
    let workspace: WorkspaceId = scene.stage.workspace("team").await;
    let scope = broker.list(workspace).await.unwrap().remove(0).scope;
    match then.into() {
        Some(then) => broker.logout_and(workspace, &scope, then).await,
        None => broker.logout(workspace, &scope).await,
    }
    .unwrap();
    scene.stage.gateway.call_off().await;
    scope.to_string()
}

async fn reply(scene: &Scene, words: &str) -> (i32, String) {
    let replies = scene.invoke(words, Returning::Never).await;
    let (printed, last) = tokio::time::timeout(PATIENCE, rest(replies)).await.unwrap();
    let result = String::from_utf8_lossy(&last.result).into_owned();
    (last.exit_code, format!("{printed}{result}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_goes_on_without_its_credential_unless_told_otherwise() {
    let scene = scene().await;
    assert_eq!(reply(&scene, "return 1").await, (0, "1".to_owned()));
    log_out(&scene, AfterRemoval::Continue).await;
    assert_eq!(reply(&scene, "return 2").await, (0, "2".to_owned()));
    assert_eq!(scene.worker.starts(), 1, "the same container");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_drains_finishes_its_call_and_gets_no_other() {
    let scene = scene().await;
    let waiting = scene.invoke("wait", Returning::Never).await;
    scene.worker.started().await;
    while scene.worker.calls() == 0 {
        tokio::task::yield_now().await;
    }
    log_out(&scene, AfterRemoval::Drain).await;
    let other = scene.invoke("return 2", Returning::Never).await;
    scene.worker.go_on();
    let (_, last) = tokio::time::timeout(PATIENCE, rest(waiting)).await.unwrap();
    assert_eq!(last.exit_code, 0, "{last:?}");
    let (printed, last) = tokio::time::timeout(PATIENCE, rest(other)).await.unwrap();
    assert_ne!(last.exit_code, 0, "{printed}");
    assert_eq!((scene.worker.starts(), scene.worker.calls()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_killed_tells_its_callers_why() {
    let scene = scene().await;
    let hanging = scene.invoke("wait", Returning::Never).await;
    scene.worker.started().await;
    while scene.worker.calls() == 0 {
        tokio::task::yield_now().await;
    }
    let scope = log_out(&scene, AfterRemoval::Kill).await;
    let (printed, last) = tokio::time::timeout(PATIENCE, rest(hanging)).await.unwrap();
    let why = format!("the credential for {scope} was removed");
    assert!(printed.contains(&why), "{printed}");
    assert_ne!(last.exit_code, 0);
    let (code, said) = reply(&scene, "return 2").await;
    assert_ne!(code, 0, "nothing starts any more: {said}");
    assert_eq!(scene.worker.starts(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_workspace_has_set_counts_where_logout_does_not_say() {
    for (then, other_starts) in [(None, false), (Some(AfterRemoval::Continue), true)] {
        let scene = scene().await;
        let (broker, ours) = (&scene.stage.broker, scene.stage.workspace("team").await);
        let theirs = scene.stage.workspace("other").await;
        broker
            .set_after_removal(ours, AfterRemoval::Kill, "t")
            .await
            .unwrap();
        assert_eq!(
            broker.after_removal(theirs).await.unwrap(),
            AfterRemoval::Continue
        );
        assert_eq!(reply(&scene, "return 1").await, (0, "1".to_owned()));
        log_out(&scene, then).await;
        let (code, said) = reply(&scene, "return 2").await;
        assert_eq!(code == 0, other_starts, "{then:?}: {said}");
        let rows = broker.vault().audit_tail(100).await.unwrap();
        let is_set = |row: &vault::AuditRow| row.action == "set" && row.detail == "kill";
        assert!(rows.iter().any(is_set), "{rows:?}");
    }
}
