//! What stands in the control store cannot send a credential elsewhere.

use control_store::RegistrySettings;
use credential::auth::AuthError;
use ids::WorkspaceName;
use registry_sim::{Authority, Login, Realm};

use crate::support::{PASSWORD, Stage, ask, image_at, sim};

#[tokio::test]
async fn changed_settings_refuse_the_credential() {
    let sim = sim(Login::Bearer(Realm::OtherName)).await;
    let stage = Stage::new().await;
    let mut login = crate::support::request(sim.host(), PASSWORD);
    login.settings.token_service = Some(sim.realm_host().to_owned());
    let sealed = login.settings.clone();
    stage.broker.login(stage.workspace, login).await.unwrap();
    let registry = sim.registry().read().credential_bytes;
    let realm = sim.realm().read().credential_bytes;
    let changes = [
        RegistrySettings {
            plain_http: true,
            ..sealed.clone()
        },
        RegistrySettings {
            token_service: Some("evil.example".to_owned()),
            ..sealed.clone()
        },
        RegistrySettings {
            ca_pem: Some(Authority::new().pem().as_bytes().to_vec()),
            ..sealed.clone()
        },
        RegistrySettings::default(),
        // Whoever writes there cannot have the password given to workers, nor taken from them.
        RegistrySettings {
            workers_may_hold_password: !sealed.workers_may_hold_password,
            ..sealed.clone()
        },
    ];
    let store = stage.broker.store();
    for settings in changes {
        store
            .put_settings(stage.workspace, sim.host(), &settings)
            .await
            .unwrap();
        let lease = stage.lease(&image_at(sim.host())).await;
        let error = ask(&lease).await.unwrap_err();
        assert!(
            matches!(error, AuthError::Refused { .. }),
            "{settings:?}: {error}"
        );
    }
    assert_eq!(sim.registry().read().credential_bytes, registry);
    assert_eq!(sim.realm().read().credential_bytes, realm);
    store
        .put_settings(stage.workspace, sim.host(), &sealed)
        .await
        .unwrap();
    ask(&stage.lease(&image_at(sim.host())).await)
        .await
        .unwrap();
}

/// The control store can be made anew from registries; the one workspace of the vault is found.
#[tokio::test]
async fn a_lost_control_store_does_not_lose_the_credentials() {
    let sim = sim(Login::Basic).await;
    let stage = Stage::new().await;
    stage.login(sim.host(), PASSWORD).await.unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let path = stage
            .directory
            .path()
            .join(format!("data/state.db{suffix}"));
        let _may_be_absent = std::fs::remove_file(path);
    }
    let again = stage.again().await;
    let workspace = again.workspace(&WorkspaceName::default()).await.unwrap();
    assert_eq!(workspace, stage.workspace);
    assert_eq!(again.list(workspace).await.unwrap().len(), 1);
}
