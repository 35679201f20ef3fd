//! Lists of calls, and calls that are stopped.

use std::collections::BTreeMap;

use beta9_protocol::gateway::{
    ListTasksRequest, ListTasksResponse, StopTasksRequest, StringList, Task,
};
use control_store::TokenScope;
use ids::TaskId;

use super::calls::{Returning, Scene, announced, hanging, rest};
use super::client::Beta9;

/// Keys with their values.
type Filters<'a> = &'a [(&'a str, &'a [&'a str])];

impl Beta9 {
    async fn list_tasks(&self, filters: Filters<'_>, limit: u32) -> ListTasksResponse {
        let filters = filters.iter().map(|(key, values)| {
            let values = values.iter().map(|value| (*value).to_owned()).collect();
            ((*key).to_owned(), StringList { values })
        });
        let filters: BTreeMap<_, _> = filters.collect();
        let request = self.ask(ListTasksRequest { filters, limit });
        self.gateway()
            .list_tasks(request)
            .await
            .unwrap()
            .into_inner()
    }

    async fn tasks(&self, filters: Filters<'_>) -> Vec<Task> {
        let reply = self.list_tasks(filters, 100).await;
        assert!(reply.ok, "{}", reply.err_msg);
        assert_eq!(usize::try_from(reply.total), Ok(reply.tasks.len()));
        reply.tasks
    }

    async fn stop_tasks(&self, ids: &[&str]) -> Result<(), String> {
        let request = self.ask(StopTasksRequest {
            task_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        });
        let reply = self
            .gateway()
            .stop_tasks(request)
            .await
            .unwrap()
            .into_inner();
        if reply.ok { Ok(()) } else { Err(reply.err_msg) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_listed_by_what_the_client_asks_for() {
    let scene = Scene::new().await;
    let beta9 = &scene.beta9;
    let mut ended = Vec::new();
    for words in ["return x", "raise"] {
        let mut replies = scene.invoke(words, Returning::Possible).await;
        ended.push(announced(&mut replies).await);
        rest(replies).await;
    }
    let mut replies = scene.invoke("hang", Returning::Possible).await;
    let third = announced(&mut replies).await;
    let all = beta9.tasks(&[]).await;
    let ids: Vec<_> = all.iter().map(|task| &task.id).collect();
    assert_eq!(ids, [&third, &ended[1], &ended[0]], "newest first");
    let (last, first) = (&all[0], &all[2]);
    assert_eq!(
        (&*first.status, &*first.stub_name),
        ("COMPLETE", "function/app:f")
    );
    assert_eq!(
        (&*first.workspace_name, &first.stub_id),
        ("team", &scene.stub_id)
    );
    assert!(first.started_at.unwrap().seconds > 0 && first.ended_at.unwrap().seconds > 0);
    assert!(
        last.ended_at.unwrap().seconds < 0,
        "the client shows nothing"
    );
    let (prefixed, container) = (
        format!("task-{}", third.replace('-', "")),
        &first.container_id,
    );
    let nobody = TaskId::new().uuid().to_string();
    let table: [(Filters<'_>, &[&String]); 11] = [
        (&[("status", &["complete"])], &[&ended[0]]),
        (
            &[("status", &["ERROR", "COMPLETE"])],
            &[&ended[1], &ended[0]],
        ),
        (&[("status", &["RETRY"])], &[]),
        (&[("id", &[&ended[1]])], &[&ended[1]]),
        (&[("id", &[&prefixed])], &[&third]),
        (&[("id", &[&nobody])], &[]),
        (&[("id", &[&ended[1]]), ("status", &["COMPLETE"])], &[]),
        (
            &[("stub-name", &["app:f"]), ("status", &["ERROR"])],
            &[&ended[1]],
        ),
        (
            &[("stub-name", &["function/app:f"]), ("status", &["ERROR"])],
            &[&ended[1]],
        ),
        (&[("stub-name", &["app:g"])], &[]),
        (
            &[
                ("stub-id", &[&scene.stub_id]),
                ("container-id", &[container]),
                ("status", &["COMPLETE"]),
            ],
            &[&ended[0]],
        ),
    ];
    for (filters, expected) in table {
        let found = beta9.tasks(filters).await;
        let found: Vec<_> = found.iter().map(|task| &task.id).collect();
        assert_eq!(found, expected, "{filters:?}");
    }
    assert_eq!(beta9.list_tasks(&[], 1).await.tasks.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_is_not_known_is_refused() {
    let scene = Scene::new().await;
    let table: [(Filters<'_>, u32, &str); 5] = [
        (
            &[("name", &["f"])],
            0,
            "no such filter: \"name\"\nthere are id, status, ",
        ),
        (
            &[("status", &["done"])],
            0,
            "no such status\nthere are COMPLETE, ",
        ),
        (&[("id", &[""])], 1, "no task has such an id"),
        (&[("stub-id", &["7"])], 0, "no stub has such an id"),
        (&[], 1001, "limit is 1 to 1000"),
    ];
    for (filters, limit, text) in table {
        let reply = scene.beta9.list_tasks(filters, limit).await;
        assert!(!reply.ok && reply.err_msg.starts_with(text), "{reply:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_stopped_and_what_is_not_known_is_told() {
    let scene = Scene::new().await;
    let mut replies = scene.invoke("hang", Returning::Possible).await;
    let task = announced(&mut replies).await;
    hanging(&mut replies).await;
    let theirs = scene.stage.caller("theirs", &TokenScope::ALL).await;
    let theirs = Beta9::of(&scene.stage, &theirs);
    assert_eq!(theirs.tasks(&[]).await, []);
    let text = theirs.stop_tasks(&[&task]).await.unwrap_err();
    assert_eq!(text, format!("no task {task:?} in this workspace"));
    let nobody = TaskId::new().uuid().to_string();
    let text = scene
        .beta9
        .stop_tasks(&["7", &task, &nobody])
        .await
        .unwrap_err();
    assert_eq!(text, format!("no task \"7\", {nobody:?} in this workspace"));
    let (printed, last) = rest(replies).await;
    assert_eq!((last.exit_code, &*printed), (3, "the call was cancelled\n"));
    scene.beta9.stop_tasks(&[&task]).await.unwrap();
    let status = &scene.beta9.tasks(&[("id", &[&task])]).await[0].status;
    assert_eq!(status, "CANCELLED");
}
