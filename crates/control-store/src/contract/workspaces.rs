//! Workspaces and their settings.

use std::sync::Arc;

use ids::{WorkspaceId, WorkspaceName};

use crate::store::ControlStore;
use crate::workspaces::RegistrySettings;

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

pub(super) async fn settings_belong_to_a_workspace(
    store: &dyn ControlStore,
    ours: WorkspaceId,
    theirs: WorkspaceId,
) {
    let mut settings = RegistrySettings {
        plain_http: true,
        ca_pem: None,
        token_service: None,
    };
    store
        .put_settings(ours, "r.example", &settings)
        .await
        .unwrap();
    settings = RegistrySettings {
        plain_http: false,
        ca_pem: Some(b"pem".to_vec()),
        token_service: Some("auth.example".to_owned()),
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
