//! Shredding a workspace: its rows open nowhere any more, and other workspaces are as they were.

use credential::ExposeSecret;
use ids::WorkspaceId;
use vault::{LeaseRequest, Vault, VaultError};

use crate::support::{READER, Setting, Stage, name, put, renewal, with_each_setting};

with_each_setting!(
    a_shredded_workspace_opens_nowhere,
    damaged_workspaces_are_shredded,
);

async fn value(vault: &Vault, workspace: WorkspaceId) -> Result<String, VaultError> {
    let opened = vault.open_secret(workspace, &name("a"), None, "t").await?;
    Ok(opened.plaintext.expose_secret().to_owned())
}

/// What had been there is put back from a copy, but for the key's row: it does not open.
async fn a_shredded_workspace_opens_nowhere(setting: Setting) {
    let stage = Stage::with(setting).await;
    let sealed = stage.put("a", "one").await;
    stage.put("b", "two").await;
    let other = WorkspaceId::new();
    put(&stage.vault, other, "a", "theirs").await.unwrap();
    let request = LeaseRequest {
        workspace: stage.workspace,
        sealed,
        image: "ghcr.io/x",
        repository: "ghcr.io/acme/app",
        reader: READER,
    };
    let lease = stage.vault.begin_lease(request).await.unwrap();
    let bystander = stage.again().await.unwrap();
    assert_eq!(value(&bystander, stage.workspace).await.unwrap(), "one");
    let wrapped = "SELECT wrapped FROM workspace_key WHERE workspace = ";
    let wrapped = format!("{wrapped}'{}'", stage.workspace);
    let old_key = stage.blob(&wrapped).await;
    stage
        .sql(
            "CREATE TABLE copy AS SELECT * FROM secret_version;
             CREATE TABLE heads AS SELECT * FROM secret",
        )
        .await;

    let removed = stage
        .vault
        .shred(stage.workspace, "team", "t")
        .await
        .unwrap();
    assert_eq!(removed.len(), 2);
    let error = stage
        .vault
        .renew_lease(lease, renewal(1, 1))
        .await
        .unwrap_err();
    assert!(matches!(error, VaultError::LeaseEnded { .. }), "{error}");
    for vault in [&stage.vault, &bystander, &stage.again().await.unwrap()] {
        let error = value(vault, stage.workspace).await.unwrap_err();
        assert!(matches!(error, VaultError::NotFound { .. }), "{error}");
        assert_eq!(value(vault, other).await.unwrap(), "theirs");
    }
    let rows = stage.vault.audit_tail(20).await.unwrap();
    let row = rows.iter().find(|row| row.action == "shred").unwrap();
    assert_eq!(
        (row.subject.as_str(), row.detail.as_str()),
        ("team", "2 secrets")
    );
    let report = stage.vault.verify(None).await.unwrap();
    assert!(report.is_sound(), "{report:?}");
    for (path, bytes) in crate::support::files(stage.directory.path()) {
        let found = crate::support::contains(&bytes, &old_key);
        assert!(!found, "the old key is in {}", path.display());
    }

    // What is sealed from now on is under the new key, also by who knew the old one.
    put(&bystander, stage.workspace, "a", "anew").await.unwrap();
    for vault in [&stage.vault, &bystander, &stage.again().await.unwrap()] {
        assert_eq!(value(vault, stage.workspace).await.unwrap(), "anew");
    }
    check_rows_do_not_open(&stage).await;
}

/// The rows as they were copied, in their place again.
async fn check_rows_do_not_open(stage: &Stage) {
    stage
        .sql(
            "UPDATE secret_version SET sealed = (SELECT sealed FROM copy
                 WHERE copy.secret_id = secret_version.secret_id AND copy.version = 1)
             WHERE sealed IS NULL;
             UPDATE secret SET removed_at = NULL, head_mac =
                 (SELECT head_mac FROM heads WHERE heads.secret_id = secret.secret_id)
             WHERE name = 'b'",
        )
        .await;
    let opened = stage.open("b", None).await.unwrap_err();
    let damage = vault::Damage::WrongKey;
    assert!(
        matches!(opened, VaultError::Damaged { damage: found, .. } if found == damage),
        "{opened}"
    );
}

async fn damaged_workspaces_are_shredded(setting: Setting) {
    let stage = Stage::with(setting).await;
    stage.put("a", "one").await;
    stage
        .sql(
            "UPDATE workspace_key SET wrapped = zeroblob(61);
             UPDATE secret_version SET sealed = zeroblob(1)",
        )
        .await;
    let again = stage.again().await.unwrap();
    again.shred(stage.workspace, "team", "t").await.unwrap();
    let report = again.verify(None).await.unwrap();
    assert!(report.is_sound(), "{report:?}");
    again.rotate_root_key(None, "t").await.unwrap();
    let never = WorkspaceId::new();
    assert!(again.shred(never, "empty", "t").await.unwrap().is_empty());
    put(&again, never, "a", "first").await.unwrap();
    assert_eq!(value(&again, never).await.unwrap(), "first");
}
