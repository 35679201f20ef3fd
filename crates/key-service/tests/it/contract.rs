//! What a vault does with a root key in any service.

use credential::ExposeSecret;
use ids::WorkspaceId;
use vault::{Vault, VaultError};

use crate::support::{Stage, name, put};

async fn opened(vault: &Vault, workspace: WorkspaceId) -> Result<String, VaultError> {
    let opened = vault.open_secret(workspace, &name(), None, "t").await?;
    Ok(opened.plaintext.expose_secret().to_owned())
}

/// Two keys, whatever keeps them: what is sealed under one opens again and nowhere else, rows do
/// not stand for each other, and a rotation goes from one to the other.
pub(crate) async fn check(stage: &Stage, source: &str, other: &str) {
    let (one, two) = (WorkspaceId::new(), WorkspaceId::new());
    let vault = stage.open(source).await.expect("a new vault");
    put(&vault, one, "first").await;
    put(&vault, two, "second").await;
    vault.close().await;

    let vault = stage.open(source).await.expect("the vault");
    assert_eq!(opened(&vault, one).await.expect("opens"), "first");
    assert!(vault.verify(None).await.expect("verified").is_sound());
    vault.close().await;
    let error = stage.open(other).await.expect_err("another key");
    assert!(matches!(error, VaultError::RootKeyWrong { .. }), "{error}");

    stage.swap_keys(one, two).await;
    let vault = stage.open(source).await.expect("the vault");
    for workspace in [one, two] {
        let error = opened(&vault, workspace).await.expect_err("swapped");
        let is_right = matches!(error, VaultError::WorkspaceKeyDamaged { .. });
        assert!(is_right, "{error}");
    }
    vault.close().await;
    stage.swap_keys(one, two).await;

    let vault = stage.open_with(source, Some(other)).await.expect("both");
    let rotation = vault.rotate_root_key(None, "t").await.expect("rotated");
    assert_eq!(rotation.workspaces, 2);
    let error = vault.rotate_root_key(None, "t").await.expect_err("done");
    assert!(matches!(error, VaultError::RootKeySame { .. }), "{error}");
    vault.close().await;
    let error = stage.open(source).await.expect_err("the old key");
    assert!(matches!(error, VaultError::RootKeyWrong { .. }), "{error}");
    let vault = stage.open(other).await.expect("the new key");
    assert_eq!(opened(&vault, two).await.expect("opens"), "second");
    assert!(vault.verify(None).await.expect("verified").is_sound());
}
