//! Opening: the root key, its file, and who may make it.

use std::os::unix::fs::PermissionsExt;

use vault::{Vault, VaultError, VaultPlace};

use crate::support::{Keeping, Stage, database, key_file, with_each_keeping};

with_each_keeping!(
    sealed_rows_without_their_key_are_refused,
    a_key_open_to_others_is_refused_with_the_fix,
    the_key_is_not_made_in_the_data_directory,
    what_is_not_a_vault_is_refused,
    vaults_made_at_once_share_the_key_that_was_first,
);

async fn reopen(stage: &Stage) -> VaultError {
    stage.again().await.unwrap_err()
}

async fn sealed_rows_without_their_key_are_refused(keeping: Keeping) {
    let stage = Stage::with(keeping).await;
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

async fn a_key_open_to_others_is_refused_with_the_fix(keeping: Keeping) {
    let stage = Stage::with(keeping).await;
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

#[tokio::test]
async fn a_vault_that_lost_its_own_row_is_refused() {
    let stage = Stage::new().await;
    stage.put("a", "one").await;
    stage.sql("DELETE FROM vault").await;
    let error = reopen(&stage).await;
    assert!(matches!(error, VaultError::NotAVault { .. }), "{error}");
}

#[tokio::test]
async fn an_audit_key_of_another_vault_is_refused() {
    let stage = Stage::new().await;
    stage.sql("UPDATE vault SET audit_key = zeroblob(61)").await;
    let error = reopen(&stage).await;
    assert!(matches!(error, VaultError::AuditDamaged { .. }), "{error}");
}

async fn the_key_is_not_made_in_the_data_directory(keeping: Keeping) {
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
            database: database(directory.path()),
            root_key: keeping.root_key(&file),
        };
        let error = Vault::open(place).await.unwrap_err();
        assert!(
            matches!(error, VaultError::RootKeyUnsafe { .. }),
            "{key}: {error}"
        );
        assert!(!file.exists());
    }
    Vault::open(keeping.place(directory.path())).await.unwrap();
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

async fn what_is_not_a_vault_is_refused(keeping: Keeping) {
    let directory = tempfile::tempdir().unwrap();
    let database = database(directory.path());
    std::fs::create_dir_all(database.parent().unwrap()).unwrap();
    std::fs::write(
        &database,
        "not a database, and longer than the header of one is",
    )
    .unwrap();
    let error = Vault::open(keeping.place(directory.path()))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), "storage");
    let key = key_file(directory.path());
    assert!(!key.exists(), "no key for what is not a vault");
}

/// Two data directories that are made at once beside one key path.
async fn vaults_made_at_once_share_the_key_that_was_first(keeping: Keeping) {
    let directory = tempfile::tempdir().unwrap();
    let opens = (0..6).map(|number| {
        let place = VaultPlace {
            database: directory.path().join(format!("data-{number}/vault.db")),
            root_key: keeping.root_key(&key_file(directory.path())),
        };
        tokio::spawn(async move { Vault::open(place).await.map(|_| ()) })
    });
    for open in opens.collect::<Vec<_>>() {
        open.await.unwrap().unwrap();
    }
    let names = std::fs::read_dir(directory.path().join("etc")).unwrap();
    assert_eq!(names.count(), 1);
}
