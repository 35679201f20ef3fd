//! Rotating the root key, and every point at which that can be cut short.

use credential::ExposeSecret;
use vault::{Vault, VaultError};

use crate::support::{Setting, Stage, name, put, with_each_setting};

with_each_setting!(
    a_new_root_key_opens_the_same_secrets,
    the_old_key_is_kept_where_asked,
    a_rotation_killed_before_its_commit_is_undone,
    a_rotation_killed_after_its_commit_is_finished,
);

async fn check_opens(stage: &Stage, vault: &Vault) {
    let opened = vault
        .open_secret(stage.workspace, &name("a"), None, "t")
        .await
        .unwrap();
    assert_eq!(opened.plaintext.expose_secret(), "one");
    let report = vault.verify(None).await.unwrap();
    assert!(report.is_sound(), "{report:?}");
}

async fn a_new_root_key_opens_the_same_secrets(setting: Setting) {
    let stage = Stage::with(setting).await;
    stage.put("a", "one").await;
    put(&stage.vault, ids::WorkspaceId::new(), "b", "two")
        .await
        .unwrap();
    let before = std::fs::read(stage.key_file()).unwrap();
    let bystander = stage.again().await.unwrap();
    let rotation = stage.vault.rotate_root_key(None, "t").await.unwrap();
    assert_eq!(rotation.workspaces, 2);
    assert_ne!(rotation.old_key_id, rotation.new_key_id);
    assert_ne!(std::fs::read(stage.key_file()).unwrap(), before);
    check_opens(&stage, &stage.vault).await;
    // One that was open before and has not unwrapped the key yet finds the new root key.
    check_opens(&stage, &bystander).await;
    check_opens(&stage, &stage.again().await.unwrap()).await;
    put(&bystander, ids::WorkspaceId::new(), "c", "three")
        .await
        .unwrap();
    let names = std::fs::read_dir(stage.directory.path().join("etc")).unwrap();
    assert_eq!(names.count(), 1, "no other key is left");

    std::fs::write(stage.key_file(), before).unwrap();
    let error = stage.again().await.unwrap_err();
    assert!(matches!(error, VaultError::RootKeyWrong { .. }), "{error}");
}

async fn the_old_key_is_kept_where_asked(setting: Setting) {
    let stage = Stage::with(setting).await;
    stage.put("a", "one").await;
    let before = std::fs::read(stage.key_file()).unwrap();
    let kept = stage.directory.path().join("etc/old.key");
    let rotation = stage.vault.rotate_root_key(Some(&kept), "t").await.unwrap();
    assert_eq!(rotation.kept.as_ref(), Some(&kept));
    assert_eq!(std::fs::read(&kept).unwrap(), before);
    let error = stage
        .vault
        .rotate_root_key(Some(&kept), "t")
        .await
        .unwrap_err();
    assert!(matches!(error, VaultError::Exists { .. }), "{error}");
    check_opens(&stage, &stage.vault).await;
}

/// Killed after the new key was written and before the commit: the old key counts.
async fn a_rotation_killed_before_its_commit_is_undone(setting: Setting) {
    let stage = Stage::with(setting).await;
    stage.put("a", "one").await;
    let other = Stage::new().await;
    let next = stage.directory.path().join("etc/root.key.next");
    std::fs::copy(other.key_file(), &next).unwrap();
    let again = stage.again().await.unwrap();
    assert!(!next.exists());
    check_opens(&stage, &again).await;
    again.rotate_root_key(None, "t").await.unwrap();
    check_opens(&stage, &again).await;
}

/// Killed after the commit and before the rename: the next key counts.
async fn a_rotation_killed_after_its_commit_is_finished(setting: Setting) {
    let stage = Stage::with(setting).await;
    stage.put("a", "one").await;
    let key = stage.key_file();
    let old = std::fs::read(&key).unwrap();
    stage.vault.rotate_root_key(None, "t").await.unwrap();
    let new = std::fs::read(&key).unwrap();
    let next = stage.directory.path().join("etc/root.key.next");
    std::fs::rename(&key, &next).unwrap();
    let mode = std::fs::metadata(&next).unwrap().permissions();
    std::fs::write(&key, old).unwrap();
    std::fs::set_permissions(&key, mode).unwrap();
    // A process that was open all along reads both names.
    check_opens(&stage, &stage.vault).await;
    let again = stage.again().await.unwrap();
    assert!(!next.exists());
    assert_eq!(std::fs::read(&key).unwrap(), new);
    check_opens(&stage, &again).await;
}
