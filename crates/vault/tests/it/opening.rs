//! Opening: the root key, its file, and who may make it.

use std::os::unix::fs::PermissionsExt;

use vault::{Vault, VaultError, VaultPlace};

use crate::support::{
    Engine, Setting, Stage, database, key_file, on_each_engine, with_each_setting,
};

on_each_engine!(
    a_vault_that_lost_its_own_row_is_refused,
    an_audit_key_of_another_vault_is_refused,
);

with_each_setting!(
    sealed_rows_without_their_key_are_refused,
    a_key_open_to_others_is_refused_with_the_fix,
    the_key_is_not_made_in_the_data_directory,
    vaults_made_at_once_share_the_key_that_was_first,
);

async fn reopen(stage: &Stage) -> VaultError {
    stage.again().await.unwrap_err()
}

async fn sealed_rows_without_their_key_are_refused(setting: Setting) {
    let stage = Stage::with(setting).await;
    stage.put("a", "one").await;
    let key = std::fs::read(stage.key_file()).unwrap();
    std::fs::remove_file(stage.key_file()).unwrap();
    let error = reopen(&stage).await;
    assert!(
        matches!(error, VaultError::RootKeyMissing { .. }),
        "{error}"
    );
    assert!(!stage.key_file().exists(), "no new key");
    assert!(
        error.hint().unwrap().contains("put the key back"),
        "{error}"
    );

    std::fs::copy(Stage::new().await.key_file(), stage.key_file()).unwrap();
    let error = reopen(&stage).await;
    assert!(matches!(error, VaultError::RootKeyWrong { .. }), "{error}");

    std::fs::write(stage.key_file(), "not a key").unwrap();
    let error = reopen(&stage).await;
    assert!(
        matches!(error, VaultError::RootKeyMalformed { .. }),
        "{error}"
    );

    std::fs::write(stage.key_file(), key).unwrap();
    stage.again().await.unwrap();
}

async fn a_key_open_to_others_is_refused_with_the_fix(setting: Setting) {
    let stage = Stage::with(setting).await;
    let path = stage.key_file();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = reopen(&stage).await;
    assert_eq!(
        error.hint(),
        Some(format!("run `chmod 600 {}`", path.display()))
    );
    assert_eq!(error.kind(), "root_key");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    stage.again().await.unwrap();
}

async fn a_vault_that_lost_its_own_row_is_refused(engine: Engine) {
    let stage = Stage::on(engine).await;
    stage.put("a", "one").await;
    stage.sql("DELETE FROM vault").await;
    let error = reopen(&stage).await;
    assert!(matches!(error, VaultError::NotAVault { .. }), "{error}");
}

async fn an_audit_key_of_another_vault_is_refused(engine: Engine) {
    let stage = Stage::on(engine).await;
    stage.sql("UPDATE vault SET audit_key = zeroblob(61)").await;
    let error = reopen(&stage).await;
    assert!(matches!(error, VaultError::AuditDamaged { .. }), "{error}");
}

async fn the_key_is_not_made_in_the_data_directory(setting: Setting) {
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("data", directory.path().join("link")).unwrap();
    for key in [
        "data/root.key",
        "data/keys/root.key",
        "data/../data/root.key",
        "other/../data/other/root.key",
        "link/more/root.key",
    ] {
        let file = directory.path().join(key);
        let place = VaultPlace {
            root_key: setting.root_key(&file),
            ..setting.place(directory.path())
        };
        let error = Vault::open(place).await.unwrap_err();
        assert!(
            matches!(error, VaultError::RootKeyUnsafe { .. }),
            "{key}: {error}"
        );
        assert!(!file.exists());
    }
    Vault::open(setting.place(directory.path())).await.unwrap();
}

#[tokio::test]
async fn files_are_for_their_owner_alone() {
    let stage = Stage::new().await;
    stage.put("a", "one").await;
    let mut seen = 0;
    for (path, _) in crate::support::files(stage.directory.path()) {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 5, "database, log, index, lock and key: {seen}");
}

#[tokio::test]
async fn what_is_not_a_vault_is_refused() {
    for setting in [Setting::HERE, Setting::KEEPER] {
        check_no_vault_is_refused(setting).await;
    }
}

async fn check_no_vault_is_refused(setting: Setting) {
    let directory = tempfile::tempdir().unwrap();
    let database = database(directory.path());
    std::fs::create_dir_all(database.parent().unwrap()).unwrap();
    std::fs::write(
        &database,
        "not a database, and longer than the header of one is",
    )
    .unwrap();
    let error = Vault::open(setting.place(directory.path()))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), "storage");
    let key = key_file(directory.path());
    assert!(!key.exists(), "no key for what is not a vault");
}

/// Two data directories that are made at once beside one key path.
async fn vaults_made_at_once_share_the_key_that_was_first(setting: Setting) {
    let directory = tempfile::tempdir().unwrap();
    let opens = (0..6).map(|number| {
        let place = VaultPlace {
            root_key: setting.root_key(&key_file(directory.path())),
            ..setting.place(&directory.path().join(format!("{number}")))
        };
        tokio::spawn(async move { Vault::open(place).await.map(|_| ()) })
    });
    for open in opens.collect::<Vec<_>>() {
        open.await.unwrap().unwrap();
    }
    let names = std::fs::read_dir(directory.path().join("etc")).unwrap();
    assert_eq!(names.count(), 1);
}
