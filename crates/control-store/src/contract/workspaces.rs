//! Workspaces and their settings.

use std::sync::Arc;
use std::time::Duration;

use ids::{SecretId, WorkspaceId, WorkspaceName};

use crate::shares::{Recipient, Share};
use crate::store::ControlStore;
use crate::workspaces::{RegistrySettings, Workspace};

pub(super) async fn workspaces_are_made_once(store: &Arc<dyn ControlStore>) {
    let name = WorkspaceName::default();
    let tasks = (0..8).map(|_| {
        let (store, name) = (Arc::clone(store), name.clone());
        tokio::spawn(async move { store.ensure_workspace(&name, WorkspaceId::new()).await })
    });
    let mut made = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        made.push(task.await.unwrap().unwrap());
    }
    assert!(made.windows(2).all(|pair| pair[0] == pair[1]), "{made:?}");
    assert_eq!(store.workspaces().await.unwrap(), made[..1]);
}

async fn found(store: &dyn ControlStore, id: WorkspaceId) -> Workspace {
    let all = store.workspaces().await.unwrap();
    all.into_iter()
        .find(|workspace| workspace.id == id)
        .unwrap()
}

pub(super) async fn what_follows_a_removal_is_a_workspaces_own(
    store: &dyn ControlStore,
    ours: WorkspaceId,
    theirs: WorkspaceId,
) {
    let of = async |id| found(store, id).await.after_removal;
    assert_eq!(of(ours).await, None);
    assert!(store.set_after_removal(ours, "kill").await.unwrap());
    assert!(store.set_after_removal(ours, "drain").await.unwrap());
    assert_eq!(of(ours).await.as_deref(), Some("drain"));
    assert_eq!(of(theirs).await, None);
    assert!(
        !store
            .set_after_removal(WorkspaceId::new(), "kill")
            .await
            .unwrap()
    );
    store.set_after_removal(ours, "nothing").await.unwrap_err();
    assert_eq!(of(ours).await.as_deref(), Some("drain"));
}

pub(super) async fn how_long_a_proof_counts_is_a_workspaces_own(
    store: &dyn ControlStore,
    ours: WorkspaceId,
    theirs: WorkspaceId,
) {
    let of = async |id| found(store, id).await.offline;
    assert_eq!(of(ours).await, None);
    for offline in [Duration::from_hours(5), Duration::ZERO] {
        assert!(store.set_offline(ours, offline).await.unwrap());
        assert_eq!(of(ours).await, Some(offline));
    }
    assert_eq!(of(theirs).await, None);
    let nobody = WorkspaceId::new();
    assert!(!store.set_offline(nobody, Duration::ZERO).await.unwrap());
}

pub(super) async fn settings_belong_to_a_workspace(
    store: &dyn ControlStore,
    ours: WorkspaceId,
    theirs: WorkspaceId,
) {
    let mut settings = RegistrySettings {
        plain_http: true,
        ca_pem: None,
        token_service: None,
        workers_may_hold_password: false,
    };
    store
        .put_settings(ours, "r.example", &settings)
        .await
        .unwrap();
    settings = RegistrySettings {
        plain_http: false,
        ca_pem: Some(b"pem".to_vec()),
        token_service: Some("auth.example".to_owned()),
        workers_may_hold_password: true,
    };
    store
        .put_settings(ours, "r.example", &settings)
        .await
        .unwrap();
    let expected = vec![("r.example".to_owned(), settings)];
    assert_eq!(store.settings(ours).await.unwrap(), expected);
    assert_eq!(store.settings(theirs).await.unwrap(), []);
    assert!(!store.remove_settings(theirs, "r.example").await.unwrap());
    assert!(store.remove_settings(ours, "r.example").await.unwrap());
    assert!(!store.remove_settings(ours, "r.example").await.unwrap());
    let settings = RegistrySettings {
        token_service: Some("a".repeat(4096)),
        ..RegistrySettings::default()
    };
    store
        .put_settings(ours, "r.example", &settings)
        .await
        .unwrap_err();
}

pub(super) async fn shares_are_of_one_secret(
    store: &dyn ControlStore,
    ours: WorkspaceId,
    theirs: WorkspaceId,
) {
    let share = |scope: &str, recipient| Share {
        scope: scope.to_owned(),
        recipient,
        secret_id: SecretId::new(),
    };
    let first = share("r.example", Recipient::Docker);
    let kubelets = share("r.example", Recipient::Kubelet);
    let second = share("r.example", Recipient::Docker);
    for share in [&first, &kubelets, &second] {
        store.put_share(ours, share).await.unwrap();
    }
    // In the place of the first.
    assert_eq!(
        store.shares(ours).await.unwrap(),
        [second, kubelets.clone()]
    );
    assert_eq!(store.shares(theirs).await.unwrap(), []);
    let remove = |of| store.remove_share(of, "r.example", Recipient::Docker);
    assert!(!remove(theirs).await.unwrap());
    assert!(remove(ours).await.unwrap());
    assert!(!remove(ours).await.unwrap());
    assert_eq!(store.shares(ours).await.unwrap(), [kubelets]);
}
