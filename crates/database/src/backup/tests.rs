//! Copies between engines, and files that are no backups.

use std::os::unix::fs::PermissionsExt;

use postgres_server::PostgresServer;

use super::*;
use crate::{
    Database, DatabaseAddress, Durability, Migration, Opening, Rules, Server, Tables, Value, query,
};

const RULES: Rules = Rules {
    schema: "holdfast_copies",
    migrations: &[
        Migration::new(
            1,
            "first",
            "CREATE TABLE parent (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
             CREATE TABLE child (
                 number INTEGER NOT NULL,
                 parent TEXT    NOT NULL REFERENCES parent (name),
                 bytes  BLOB,
                 PRIMARY KEY (parent, number)
             ) STRICT, WITHOUT ROWID;",
        ),
        Migration::new(
            2,
            "second",
            "CREATE TABLE keyed (key BLOB PRIMARY KEY, text TEXT) STRICT, WITHOUT ROWID;
             CREATE INDEX keyed_text ON keyed (text) WHERE text IS NOT NULL;",
        ),
    ],
    durability: Durability::Process,
    overwrites_deleted: false,
};

async fn open(address: &DatabaseAddress) -> Database {
    let opening = Opening::take(address, RULES.schema).await.unwrap();
    Database::open(&opening, &RULES).await.unwrap()
}

fn file(path: &Path) -> DatabaseAddress {
    DatabaseAddress::File(path.to_owned())
}

/// Keys that are the least there are, more rows than are asked for at once, and more bytes.
async fn fill(database: &Database) {
    let mut transaction = database.begin().await.unwrap();
    for name in ["", "a", "é"] {
        let insert = query("INSERT INTO parent (name) VALUES ($1)").bind(name);
        insert.execute(&mut transaction).await.unwrap();
        for number in (0..150).chain([i64::MIN, i64::MAX]) {
            let bytes = match number {
                0..3 => Some(vec![7; 3 << 20]),
                3..99 => Some(Vec::new()),
                _ => None,
            };
            let insert = query("INSERT INTO child (number, parent, bytes) VALUES ($1, $2, $3)");
            let insert = insert.bind(number).bind(name).bind(bytes);
            insert.execute(&mut transaction).await.unwrap();
        }
    }
    for key in [&[][..], &[0], &[0xff, 0]] {
        let insert = query("INSERT INTO keyed (key, text) VALUES ($1, $2)").bind(key);
        let insert = insert.bind(Value::Text(None));
        insert.execute(&mut transaction).await.unwrap();
    }
    transaction.commit().await.unwrap();
}

type Child = (i64, String, Option<Vec<u8>>);

async fn rows(database: &Database) -> (Vec<Child>, Vec<(Vec<u8>, Option<String>)>) {
    let children = query("SELECT number, parent, bytes FROM child ORDER BY parent, number");
    let keyed = query("SELECT key, text FROM keyed ORDER BY key");
    (
        children.fetch_all(database).await.unwrap(),
        keyed.fetch_all(database).await.unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_go_from_one_engine_to_the_other_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let tables = Tables::of(&RULES).await.unwrap();
    let server = Server::parse(&PostgresServer::shared().new_database()).unwrap();
    let first = open(&file(&directory.path().join("a.db"))).await;
    let second = open(&DatabaseAddress::Server(server)).await;
    let third = open(&file(&directory.path().join("b.db"))).await;
    fill(&first).await;
    let before = rows(&first).await;
    assert_eq!((before.0.len(), before.1.len()), (3 * 152, 3));
    for (from, to) in [(&first, &second), (&second, &third)] {
        let mut source = from.snapshot().await.unwrap();
        let mut target = to.begin().await.unwrap();
        assert!(tables.are_empty(&mut target).await.unwrap());
        let copied = tables.copy(&mut source, &mut target).await.unwrap();
        assert_eq!(copied, 3 + 3 * 152 + 3);
        target.commit().await.unwrap();
        assert_eq!(rows(to).await, before);
    }
    let mut target = second.begin().await.unwrap();
    assert!(!tables.are_empty(&mut target).await.unwrap());
    tables.clear(&mut target).await.unwrap();
    assert!(tables.are_empty(&mut target).await.unwrap());
}

/// It is refused by its length, before it is in memory.
#[tokio::test]
async fn a_row_that_is_too_long_is_not_copied() {
    let directory = tempfile::tempdir().unwrap();
    let tables = Tables::of(&RULES).await.unwrap();
    let from = open(&file(&directory.path().join("a.db"))).await;
    let to = open(&file(&directory.path().join("b.db"))).await;
    let mut writing = from.begin().await.unwrap();
    let insert = query("INSERT INTO keyed (key, text) VALUES (zeroblob(64 * 1024 * 1024), 'x')");
    insert.execute(&mut writing).await.unwrap();
    writing.commit().await.unwrap();
    let mut source = from.snapshot().await.unwrap();
    let mut target = to.begin().await.unwrap();
    let error = tables.copy(&mut source, &mut target).await.unwrap_err();
    let DatabaseError::Copying { table, source } = error else {
        panic!("{error:?}");
    };
    assert_eq!(table, "keyed");
    assert!(matches!(*source, DatabaseError::RowTooLong { length, .. } if length > 64 << 20));
}

#[tokio::test]
async fn a_file_with_more_than_tables_of_ours_is_no_backup() {
    let directory = tempfile::tempdir().unwrap();
    let older = Rules {
        migrations: &RULES.migrations[..1],
        ..RULES
    };
    for (statement, expected) in [
        ("SELECT 1", Ok(())),
        ("CREATE VIEW v AS SELECT 1", Err(BackupProblem::Other)),
        ("DROP INDEX keyed_text", Err(BackupProblem::Other)),
        (
            "ALTER TABLE keyed ADD COLUMN c TEXT AS (hex(zeroblob(1000000000)))",
            Err(BackupProblem::Other),
        ),
        ("DROP TABLE _sqlx_migrations", Err(BackupProblem::Other)),
    ] {
        let path = directory.path().join("a.db");
        let made = open(&file(&path)).await;
        let mut writing = made.begin().await.unwrap();
        query(statement).execute(&mut writing).await.unwrap();
        writing.commit().await.unwrap();
        made.close().await;
        assert_eq!(check_backup(&path, &RULES).await, expected, "{statement}");
        if expected.is_ok() {
            assert_eq!(check_backup(&path, &older).await, Err(BackupProblem::Newer));
        }
        std::fs::remove_file(path).unwrap();
    }
    let path = directory.path().join("older.db");
    let opening = Opening::take(&file(&path), RULES.schema).await.unwrap();
    Database::open(&opening, &older)
        .await
        .unwrap()
        .close()
        .await;
    assert_eq!(check_backup(&path, &RULES).await, Ok(()));
    std::fs::write(&path, "no database").unwrap();
    assert_eq!(check_backup(&path, &RULES).await, Err(BackupProblem::Other));
}

#[tokio::test]
async fn what_is_written_anew_is_whole_and_private() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new");
    let same = |error: io::Error| error;
    let length = write_new(&path, same, async |made| std::fs::write(made, "all of it"));
    assert_eq!(length.await.unwrap(), 9);
    let mode = path.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let error = write_new(&path, same, async |_| panic!("it is there")).await;
    assert_eq!(error.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "all of it");

    let other = directory.path().join("other");
    let failed = write_new(&other, same, async |made| {
        std::fs::write(made, "half")?;
        Err(io::ErrorKind::StorageFull.into())
    });
    assert_eq!(failed.await.unwrap_err().kind(), io::ErrorKind::StorageFull);
    // Somebody was faster.
    let raced = write_new(&other, same, async |_| std::fs::write(&other, "theirs"));
    assert_eq!(
        raced.await.unwrap_err().kind(),
        io::ErrorKind::AlreadyExists
    );
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "theirs");
    let names = std::fs::read_dir(directory.path()).unwrap();
    assert_eq!(names.count(), 2, "nothing is left beside");
}
