//! Backups: whole, sealed, without the key, and put back only where nothing is.

use credential::ExposeSecret;
use ids::WorkspaceId;
use vault::{AuditReport, AuditRow, Vault, VaultError, VaultPlace, VersionRow};

use crate::support::{
    Engine, READER, Setting, Stage, contains, name, on_each_engine, put, renewal, sql_on,
    with_each_setting,
};

on_each_engine!(nothing_is_overwritten,);

with_each_setting!(
    a_backup_opens_beside_the_key_it_names,
    what_cannot_be_restored_leaves_nothing,
);

fn elsewhere(stage: &Stage) -> VaultPlace {
    VaultPlace {
        root_key: stage.place().root_key,
        ..stage.elsewhere("restored")
    }
}

async fn a_backup_opens_beside_the_key_it_names(setting: Setting) {
    let stage = Stage::with(setting).await;
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

async fn nothing_is_overwritten(engine: Engine) {
    let stage = Stage::on(engine).await;
    stage.put("a", "one").await;
    let path = stage.directory.path().join("backup.db");
    stage.vault.backup(&path, "t").await.unwrap();
    let error = stage.vault.backup(&path, "t").await.unwrap_err();
    assert!(matches!(error, VaultError::Exists { .. }), "{error}");
    let error = Vault::restore(&path, stage.place(), "t").await.unwrap_err();
    let is_there = matches!(
        error,
        VaultError::Exists { .. } | VaultError::NotEmpty { .. }
    );
    assert!(is_there, "{error}");
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

async fn what_cannot_be_restored_leaves_nothing(setting: Setting) {
    let stage = Stage::with(setting).await;
    stage.put("a", "one").await;
    let path = stage.directory.path().join("backup.db");
    stage.vault.backup(&path, "t").await.unwrap();
    let target = elsewhere(&stage);

    let mut other_key = target.clone();
    other_key.root_key = Stage::with(setting).await.place().root_key;
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
    assert!(!target.data.join("vault.db").exists());
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
        sql_on(&path, change).await;
        let target = elsewhere(&stage);
        let restored = Vault::restore(&path, target.clone(), "t").await;
        let error = restored.map(drop).expect_err(change);
        assert!(
            matches!(error, VaultError::BadBackup { .. }),
            "{change}: {error}"
        );
        assert!(error.to_string().contains("audit log"), "{change}: {error}");
        let names = std::fs::read_dir(&target.data).unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["vault.db.lock"], "{change}");
    }
}

/// More than a page of rows of every table that has many, and every column filled somewhere.
async fn fill(stage: &Stage) {
    for number in 0..60 {
        let name = format!("secret-{number}");
        let sealed = stage.put(&name, &format!("value {number}")).await;
        let request = vault::LeaseRequest {
            workspace: stage.workspace,
            sealed,
            image: "ghcr.io/x",
            repository: "ghcr.io/acme/app",
            reader: READER,
        };
        let lease = stage.vault.begin_lease(request).await.unwrap();
        stage.vault.renew_lease(lease, renewal(1, 1)).await.unwrap();
        stage.put(&name, &format!("value {number}, anew")).await;
        if number % 3 == 0 {
            stage.vault.end_lease(lease).await.unwrap();
        }
    }
    let removed = name("secret-0");
    let removing = stage.vault.remove(stage.workspace, &removed, "t");
    removing.await.unwrap();
    put(&stage.vault, WorkspaceId::new(), "a", "theirs")
        .await
        .unwrap();
}

/// What `verify` sees, what stands in the log, and what is known of each version.
async fn state(
    vault: &Vault,
    workspace: WorkspaceId,
) -> (AuditReport, Vec<AuditRow>, Vec<VersionRow>) {
    let report = vault.verify(None).await.unwrap();
    assert!(report.is_sound(), "{report:?}");
    let mut versions = Vec::new();
    for number in 0..60 {
        let name = name(&format!("secret-{number}"));
        versions.extend(vault.history(workspace, &name).await.unwrap());
    }
    (report, vault.audit_tail(10_000).await.unwrap(), versions)
}

/// A server is named in the configuration, and the file of before is still there.
#[tokio::test(flavor = "multi_thread")]
async fn a_vault_in_a_file_is_not_passed_over() {
    let stage = Stage::new().await;
    stage.put("a", "one").await;
    let path = stage.directory.path().join("backup.db");
    stage.vault.backup(&path, "t").await.unwrap();
    let on_server = Engine::Server.place(stage.directory.path());
    for _ in 0..2 {
        let error = Vault::open(on_server.clone()).await.unwrap_err();
        assert!(matches!(error, VaultError::InFile { .. }), "{error}");
        assert!(error.hint().unwrap().contains("vault restore"));
    }
    Vault::restore(&path, on_server.clone(), "t").await.unwrap();
    let moved = Vault::open(on_server).await.unwrap();
    let secret = name("a");
    let opened = moved.open_secret(stage.workspace, &secret, None, "t");
    assert_eq!(opened.await.unwrap().plaintext.expose_secret(), "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_goes_from_a_file_to_a_server_and_back() {
    let stage = Stage::new().await;
    fill(&stage).await;
    let mut vault = stage.vault.clone();
    for (number, engine) in [Engine::Server, Engine::File, Engine::Server, Engine::Server]
        .into_iter()
        .enumerate()
    {
        let path = stage.directory.path().join(format!("backup-{number}.db"));
        vault.backup(&path, "t").await.unwrap();
        let before = state(&vault, stage.workspace).await;
        assert_eq!(before.2.iter().map(|row| row.leases).sum::<u32>(), 40);
        let place = VaultPlace {
            root_key: stage.place().root_key,
            ..engine.place(&stage.directory.path().join(number.to_string()))
        };
        vault = Vault::restore(&path, place.clone(), "t").await.unwrap();
        let (report, mut rows, versions) = state(&vault, stage.workspace).await;
        assert_eq!(rows.remove(0).action, "restore");
        assert_eq!((rows, versions), (before.1, before.2));
        assert_eq!(
            (report.workspaces, report.secrets, report.versions_opened),
            (
                before.0.workspaces,
                before.0.secrets,
                before.0.versions_opened
            )
        );
        let files = std::fs::read_dir(&place.data).unwrap();
        let leftover = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let leftover: Vec<_> = leftover.filter(|name| name.contains("copying")).collect();
        assert_eq!(leftover, Vec::<String>::new());
    }
    let secret = name("secret-7");
    let opened = vault.open_secret(stage.workspace, &secret, None, "t");
    let opened = opened.await.unwrap();
    assert_eq!(opened.plaintext.expose_secret(), "value 7, anew");
}
