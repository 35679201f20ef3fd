//! A vault on a server: what a file has no counterpart of.

use std::path::PathBuf;

use credential::ExposeSecret;
use postgres_server::PostgresServer;
use vault::{KeySource, RootKey, Vault, VaultError, VaultPlace};

use crate::role::Pause;
use crate::support::{Engine, READER, Setting, Stage, name, on_each_engine, put};

on_each_engine!(a_rotation_that_another_process_has_overtaken_is_refused,);

/// Erased means that no table has it: what the server's pages and logs keep is told in the threat
/// model, and opens with nothing that is left in the vault.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_retired_is_in_no_row_of_a_server() {
    let stage = Stage::on(Engine::Server).await;
    stage
        .sql("CREATE EXTENSION pageinspect SCHEMA public")
        .await;
    let sealed = "SELECT sealed FROM secret_version WHERE sealed IS NOT NULL";
    let wrapped = "SELECT wrapped FROM workspace_key";
    stage.put("a", "the first plaintext of the secret").await;
    let first = stage.blob(sealed).await;
    assert_ne!(rows_with(&stage, "secret_version", &first).await, 0);
    stage.put("a", "the second plaintext of the secret").await;
    assert_eq!(rows_with(&stage, "secret_version", &first).await, 0);
    let (second, key) = (stage.blob(sealed).await, stage.blob(wrapped).await);
    assert_ne!(rows_with(&stage, "secret_version", &second).await, 0);
    assert_ne!(rows_with(&stage, "workspace_key", &key).await, 0);
    let shred = stage.vault.shred(stage.workspace, "team", "t");
    shred.await.unwrap();
    assert_eq!(rows_with(&stage, "secret_version", &second).await, 0);
    assert_eq!(rows_with(&stage, "workspace_key", &key).await, 0);
}

/// Rows of a table's first page, dead ones too, that hold these bytes.
async fn rows_with(stage: &Stage, table: &str, bytes: &[u8]) -> i64 {
    let digits = crate::support::hex(bytes);
    let query = format!(
        "SELECT count(*) FROM heap_page_items(get_raw_page('{table}', 0))
         WHERE position(unhex('{digits}') IN t_data) > 0"
    );
    stage.number(&query).await
}

/// The number of a process says nothing on another machine, and neither does its boot.
#[tokio::test(flavor = "multi_thread")]
async fn leases_of_another_machine_end_by_the_clock() {
    for (engine, swept) in [(Engine::File, 1), (Engine::Server, 0)] {
        let stage = Stage::on(engine).await;
        let sealed = stage.put("a", "one").await;
        let request = vault::LeaseRequest {
            workspace: stage.workspace,
            sealed,
            image: "ghcr.io/x",
            repository: "ghcr.io/acme/app",
            reader: READER,
        };
        stage.vault.begin_lease(request).await.unwrap();
        stage.sql("UPDATE lease SET owner = 'x' || owner").await;
        let ended = stage.vault.sweep_leases().await.unwrap();
        assert_eq!(ended, swept, "{engine:?}");
        // A clock of another machine is behind, by less than is allowed for.
        stage.time.forward(-240);
        let ended = stage.vault.sweep_leases().await.unwrap();
        assert_eq!(ended, 0, "{engine:?}");
        let seconds = vault::LEASE_TIME.as_secs();
        stage.time.forward(seconds.cast_signed() + 240);
        let ended = stage.vault.sweep_leases().await.unwrap();
        assert_eq!(ended, 1 - swept, "{engine:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_whose_server_was_away_goes_on() {
    let server = tokio::task::spawn_blocking(PostgresServer::start);
    let server = server.await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let place = VaultPlace {
        server: Some(database::Server::parse(&server.new_database()).unwrap()),
        ..Setting::HERE.place(directory.path())
    };
    let vault = Vault::open(place.clone()).await.unwrap();
    let workspace = ids::WorkspaceId::new();
    put(&vault, workspace, "a", "one").await.unwrap();
    server.stop();
    let secret = name("a");
    let away = vault.open_secret(workspace, &secret, None, "t");
    let away = away.await.unwrap_err();
    assert_eq!(away.kind(), "unreachable", "{away:?}");
    assert!(away.hint().is_some());
    put(&vault, workspace, "a", "two").await.unwrap_err();
    let opening = Vault::open(place).await.unwrap_err();
    assert_eq!(opening.kind(), "unreachable", "{opening:?}");
    server.start_again();
    // What was connected before finds that out once: the writer, and each of a few readers.
    let mut opened = Vec::new();
    for _ in 0..6 {
        match vault.open_secret(workspace, &secret, None, "t").await {
            Ok(one) => opened.push(one.plaintext.expose_secret().to_owned()),
            Err(error) => assert_eq!(error.kind(), "unreachable", "{error:?}"),
        }
    }
    assert_eq!(opened.last().map(String::as_str), Some("one"));
    put(&vault, workspace, "a", "three").await.unwrap();
    let report = vault.verify(None).await.unwrap();
    assert!(report.is_sound(), "{report:?}");
}

/// What another process has done whose lock came after a server had lost ours.
async fn a_rotation_that_another_process_has_overtaken_is_refused(engine: Engine) {
    let noted = "UPDATE vault SET next_root_key_id = unhex('00112233445566778899aabbccddeeff')";
    let undone = "UPDATE vault SET next_root_key_id = NULL";
    let noted_again = "UPDATE vault SET next_root_key_id =
                           (SELECT root_key_id FROM workspace_key)";
    // After the two of opening: the beginning, and the audit key behind the one of the workspace.
    for (question, meanwhile, afterwards) in [(3, noted, undone), (6, undone, noted_again)] {
        let stage = Stage::on(engine).await;
        stage.put("a", "one").await;
        let directory: PathBuf = stage.directory.path().to_owned();
        let pause = Pause {
            question,
            directory,
        };
        let place = VaultPlace {
            root_key: RootKey::kept_by(pause.program(), &KeySource::File(stage.key_file())),
            ..stage.place()
        };
        let slow = Vault::open(place).await.unwrap();
        let overtaking = pause.meanwhile(stage.sql(meanwhile));
        let (rotated, ()) = tokio::join!(slow.rotate_root_key(None, "t"), overtaking);
        let error = rotated.unwrap_err();
        assert!(matches!(error, VaultError::Overtaken), "{error:?}");
        assert!(error.hint().is_some());
        stage.sql(afterwards).await;
        let again = stage.again().await.unwrap();
        let secret = name("a");
        let opened = again.open_secret(stage.workspace, &secret, None, "t");
        assert_eq!(opened.await.unwrap().plaintext.expose_secret(), "one");
        let report = again.verify(None).await.unwrap();
        assert!(report.is_sound(), "{report:?}");
        again.rotate_root_key(None, "t").await.unwrap();
    }
}
