//! A store that goes from one engine to the other and back, and backups that are none.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use database::{Readers, Server, Statements, Writer, query, statements};
use ids::{WorkspaceId, WorkspaceName};
use postgres_server::PostgresServer;
use tempfile::TempDir;

use super::*;
use crate::sql::SqlStore;
use crate::store::ControlStore;
use crate::workspaces::WorkspaceRecords;

fn on_file(directory: &TempDir, name: &str) -> StorePlace {
    let data = directory.path().join(name);
    std::fs::create_dir_all(&data).unwrap();
    let address = DatabaseAddress::File(data.join(FILE));
    StorePlace { data, address }
}

fn on_server(directory: &TempDir) -> StorePlace {
    let server = Server::parse(&PostgresServer::shared().new_database()).unwrap();
    StorePlace {
        address: DatabaseAddress::Server(server),
        ..on_file(directory, "beside")
    }
}

/// Of what the contract leaves nothing.
static OTHERS: Statements = statements!(
    "INSERT INTO container (container_id, workspace_id, stub_id, state, delivery, requested_at)
     SELECT 'c', workspace_id, stub_id, 'requested', 0, 1 FROM stub LIMIT 1",
    "INSERT INTO join_token (hash, created_at, expires_at) VALUES (zeroblob(32), 1, 2)",
    "INSERT INTO registry_settings (workspace_id, scope, plain_http, ca_pem)
     SELECT workspace_id, '', 0, x'00ff' FROM workspace LIMIT 1",
    "INSERT INTO task_attempt (task_id, number, container_id, started_at, ended_at, outcome)
     SELECT task_id, 1, 'c', 1, 2, 'o' FROM task LIMIT 1",
    "INSERT INTO task_result (task_id, payload) SELECT task_id, x'01' FROM task LIMIT 1"
);

/// A store with rows of every kind.
async fn filled(directory: &TempDir) -> StorePlace {
    let place = on_file(directory, "filled");
    let store = Arc::new(SqlStore::open(&place.address).await.unwrap());
    crate::contract::check(Arc::clone(&store) as Arc<dyn ControlStore>).await;
    store.close().await;
    let DatabaseAddress::File(path) = &place.address else {
        unreachable!("it is a file");
    };
    change(path, &OTHERS).await;
    place
}

/// All rows of a backup, each table's by themselves.
async fn rows(backup: &Path) -> Vec<(String, Vec<String>)> {
    let file = Readers::of_unchanged(backup);
    let asked = query(
        "SELECT name, (SELECT group_concat('quote(\"' || c.name || '\")', ' || '','' || ')
                       FROM pragma_table_info(t.name) AS c)
         FROM sqlite_schema AS t
         WHERE type = 'table' AND name <> '_sqlx_migrations' ORDER BY name",
    );
    let tables: Vec<(String, String)> = asked.fetch_all(&file).await.unwrap();
    let mut found = Vec::new();
    for (table, columns) in tables {
        let text = format!("SELECT {columns} FROM \"{table}\" ORDER BY 1").leak();
        let rows: Vec<(String,)> = query(text).fetch_all(&file).await.unwrap();
        found.push((table, rows.into_iter().map(|(row,)| row).collect()));
    }
    found
}

async fn change(path: &Path, statements: &'static Statements) {
    let address = DatabaseAddress::File(path.to_owned());
    let opening = Opening::take(&address, RULES.schema).await.unwrap();
    let mut writer = Writer::open(&opening, &RULES).await.unwrap();
    let changed = writer
        .run(statements, Vec::new(), Durability::Process)
        .await;
    changed.unwrap();
    writer.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_goes_from_a_file_to_a_server_and_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut place = filled(&directory).await;
    let first = directory.path().join("backup-0");
    back_up(&place, &first).await.unwrap();
    let before = rows(&first).await;
    let empty: Vec<_> = before.iter().filter(|table| table.1.is_empty()).collect();
    assert!(empty.is_empty(), "nothing is seen of {empty:?}");
    let there = [on_server(&directory), on_file(&directory, "back")];
    for (number, next) in there.into_iter().enumerate() {
        let backup = directory.path().join(format!("backup-{number}"));
        let restored = restore(&backup, &next, Onto::Nothing).await.unwrap();
        let count: usize = before.iter().map(|table| table.1.len()).sum();
        assert_eq!(restored, count as u64);
        place = next;
        let again = directory.path().join(format!("backup-{}", number + 1));
        let written = back_up(&place, &again).await.unwrap();
        let metadata = again.metadata().unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert_eq!(metadata.len(), written.bytes);
        assert_eq!(rows(&again).await, before);
    }
    let names = std::fs::read_dir(&place.data).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["state.db", "state.db.lock"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_overwritten_unasked() {
    let directory = tempfile::tempdir().unwrap();
    let place = filled(&directory).await;
    let backup = directory.path().join("backup");
    back_up(&place, &backup).await.unwrap();
    let before = rows(&backup).await;
    let error = back_up(&place, &backup).await.unwrap_err();
    assert!(matches!(error, StoreError::Exists { .. }), "{error}");

    for target in [on_server(&directory), on_file(&directory, "other")] {
        let store = SqlStore::open(&target.address).await.unwrap();
        let name = WorkspaceName::default();
        let made = store.ensure_workspace(&name, WorkspaceId::new()).await;
        let made = made.unwrap();
        let error = restore(&backup, &target, Onto::Nothing).await.unwrap_err();
        assert!(matches!(error, StoreError::NotEmpty { .. }), "{error}");
        let there = store.workspaces().await.unwrap();
        assert_eq!(there, [made]);

        restore(&backup, &target, Onto::Whatever).await.unwrap();
        store.close().await;
        let again = directory.path().join("again");
        back_up(&target, &again).await.unwrap();
        assert_eq!(rows(&again).await, before);
        std::fs::remove_file(again).unwrap();
    }
    let alone = on_file(&directory, "alone");
    std::fs::write(
        alone.data.join("state.db-wal"),
        "of a file that was taken away",
    )
    .unwrap();
    let error = restore(&backup, &alone, Onto::Whatever).await.unwrap_err();
    assert!(matches!(error, StoreError::Exists { .. }), "{error}");

    let nowhere = on_file(&directory, "nowhere");
    let error = back_up(&nowhere, &directory.path().join("none")).await;
    assert!(matches!(error, Err(StoreError::Io { .. })), "{error:?}");
    assert!(!nowhere.data.join(FILE).exists());
}

/// What is refused is refused before anything of the state before is gone.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_backup_leaves_all_as_it_was() {
    static VIEW: Statements = statements!("CREATE VIEW v AS SELECT 1");
    static TRIGGER: Statements =
        statements!("CREATE TRIGGER t AFTER INSERT ON share BEGIN DELETE FROM task; END");
    static COMPUTED: Statements =
        statements!("ALTER TABLE share ADD COLUMN c BLOB AS (zeroblob(1000000000))");
    static OTHER_TABLE: Statements = statements!("DROP TABLE share");
    static NEWER: Statements = statements!(
        "CREATE TABLE later (a INTEGER PRIMARY KEY) STRICT",
        "INSERT INTO _sqlx_migrations SELECT 9999, 'later', installed_on, success, checksum,
             execution_time FROM _sqlx_migrations WHERE version = 1"
    );
    static OTHER_MIGRATION: Statements =
        statements!("UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 2");
    static NO_TEXT: Statements =
        statements!("UPDATE workspace SET name = CAST(x'ff' AS TEXT) WHERE name = 'default'");
    let directory = tempfile::tempdir().unwrap();
    let place = filled(&directory).await;
    let good = directory.path().join("good");
    back_up(&place, &good).await.unwrap();
    let before = rows(&good).await;
    let target = on_server(&directory);
    restore(&good, &target, Onto::Nothing).await.unwrap();
    let path = directory.path().join("bad");
    for (statements, says) in [
        (&VIEW, "no backup of this kind"),
        (&TRIGGER, "no backup of this kind"),
        (&COMPUTED, "no backup of this kind"),
        (&OTHER_TABLE, "no backup of this kind"),
        (&NEWER, "newer version"),
        (&OTHER_MIGRATION, "no backup of this kind"),
        (&NO_TEXT, "is damaged"),
    ] {
        std::fs::copy(&good, &path).unwrap();
        change(&path, statements).await;
        let error = restore(&path, &target, Onto::Whatever).await.unwrap_err();
        assert!(error.to_string().contains(says), "{says}: {error}");
        assert_eq!(error.kind(), "damaged");
    }
    let bytes = std::fs::read(&good).unwrap();
    let mut torn = bytes.clone();
    torn[bytes.len() / 2..].fill(0xff);
    for bytes in [&bytes[..bytes.len() / 2], &torn, b"no database", b""] {
        std::fs::write(&path, bytes).unwrap();
        let error = restore(&path, &target, Onto::Whatever).await.unwrap_err();
        assert_eq!(error.kind(), "damaged", "{error}");
    }
    for no_file in ["/dev/zero", directory.path().to_str().unwrap(), "/nowhere"] {
        let error = restore(Path::new(no_file), &target, Onto::Whatever).await;
        assert!(matches!(error, Err(StoreError::Io { .. })), "{error:?}");
    }
    let after = directory.path().join("after");
    back_up(&target, &after).await.unwrap();
    assert_eq!(rows(&after).await, before);
}
