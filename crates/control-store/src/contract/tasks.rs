//! Tasks: one outcome each, whoever comes late.

use std::sync::Arc;

use ids::{ContainerId, StubId, TaskId, WorkspaceId};
use jiff::{SignedDuration, Timestamp};

use super::functions::stub;
use crate::store::{ControlStore, Durability};
use crate::tasks::{
    Accepted, AfterAttempt, NewTask, PayloadFormat, Task, TaskEnd, TaskFilter, TaskOutcome,
    TaskState,
};

fn in_seconds(seconds: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(seconds)
}

fn task(stub: StubId) -> NewTask {
    NewTask {
        id: TaskId::new(),
        stub,
        key: None,
        format: PayloadFormat::Pickle,
        python: Some("3.11".to_owned()),
        is_headless: true,
        input: b"\x80\x04input".to_vec(),
        retries: 1,
        expires_at: in_seconds(3600),
        container: None,
    }
}

/// Accepts what was not there.
async fn accept(store: &dyn ControlStore, workspace: WorkspaceId, new: &NewTask) -> Task {
    match store
        .accept_task(workspace, new.clone(), Durability::Disk)
        .await
        .unwrap()
    {
        Accepted::New(task) => task,
        Accepted::Before(task) => panic!("{} was there", task.id),
    }
}

fn end(outcome: TaskOutcome) -> TaskEnd {
    TaskEnd {
        outcome,
        payload: Some(b"\0result".to_vec()),
        failure: None,
    }
}

fn every(limit: u32) -> TaskFilter {
    TaskFilter {
        stub: None,
        state: None,
        before: None,
        limit,
    }
}

pub(super) async fn a_task_goes_from_acceptance_to_its_end(
    store: &dyn ControlStore,
    ours: WorkspaceId,
    theirs: WorkspaceId,
) {
    let new = task(stub(store, ours, "tasks").await.id);
    let accepted = accept(store, ours, &new).await;
    assert_eq!((accepted.state, accepted.attempts), (TaskState::Pending, 0));
    assert_eq!(store.task(ours, new.id).await.unwrap(), Some(accepted));
    assert_eq!(store.task(theirs, new.id).await.unwrap(), None);
    let input = store.task_input(new.id).await.unwrap();
    assert_eq!(input.as_ref(), Some(&new.input));
    assert_eq!(store.task_end(ours, new.id).await.unwrap(), None);

    let containers = [ContainerId::new(), ContainerId::new()];
    let begun = store.begin_attempt(new.id, containers[0]).await.unwrap();
    assert_eq!(begun, Some(1));
    let begun = store.begin_attempt(new.id, containers[1]).await.unwrap();
    assert_eq!(begun, None, "it runs");
    let again = AfterAttempt::TryAgain {
        outcome: TaskOutcome::Died,
        available_at: Timestamp::now(),
    };
    assert!(store.end_attempt(new.id, 1, again.clone()).await.unwrap());
    let begun = store.begin_attempt(new.id, containers[1]).await.unwrap();
    assert_eq!(begun, Some(2));
    assert!(!store.end_attempt(new.id, 1, again).await.unwrap(), "late");
    let returned = AfterAttempt::End(end(TaskOutcome::Returned));
    assert!(
        store
            .end_attempt(new.id, 2, returned.clone())
            .await
            .unwrap()
    );
    assert!(!store.end_attempt(new.id, 2, returned).await.unwrap());
    let cancelled = end(TaskOutcome::Cancelled);
    assert!(!store.finish_task(new.id, cancelled).await.unwrap());

    let ended = store.task(ours, new.id).await.unwrap().unwrap();
    assert_eq!(ended.state, TaskState::Ended);
    assert_eq!(ended.outcome, Some(TaskOutcome::Returned));
    assert_eq!(ended.container, Some(containers[1]));
    let kept = store.task_end(ours, new.id).await.unwrap();
    assert_eq!(kept, Some(end(TaskOutcome::Returned)));
    assert_eq!(store.task_end(theirs, new.id).await.unwrap(), None);
    assert_eq!(store.task_input(new.id).await.unwrap(), None, "not needed");
    let attempts = store.attempts(ours, new.id).await.unwrap();
    let told: Vec<_> = attempts
        .iter()
        .map(|attempt| (attempt.number, attempt.container, attempt.outcome))
        .collect();
    assert_eq!(
        told,
        [
            (1, containers[0], TaskOutcome::Died),
            (2, containers[1], TaskOutcome::Returned)
        ]
    );
    assert_eq!(store.attempts(theirs, new.id).await.unwrap(), []);
}

pub(super) async fn a_call_that_is_sent_again_is_the_same_call(
    store: &dyn ControlStore,
    ours: WorkspaceId,
) {
    let keyed = |stub| NewTask {
        key: Some([7; 16]),
        ..task(stub)
    };
    let first = keyed(stub(store, ours, "tasks").await.id);
    let accepted = accept(store, ours, &first).await;
    let cancelled = end(TaskOutcome::Cancelled);
    assert!(store.finish_task(first.id, cancelled).await.unwrap());
    let ended = store.task(ours, first.id).await.unwrap().unwrap();
    let again = store
        .accept_task(ours, keyed(first.stub), Durability::Disk)
        .await
        .unwrap();
    assert_eq!(again, Accepted::Before(ended), "also when it has ended");
    assert_eq!(accepted.python.as_deref(), Some("3.11"));
    assert!(accepted.is_headless);

    let of_another = keyed(stub(store, ours, "other tasks").await.id);
    accept(store, ours, &of_another).await;
    let cancelled = end(TaskOutcome::Cancelled);
    assert!(store.finish_task(of_another.id, cancelled).await.unwrap());
}

pub(super) async fn a_call_that_has_ended_is_recorded_at_once(
    store: &dyn ControlStore,
    ours: WorkspaceId,
) {
    let new = NewTask {
        key: Some([9; 16]),
        container: Some(ContainerId::new()),
        ..task(stub(store, ours, "tasks").await.id)
    };
    let of_key = store.task_of_key(new.stub, [9; 16]).await.unwrap();
    assert_eq!(of_key, None);
    let returned = end(TaskOutcome::Returned);
    let recorded = store.record_call(ours, new.clone(), returned.clone()).await;
    assert!(matches!(recorded.unwrap(), Accepted::New(task) if task.id == new.id));
    let ended = store.task(ours, new.id).await.unwrap().unwrap();
    assert_eq!((ended.state, ended.attempts), (TaskState::Ended, 1));
    let kept = store.task_end(ours, new.id).await.unwrap();
    assert_eq!(kept, Some(returned.clone()));
    let attempts = store.attempts(ours, new.id).await.unwrap();
    assert_eq!(attempts[0].outcome, TaskOutcome::Returned);
    let of_key = store.task_of_key(new.stub, [9; 16]).await.unwrap();
    assert_eq!(of_key, Some(ended.clone()));
    let other = NewTask {
        id: TaskId::new(),
        ..new
    };
    let again = store.record_call(ours, other, returned).await.unwrap();
    assert_eq!(again, Accepted::Before(ended));
}

/// Who has heard no answer asks again, and what was done stays as it was.
pub(super) async fn what_is_asked_again_is_answered_again(
    store: &dyn ControlStore,
    ours: WorkspaceId,
    theirs: WorkspaceId,
) {
    let new = task(stub(store, ours, "tasks").await.id);
    let accepted = accept(store, ours, &new).await;
    later_than(accepted.created_at).await;
    assert_eq!(accept(store, ours, &new).await, accepted);
    let taken = NewTask {
        stub: stub(store, theirs, "tasks").await.id,
        ..new.clone()
    };
    let taken = store.accept_task(theirs, taken, Durability::Disk).await;
    assert!(taken.is_err(), "{taken:?}");

    let container = ContainerId::new();
    for _ in 0..2 {
        let begun = store.begin_attempt(new.id, container).await.unwrap();
        assert_eq!(begun, Some(1));
    }
    let returned = end(TaskOutcome::Returned);
    let over = AfterAttempt::End(returned.clone());
    assert!(store.end_attempt(new.id, 1, over).await.unwrap());
    let begun = store.begin_attempt(new.id, container).await.unwrap();
    assert_eq!(begun, None, "it has ended");
    accept(store, ours, &new).await;
    assert_eq!(store.task_input(new.id).await.unwrap(), None, "not needed");

    let call = NewTask {
        id: TaskId::new(),
        key: Some([8; 16]),
        container: Some(container),
        ..new
    };
    let record = async |end: TaskEnd| store.record_call(ours, call.clone(), end).await.unwrap();
    let first = record(returned.clone()).await;
    let (Accepted::New(recorded) | Accepted::Before(recorded)) = &first;
    later_than(recorded.created_at).await;
    assert_eq!(record(end(TaskOutcome::Died)).await, first);
    let kept = store.task_end(ours, call.id).await.unwrap();
    assert_eq!(kept, Some(returned));
    assert_eq!(store.attempts(ours, call.id).await.unwrap().len(), 1);
}

/// Times are kept in milliseconds.
async fn later_than(time: Timestamp) {
    while Timestamp::now() < time + SignedDuration::from_millis(2) {
        tokio::task::yield_now().await;
    }
}

pub(super) async fn attempts_begin_when_they_may(store: &dyn ControlStore, ours: WorkspaceId) {
    let stub = stub(store, ours, "tasks").await.id;
    let container = ContainerId::new();
    let expired = NewTask {
        expires_at: in_seconds(-1),
        ..task(stub)
    };
    accept(store, ours, &expired).await;
    let begun = store.begin_attempt(expired.id, container).await.unwrap();
    assert_eq!(begun, None, "too late");
    let over = end(TaskOutcome::Expired);
    assert!(store.finish_task(expired.id, over).await.unwrap());

    let waiting = task(stub);
    accept(store, ours, &waiting).await;
    store.begin_attempt(waiting.id, container).await.unwrap();
    let later = AfterAttempt::TryAgain {
        outcome: TaskOutcome::Raised,
        available_at: in_seconds(60),
    };
    assert!(store.end_attempt(waiting.id, 1, later).await.unwrap());
    let begun = store.begin_attempt(waiting.id, container).await.unwrap();
    assert_eq!(begun, None, "too early");
    let cancelled = TaskEnd {
        failure: Some("{\0}".to_owned()),
        ..end(TaskOutcome::Cancelled)
    };
    assert!(store.finish_task(waiting.id, cancelled).await.unwrap());
    let kept = store.task_end(ours, waiting.id).await.unwrap().unwrap();
    assert_eq!(kept.failure.as_deref(), Some("{\u{fffd}}"));
    let unknown = store.begin_attempt(TaskId::new(), container).await.unwrap();
    assert_eq!(unknown, None);

    let warm = NewTask {
        container: Some(container),
        ..task(stub)
    };
    let accepted = accept(store, ours, &warm).await;
    assert_eq!((accepted.state, accepted.attempts), (TaskState::Running, 1));
    assert!(accepted.started_at.is_some());
    let cancelled = end(TaskOutcome::Cancelled);
    assert!(store.finish_task(warm.id, cancelled).await.unwrap());
    let attempts = store.attempts(ours, warm.id).await.unwrap();
    assert_eq!(attempts.len(), 1, "the one that ran");
    assert_eq!(attempts[0].outcome, TaskOutcome::Cancelled);
}

/// Whatever happens at the same time, a task has one outcome, and each attempt one beginning.
pub(super) async fn of_many_at_once_one_has_its_way(
    store: &Arc<dyn ControlStore>,
    ours: WorkspaceId,
) {
    let new = task(stub(&**store, ours, "tasks").await.id);
    accept(&**store, ours, &new).await;
    let beginning = (0..8).map(|_| {
        let store = Arc::clone(store);
        tokio::spawn(async move { store.begin_attempt(new.id, ContainerId::new()).await })
    });
    let mut begun = Vec::new();
    for beginning in beginning.collect::<Vec<_>>() {
        begun.extend(beginning.await.unwrap().unwrap());
    }
    assert_eq!(begun, [1]);
    let ending = TaskOutcome::ALL.map(|outcome| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            let ended = if outcome == TaskOutcome::Cancelled {
                store.finish_task(new.id, end(outcome)).await
            } else {
                let then = AfterAttempt::End(end(outcome));
                store.end_attempt(new.id, 1, then).await
            };
            ended.unwrap().then_some(outcome)
        })
    });
    let mut outcomes = Vec::new();
    for ending in ending {
        outcomes.extend(ending.await.unwrap());
    }
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    let kept = store.task_end(ours, new.id).await.unwrap();
    assert_eq!(kept, Some(end(outcomes[0])));
}

/// Whoever shares a transaction with a task that cannot be does not notice.
pub(super) async fn one_that_fails_costs_the_others_nothing(
    store: &Arc<dyn ControlStore>,
    ours: WorkspaceId,
) {
    let stub = stub(&**store, ours, "tasks").await.id;
    let accepting = (0..60).map(|number| {
        let is_known = number % 3 > 0;
        let new = task(if is_known { stub } else { StubId::new() });
        let store = Arc::clone(store);
        tokio::spawn(async move {
            let accepted = store.accept_task(ours, new.clone(), Durability::Disk).await;
            assert_eq!(accepted.is_ok(), is_known, "{accepted:?}");
            let found = store.task(ours, new.id).await.unwrap();
            let accepted = accepted.ok().map(|accepted| match accepted {
                Accepted::New(task) | Accepted::Before(task) => task,
            });
            assert_eq!(found, accepted);
            if is_known {
                let cancelled = end(TaskOutcome::Cancelled);
                assert!(store.finish_task(new.id, cancelled).await.unwrap());
            }
        })
    });
    for accepting in accepting.collect::<Vec<_>>() {
        accepting.await.unwrap();
    }
}

pub(super) async fn tasks_are_listed_newest_first(
    store: &dyn ControlStore,
    ours: WorkspaceId,
    theirs: WorkspaceId,
) {
    let (one, other) = (
        stub(store, theirs, "one").await.id,
        stub(store, theirs, "other").await.id,
    );
    let mut made = Vec::new();
    for stub in [one, other, one] {
        let new = task(stub);
        accept(store, theirs, &new).await;
        made.push(new.id);
    }
    let ids = async |filter: &TaskFilter| {
        let listed = store.tasks(theirs, filter).await.unwrap();
        listed.iter().map(|task| task.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(&every(9)).await, [made[2], made[1], made[0]]);
    assert_eq!(ids(&every(1)).await, [made[2]]);
    let before = TaskFilter {
        before: Some(made[2]),
        ..every(9)
    };
    assert_eq!(ids(&before).await, [made[1], made[0]]);
    let of_stub = TaskFilter {
        stub: Some(other),
        ..every(9)
    };
    assert_eq!(ids(&of_stub).await, [made[1]]);
    let running = TaskFilter {
        state: Some(TaskState::Running),
        ..every(9)
    };
    assert_eq!(ids(&running).await, []);
    let ours = store.tasks(ours, &every(1000)).await.unwrap();
    assert!(ours.iter().all(|task| !made.contains(&task.id)));

    let open = store.open_tasks(None, 1000).await.unwrap();
    let open: Vec<_> = open.iter().map(|task| task.id).collect();
    assert_eq!(open, made, "what ended is not open");
    let rest = store.open_tasks(Some(made[0]), 1).await.unwrap();
    assert_eq!(rest[0].id, made[1]);
}

pub(super) async fn tasks_that_ended_are_forgotten(store: &dyn ControlStore, theirs: WorkspaceId) {
    let first = store.tasks(theirs, &every(1)).await.unwrap()[0].id;
    assert!(
        store
            .finish_task(first, end(TaskOutcome::Lost))
            .await
            .unwrap()
    );
    let long_ago = in_seconds(-3600);
    assert_eq!(store.forget_tasks(long_ago, 100).await.unwrap(), 0);
    while store.forget_tasks(in_seconds(1), 2).await.unwrap() > 0 {}
    assert_eq!(store.task(theirs, first).await.unwrap(), None);
    assert_eq!(store.task_end(theirs, first).await.unwrap(), None);
    assert_eq!(store.open_tasks(None, 1000).await.unwrap().len(), 2);
}

pub(super) async fn payloads_are_bounded(store: &dyn ControlStore, ours: WorkspaceId) {
    let stub = stub(store, ours, "tasks").await.id;
    let long = NewTask {
        input: vec![0; (32 << 20) + 1],
        ..task(stub)
    };
    store
        .accept_task(ours, long.clone(), Durability::Disk)
        .await
        .unwrap_err();
    assert_eq!(store.task(ours, long.id).await.unwrap(), None);
    let unknown = task(StubId::new());
    store
        .accept_task(ours, unknown, Durability::Disk)
        .await
        .unwrap_err();
}
