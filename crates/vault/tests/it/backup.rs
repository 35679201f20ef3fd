//! Backups: whole, sealed, without the key, and put back only where nothing is.

use credential::ExposeSecret;
use vault::{Vault, VaultError, VaultPlace};

use crate::support::{Keeping, Stage, contains, name, with_each_keeping};

with_each_keeping!(
    a_backup_opens_beside_the_key_it_names,
    what_cannot_be_restored_leaves_nothing,
);

fn elsewhere(stage: &Stage) -> VaultPlace {
    VaultPlace {
        database: stage.directory.path().join("restored/vault.db"),
        ..stage.place()
    }
}

async fn a_backup_opens_beside_the_key_it_names(keeping: Keeping) {
    let stage = Stage::with(keeping).await;
    stage.put("a", "the plaintext").await;
    let path = stage.directory.path().join("backup.db");
    let report = stage.vault.backup(&path, "t").await.unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(report.bytes, bytes.len() as u64);
    let key = std::fs::read_to_string(stage.key_file()).unwrap();
    assert!(key.contains(&report.root_key_id));
    let digits = key.lines().nth(2).unwrap().strip_prefix("key ").unwrap();
    assert!(!contains(&bytes, digits.as_bytes()) && !contains(&bytes, b"the plaintext"));

    stage.put("a", "later").await;
    let restored = Vault::restore(&path, elsewhere(&stage), "t").await.unwrap();
    let opened = restored
        .open_secret(stage.workspace, &name("a"), None, "t")
        .await
        .unwrap();
    assert_eq!(opened.plaintext.expose_secret(), "the plaintext");
    assert!(restored.verify(None).await.unwrap().is_sound());
    let actions: Vec<_> = restored.audit_tail(9).await.unwrap();
    assert!(actions.iter().any(|row| row.action == "restore"));
}

#[tokio::test]
async fn nothing_is_overwritten() {
    let stage = Stage::new().await;
    stage.put("a", "one").await;
    let path = stage.directory.path().join("backup.db");
    stage.vault.backup(&path, "t").await.unwrap();
    let error = stage.vault.backup(&path, "t").await.unwrap_err();
    assert!(matches!(error, VaultError::Exists { .. }), "{error}");
    let error = Vault::restore(&path, stage.place(), "t").await.unwrap_err();
    assert!(matches!(error, VaultError::Exists { .. }), "{error}");
    assert_eq!(
        stage
            .open("a", None)
            .await
            .unwrap()
            .plaintext
            .expose_secret(),
        "one"
    );
}

async fn what_cannot_be_restored_leaves_nothing(keeping: Keeping) {
    let stage = Stage::with(keeping).await;
    stage.put("a", "one").await;
    let path = stage.directory.path().join("backup.db");
    stage.vault.backup(&path, "t").await.unwrap();
    let target = elsewhere(&stage);

    let mut other_key = target.clone();
    other_key.root_key = Stage::with(keeping).await.place().root_key;
    let error = Vault::restore(&path, other_key, "t").await.unwrap_err();
    assert!(
        matches!(error, VaultError::RootKeyMissing { .. }),
        "{error}"
    );

    let mut bytes = std::fs::read(&path).unwrap();
    bytes.truncate(bytes.len() / 2);
    std::fs::write(&path, bytes).unwrap();
    let error = Vault::restore(&path, target.clone(), "t")
        .await
        .unwrap_err();
    assert!(matches!(error, VaultError::BadBackup { .. }), "{error}");

    std::fs::write(&path, "no database at all").unwrap();
    let error = Vault::restore(&path, target.clone(), "t")
        .await
        .unwrap_err();
    assert!(matches!(error, VaultError::BadBackup { .. }), "{error}");

    std::fs::remove_file(&path).unwrap();
    let error = Vault::restore(&path, target.clone(), "t")
        .await
        .unwrap_err();
    assert!(matches!(error, VaultError::Io { .. }), "{error}");
    assert!(!target.database.exists());
}

/// A backup is looked at before anything is put in place.
#[tokio::test]
async fn a_backup_whose_audit_log_was_changed_is_not_restored() {
    for change in [
        "UPDATE audit SET actor = 'somebody else' WHERE sequence = 2",
        "DELETE FROM audit WHERE sequence = 2",
        "DELETE FROM audit WHERE sequence = (SELECT max(sequence) FROM audit)",
        "UPDATE vault SET head_seal = zeroblob(32)",
        "UPDATE vault SET audit_key = zeroblob(61)",
    ] {
        let stage = Stage::new().await;
        stage.put("a", "one").await;
        let path = stage.directory.path().join("data/backup.db");
        stage.vault.backup(&path, "t").await.unwrap();
        stage.sql_on(&path, change).await;
        let target = elsewhere(&stage);
        let restored = Vault::restore(&path, target.clone(), "t").await;
        let error = restored.map(drop).expect_err(change);
        assert!(
            matches!(error, VaultError::BadBackup { .. }),
            "{change}: {error}"
        );
        assert!(error.to_string().contains("audit log"), "{change}: {error}");
        let names = std::fs::read_dir(target.database.parent().unwrap()).unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["vault.db.lock"], "{change}");
    }
}
