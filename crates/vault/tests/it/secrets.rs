//! Sealing, opening, listing, removing.

use credential::ExposeSecret;
use ids::WorkspaceId;
use jiff::Timestamp;
use vault::{CheckedState, NewSecret, Put, SecretState, VaultError};

use crate::support::{Engine, Stage, name, on_each_engine, put, secret};

on_each_engine!(
    what_is_sealed_opens,
    what_is_the_same_is_not_sealed_again,
    what_is_not_there_is_said_to_be_so,
    workspaces_do_not_see_each_other,
    removed_secrets_are_erased_and_remembered,
    states_are_of_a_version,
    what_is_too_long_is_refused,
);

async fn what_is_sealed_opens(engine: Engine) {
    let stage = Stage::on(engine).await;
    let first = stage.put("a", "one").await;
    let second = stage.put("a", "two").await;
    assert_eq!((first.version, second.version), (1, 2));
    assert_eq!(first.secret_id, second.secret_id);
    let opened = stage.open("a", None).await.unwrap();
    assert_eq!(
        (opened.version, opened.plaintext.expose_secret()),
        (2, "two")
    );
    assert_eq!(
        (opened.kind.as_str(), opened.scope.as_str()),
        ("basic", "ghcr.io")
    );
    let current = stage
        .vault
        .current_version(stage.workspace, &name("a"))
        .await
        .unwrap();
    assert_eq!(current, Some(second));

    let again = stage.again().await.unwrap();
    let opened = again
        .open_secret(stage.workspace, &name("a"), None, "t")
        .await
        .unwrap();
    assert_eq!(opened.plaintext.expose_secret(), "two");
}

async fn what_is_the_same_is_not_sealed_again(engine: Engine) {
    let stage = Stage::on(engine).await;
    let table = [
        ("basic", "ghcr.io", "one", 1),
        ("basic", "ghcr.io", "one", 1),
        ("basic", "ghcr.io", "two", 2),
        ("basic", "ghcr.io", "two and more", 3),
        ("token", "ghcr.io", "two and more", 4),
        ("token", "ghcr.io/acme", "two and more", 5),
        ("token", "ghcr.io/acme", "two and more", 5),
    ];
    let mut last = 0;
    for (kind, scope, value, version) in table {
        let (name, plaintext) = (name("a"), secret(value));
        let new = NewSecret {
            name: &name,
            kind,
            scope,
            plaintext: &plaintext,
            in_clear: None,
        };
        let put = stage.vault.put_if_changed(stage.workspace, new, "t").await;
        let put = put.unwrap();
        assert_eq!(put.sealed().version, version, "{kind} {scope} {value}");
        assert_eq!(matches!(put, Put::New(_)), version != last, "{put:?}");
        last = version;
        let rows = stage.vault.audit_tail(100).await.unwrap();
        let sealed = rows.iter().filter(|row| row.action == "seal").count();
        assert_eq!(u32::try_from(sealed).unwrap(), version, "{rows:?}");
        assert!(rows.iter().all(|row| row.action != "open"), "{rows:?}");
    }
}

async fn what_is_not_there_is_said_to_be_so(engine: Engine) {
    let stage = Stage::on(engine).await;
    stage.put("a", "one").await;
    stage.put("a", "two").await;
    let error = stage.open("b", None).await.unwrap_err();
    assert!(matches!(error, VaultError::NotFound { .. }), "{error}");
    let error = stage.open("a", Some(3)).await.unwrap_err();
    assert!(
        matches!(error, VaultError::NoVersion { version: 3, .. }),
        "{error}"
    );
    let error = stage.open("a", Some(0)).await.unwrap_err();
    assert!(
        matches!(error, VaultError::NoVersion { version: 0, .. }),
        "{error}"
    );
    let error = stage.open("a", Some(1)).await.unwrap_err();
    assert!(
        matches!(error, VaultError::Retired { version: 1, .. }),
        "{error}"
    );
    let other = WorkspaceId::new();
    let error = stage
        .vault
        .open_secret(other, &name("a"), None, "t")
        .await
        .unwrap_err();
    assert!(matches!(error, VaultError::NotFound { .. }), "{error}");
    assert_eq!(
        stage
            .vault
            .current_version(other, &name("a"))
            .await
            .unwrap(),
        None
    );
}

async fn workspaces_do_not_see_each_other(engine: Engine) {
    let stage = Stage::on(engine).await;
    let other = WorkspaceId::new();
    stage.put("a", "ours").await;
    put(&stage.vault, other, "a", "theirs").await.unwrap();
    let opened = stage.open("a", None).await.unwrap();
    assert_eq!(
        (opened.version, opened.plaintext.expose_secret()),
        (1, "ours")
    );
    assert_eq!(stage.vault.list(other).await.unwrap().len(), 1);
    stage.vault.remove(other, &name("a"), "t").await.unwrap();
    assert!(stage.vault.list(other).await.unwrap().is_empty());
    assert_eq!(stage.vault.list(stage.workspace).await.unwrap().len(), 1);
    assert_eq!(stage.vault.workspaces().await.unwrap().len(), 2);
}

async fn removed_secrets_are_erased_and_remembered(engine: Engine) {
    let stage = Stage::on(engine).await;
    let first = stage.put("a", "one").await;
    let removed = stage
        .vault
        .remove(stage.workspace, &name("a"), "t")
        .await
        .unwrap();
    assert_eq!(removed, first);
    let error = stage.open("a", None).await.unwrap_err();
    assert!(matches!(error, VaultError::NotFound { .. }), "{error}");
    let error = stage
        .vault
        .remove(stage.workspace, &name("a"), "t")
        .await
        .unwrap_err();
    assert!(matches!(error, VaultError::NotFound { .. }), "{error}");

    let second = stage.put("a", "two").await;
    assert_ne!(second.secret_id, first.secret_id, "another secret");
    let history = stage
        .vault
        .history(stage.workspace, &name("a"))
        .await
        .unwrap();
    let shown: Vec<_> = history
        .iter()
        .map(|row| {
            (
                row.secret_id,
                row.version,
                row.current,
                row.removed_at.is_some(),
            )
        })
        .collect();
    let expected = [
        (second.secret_id, 1, true, false),
        (first.secret_id, 1, false, true),
    ];
    assert_eq!(shown, expected);
    assert!(stage.vault.verify(None).await.unwrap().is_sound());
}

async fn states_are_of_a_version(engine: Engine) {
    let stage = Stage::on(engine).await;
    let sealed = stage.put("a", "one").await;
    let listed = stage.vault.list(stage.workspace).await.unwrap();
    assert_eq!(listed[0].state.state, SecretState::Unknown);
    let not_after = Timestamp::from_second(1_800_000_000).unwrap();
    let state = CheckedState {
        state: SecretState::Ok,
        proven: Some("repository".to_owned()),
        rung: Some("repository bearer".to_owned()),
        realm: Some("auth.example".to_owned()),
        not_after: Some(not_after),
    };
    stage.vault.set_state(sealed, &state).await.unwrap();
    let row = stage.vault.list(stage.workspace).await.unwrap().remove(0);
    assert_eq!(row.state.state, SecretState::Ok);
    assert_eq!(row.state.proven.as_deref(), Some("repository"));
    assert_eq!(row.state.rung.as_deref(), Some("repository bearer"));
    assert_eq!(row.state.realm.as_deref(), Some("auth.example"));
    assert_eq!(row.state.not_after, Some(not_after));
    assert!(row.state.checked_at.is_some());
    stage.put("a", "two").await;
    let row = stage.vault.list(stage.workspace).await.unwrap().remove(0);
    assert_eq!((row.version, row.state.state), (2, SecretState::Unknown));
}

async fn what_is_too_long_is_refused(engine: Engine) {
    let stage = Stage::on(engine).await;
    let long = "x".repeat(512 * 1024);
    let plaintext = secret(&long);
    let short = secret("x");
    let table = [
        ("basic", "r", &plaintext),
        ("basic", &long, &short),
        (&long, "r", &short),
    ];
    for (kind, scope, plaintext) in table {
        let new = NewSecret {
            name: &name("a"),
            kind,
            scope,
            plaintext,
            in_clear: None,
        };
        let error = stage
            .vault
            .put(stage.workspace, new, "t")
            .await
            .unwrap_err();
        assert!(matches!(error, VaultError::TooLong { .. }), "{error}");
        assert_eq!(error.kind(), "bad_input");
    }
    assert!(stage.vault.list(stage.workspace).await.unwrap().is_empty());
}
