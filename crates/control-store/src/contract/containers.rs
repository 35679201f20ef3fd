//! Containers, their queue, and the workers that take them.

use ids::{ContainerId, WorkerId, WorkspaceId};
use jiff::{SignedDuration, Timestamp};

use super::functions::stub;
use crate::containers::{ContainerState, Delivery};
use crate::store::ControlStore;
use crate::workers::{Capacity, Joined, NewWorker};

fn in_seconds(seconds: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(seconds)
}

pub(super) async fn a_container_belongs_to_one_delivery(
    store: &dyn ControlStore,
    ours: WorkspaceId,
    theirs: WorkspaceId,
) {
    let stub = stub(store, ours, "containers").await.id;
    let id = ContainerId::new();
    let requested = store.request_container(ours, id, stub).await.unwrap();
    assert_eq!(requested.state, ContainerState::Requested);
    assert_eq!(store.container(ours, id).await.unwrap(), Some(requested));
    assert_eq!(store.container(theirs, id).await.unwrap(), None);

    let (one, other) = (WorkerId::new(), WorkerId::new());
    let own = store.place_container(id, one).await.unwrap().unwrap();
    assert_eq!((own.worker, own.number), (one, 1));
    assert_eq!(store.place_container(id, other).await.unwrap(), None);
    let anothers = Delivery {
        worker: other,
        ..own
    };
    let another = Delivery { number: 2, ..own };
    for wrong in [anothers, another] {
        assert!(!store.acknowledge_container(id, wrong).await.unwrap());
        let ended = store.end_container(id, Some(wrong), "not its own").await;
        assert!(!ended.unwrap(), "{wrong:?}");
    }
    assert!(!store.note_container_ready(id, own).await.unwrap());
    assert!(store.acknowledge_container(id, own).await.unwrap());
    assert!(!store.acknowledge_container(id, own).await.unwrap());
    assert!(store.note_container_ready(id, own).await.unwrap());
    let open = store.open_containers().await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!(
        (open[0].state, open[0].worker),
        (ContainerState::Ready, Some(one))
    );
    assert_eq!(store.containers(ours).await.unwrap(), open);
    assert_eq!(store.containers(theirs).await.unwrap(), []);

    assert!(store.end_container(id, Some(own), "idle\0").await.unwrap());
    assert!(!store.end_container(id, None, "again").await.unwrap());
    let ended = store.container(ours, id).await.unwrap().unwrap();
    assert_eq!(ended.reason.as_deref(), Some("idle\u{fffd}"));
    assert_eq!(store.open_containers().await.unwrap(), []);
    assert_eq!(store.forget_containers(in_seconds(-60)).await.unwrap(), 0);
    assert_eq!(store.forget_containers(in_seconds(1)).await.unwrap(), 1);
}

fn worker(name: &str, byte: u8) -> NewWorker {
    NewWorker {
        id: WorkerId::new(),
        name: name.to_owned(),
        key: [byte; 32],
        capacity: Capacity {
            cpu_millicores: 2000,
            memory_bytes: 24 << 30,
        },
    }
}

pub(super) async fn a_token_lets_one_worker_join(store: &dyn ControlStore) {
    let (token, over) = ([1; 32], [2; 32]);
    store.add_join_token(&over, in_seconds(-1)).await.unwrap();
    store.add_join_token(&token, in_seconds(60)).await.unwrap();
    let first = worker("node-1", 1);
    for refused in [over, [3; 32]] {
        let joined = store.join_worker(&refused, &first).await.unwrap();
        assert_eq!(joined, Joined::TokenRefused);
    }
    let Joined::Worker(joined) = store.join_worker(&token, &first).await.unwrap() else {
        panic!("the token was good");
    };
    assert_eq!((joined.id, &joined.name), (first.id, &first.name));
    let second = worker("node-2", 2);
    let again = store.join_worker(&token, &second).await.unwrap();
    assert_eq!(again, Joined::TokenRefused, "it was used");

    let (known, unknown) = (worker("node-1", 9), [3; 32]);
    let refused = store.join_worker(&unknown, &known).await.unwrap();
    assert_eq!(
        refused,
        Joined::TokenRefused,
        "without a token no name is told"
    );

    store.add_join_token(&token, in_seconds(60)).await.unwrap();
    for taken in [worker("node-1", 9), worker("node-9", 1)] {
        let refused = store.join_worker(&token, &taken).await.unwrap();
        assert_eq!(refused, Joined::NameTaken);
    }
    let joined = store.join_worker(&token, &second).await.unwrap();
    assert!(
        matches!(joined, Joined::Worker(_)),
        "the token was not lost"
    );
}

pub(super) async fn workers_are_known_by_their_key(store: &dyn ControlStore) {
    let workers = store.workers().await.unwrap();
    let [first, second] = &workers[..] else {
        panic!("{workers:?}");
    };
    let found = store.worker_of_key(&[1; 32]).await.unwrap();
    assert_eq!(found.as_ref(), Some(first));
    assert_eq!(store.worker_of_key(&[9; 32]).await.unwrap(), None);
    let (capacity, at) = (
        Capacity {
            cpu_millicores: 4000,
            memory_bytes: 1,
        },
        in_seconds(5),
    );
    store.note_worker(first.id, &capacity, at).await.unwrap();
    assert!(store.set_worker_draining(first.id, true).await.unwrap());
    let noted = store.worker_of_key(&[1; 32]).await.unwrap().unwrap();
    assert_eq!((noted.cpu_millicores, noted.memory_bytes), (4000, 1));
    assert!(noted.is_draining && noted.seen_at > first.seen_at);
    assert!(store.remove_worker(second.id).await.unwrap());
    assert!(!store.remove_worker(second.id).await.unwrap());
    assert!(!store.set_worker_draining(second.id, true).await.unwrap());
    assert_eq!(store.worker_of_key(&[2; 32]).await.unwrap(), None);
}
