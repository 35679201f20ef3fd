//! Objects and stubs.

use ids::{ObjectId, StubId, WorkspaceId};
use reference::Digest;

use crate::store::ControlStore;
use crate::stubs::{Definition, Stub};

pub(super) fn definition() -> Definition {
    Definition {
        image: Digest::sha256([1; 32]),
        code: None,
        handler: "app:function".to_owned(),
        python: "python3".to_owned(),
        cpu_millicores: 125,
        memory_bytes: 128 << 20,
        timeout_ms: 3_600_000,
        retries: 3,
        concurrency: 1,
        keep_warm_ms: 10_000,
        max_containers: 1,
        max_pending: 100,
        environment: vec![("MODE".to_owned(), "test".to_owned())],
        secrets: vec!["TOKEN".to_owned()],
    }
}

pub(super) async fn stub(store: &dyn ControlStore, workspace: WorkspaceId, name: &str) -> Stub {
    let made = store.ensure_stub(workspace, name, &definition()).await;
    made.unwrap()
}

pub(super) async fn objects_are_found_through_their_workspace(
    store: &dyn ControlStore,
    ours: WorkspaceId,
    theirs: WorkspaceId,
) {
    let digest = Digest::sha256([7; 32]);
    let object = store.ensure_object(ours, &digest, 1 << 40).await.unwrap();
    assert_eq!((&object.digest, object.size_bytes), (&digest, 1 << 40));
    let again = store.ensure_object(ours, &digest, 1 << 40).await.unwrap();
    assert_eq!(again, object);
    let of_theirs = store.ensure_object(theirs, &digest, 5).await.unwrap();
    assert_ne!(of_theirs.id, object.id);

    let found = store.object(ours, object.id).await.unwrap();
    assert_eq!(found.as_ref(), Some(&object));
    let found = store.object_of_digest(ours, &digest).await.unwrap();
    assert_eq!(found, Some(object.clone()));
    assert_eq!(store.object(theirs, object.id).await.unwrap(), None);
    assert_eq!(store.object(ours, ObjectId::new()).await.unwrap(), None);
    let other = Digest::sha256([8; 32]);
    assert_eq!(store.object_of_digest(ours, &other).await.unwrap(), None);
}

pub(super) async fn objects_have_names_of_their_workspace(
    store: &dyn ControlStore,
    ours: WorkspaceId,
    theirs: WorkspaceId,
) {
    let one = store.ensure_object(ours, &Digest::sha256([9; 32]), 1).await;
    let other = store
        .ensure_object(ours, &Digest::sha256([10; 32]), 2)
        .await;
    let (one, other) = (one.unwrap(), other.unwrap());
    let found = |workspace| async move { store.object_of_name(workspace, "n").await.unwrap() };
    assert_eq!(found(ours).await, None);
    for object in [one, other] {
        assert!(store.name_object(ours, "n", object.id).await.unwrap());
        assert_eq!(found(ours).await, Some(object.clone()));
        assert!(!store.name_object(theirs, "n", object.id).await.unwrap());
        assert_eq!(found(theirs).await, None);
    }
    assert!(!store.name_object(ours, "m", ObjectId::new()).await.unwrap());
    let long = "n".repeat(300);
    store
        .name_object(ours, &long, ObjectId::new())
        .await
        .unwrap_err();
}

pub(super) async fn another_definition_is_another_stub(
    store: &dyn ControlStore,
    ours: WorkspaceId,
    theirs: WorkspaceId,
) {
    let first = stub(store, ours, "function/app:function").await;
    assert_eq!(first.definition, definition());
    assert_eq!(stub(store, ours, "function/app:function").await, first);
    let renamed = stub(store, ours, "function/app:other").await;
    let changed = Definition {
        retries: 0,
        code: Some(ObjectId::new()),
        ..definition()
    };
    let changed = store
        .ensure_stub(ours, "function/app:function", &changed)
        .await
        .unwrap();
    let of_theirs = stub(store, theirs, "function/app:function").await;
    let ids = [first.id, renamed.id, changed.id, of_theirs.id];
    assert!((1..4).all(|at| !ids[..at].contains(&ids[at])), "{ids:?}");

    let found = store.stub(ours, changed.id).await.unwrap();
    assert_eq!(found.as_ref(), Some(&changed));
    assert_eq!(store.stub(theirs, first.id).await.unwrap(), None);
    assert_eq!(store.stub(ours, StubId::new()).await.unwrap(), None);
    let listed = store.stubs(ours).await.unwrap();
    assert_eq!(listed, [changed, renamed, first], "newest first");
    let long = Definition {
        environment: vec![("LONG".to_owned(), "x".repeat(4 << 20))],
        ..definition()
    };
    store.ensure_stub(ours, "long", &long).await.unwrap_err();
}
