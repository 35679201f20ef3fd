//! What both engines must do alike, asked of a database that is not there yet.

use std::sync::Arc;

use crate::{
    Database, DatabaseAddress, DatabaseError, Durability, Failure, Migration, OftenAsked, Opening,
    Row, Rules, Statements, Value, Writer, query, statements,
};

const TABLES: &[Migration] = &[
    Migration::new(
        1,
        "things",
        "CREATE TABLE thing (
             name  TEXT    PRIMARY KEY,
             size  INTEGER NOT NULL CHECK (size IN (0, 1, 2, 4294967296)),
             bytes BLOB    CHECK (length(bytes) < 4)
         ) STRICT, WITHOUT ROWID;
         CREATE TABLE counter (value INTEGER NOT NULL) STRICT;
         INSERT INTO counter (value) VALUES (0);",
    ),
    Migration::new(
        2,
        "colours",
        "ALTER TABLE thing ADD COLUMN colour BLOB NOT NULL DEFAULT x'00ff';",
    ),
];

pub(crate) const RULES: Rules = Rules {
    schema: "holdfast_test",
    migrations: TABLES,
    durability: Durability::Disk,
    overwrites_deleted: true,
};

pub(crate) async fn open(address: &DatabaseAddress) -> Result<Database, DatabaseError> {
    let opening = Opening::take(address, RULES.schema).await?;
    Database::open(&opening, &RULES).await
}

pub(crate) async fn check(address: &DatabaseAddress) {
    let database = open_together(address).await;
    values_come_back_as_they_were(&database).await;
    what_does_not_read_is_an_error(&database).await;
    texts_are_in_the_order_of_their_bytes(&database).await;
    what_is_dropped_is_undone(&database).await;
    a_snapshot_stays_as_it_is(&database).await;
    writers_are_one_at_a_time(address).await;
    a_change_of_statements_is_whole_or_nothing(address).await;
    what_is_often_asked_is_answered(&database).await;
    tables_of_another_program_are_refused(address).await;
    database.close().await;
}

async fn open_together(address: &DatabaseAddress) -> Database {
    let opened = (0..6).map(|_| {
        let address = address.clone();
        tokio::spawn(async move { open(&address).await })
    });
    let mut databases = Vec::new();
    for task in opened.collect::<Vec<_>>() {
        databases.push(task.await.unwrap().unwrap());
    }
    databases.pop().unwrap()
}

/// A thing, all its columns.
type Thing = (String, i64, Option<Vec<u8>>, Vec<u8>);

async fn values_come_back_as_they_were(database: &Database) {
    let mut transaction = database.begin().await.unwrap();
    let text = "INSERT INTO thing (name, size, bytes) VALUES ($1, $2, $3)";
    for (name, size, bytes) in [
        ("é'", 4_294_967_296_i64, Some(vec![0_u8, 255])),
        ("none", 1, None),
    ] {
        let inserted = query(text).bind(name).bind(size).bind(bytes);
        assert_eq!(inserted.execute(&mut transaction).await.unwrap(), 1);
    }
    let again = query(text).bind("none").bind(true).bind(None::<Vec<u8>>);
    let error = again.execute(database).await.unwrap_err();
    assert_ne!(error.failure(), Failure::Unique, "a reader does not write");
    transaction.commit().await.unwrap();

    let all = "SELECT name, size, bytes, colour FROM thing
               WHERE $1 IS NULL OR name = $1 ORDER BY size";
    let rows: Vec<Thing> = query(all)
        .bind(None::<&str>)
        .fetch_all(database)
        .await
        .unwrap();
    let colour = vec![0, 255];
    let none = ("none".to_owned(), 1, None, colour.clone());
    let other = ("é'".to_owned(), 4_294_967_296, Some(vec![0, 255]), colour);
    assert_eq!(rows, [none.clone(), other]);
    let row: Option<Thing> = query(all)
        .bind("none")
        .fetch_optional(database)
        .await
        .unwrap();
    assert_eq!(row, Some(none));
    let row: Option<Thing> = query(all)
        .bind("no")
        .fetch_optional(database)
        .await
        .unwrap();
    assert_eq!(row, None);

    let mut transaction = database.begin().await.unwrap();
    let again = query(text).bind("none").bind(true).bind(None::<Vec<u8>>);
    let error = again.execute(&mut transaction).await.unwrap_err();
    assert_eq!(error.failure(), Failure::Unique, "{error:?}");
    transaction.rollback().await.unwrap();
}

async fn what_does_not_read_is_an_error(database: &Database) {
    let ask = "SELECT size, name, bytes, size = 1, count(*) OVER () FROM thing WHERE name = $1";
    let row = query(ask)
        .bind("é'")
        .fetch_one::<crate::Row>(database)
        .await
        .unwrap();
    assert_eq!(row.get::<i64>(0).unwrap(), 4_294_967_296);
    assert!(!row.get::<bool>(3).unwrap());
    assert_eq!(row.get::<u32>(4).unwrap(), 1);
    for error in [
        row.get::<u32>(0).unwrap_err(),
        row.get::<bool>(0).unwrap_err(),
        row.get::<String>(0).unwrap_err(),
        row.get::<i64>(1).unwrap_err(),
        row.get::<i64>(2).unwrap_err(),
        row.get::<Vec<u8>>(0).unwrap_err(),
        row.get::<Option<String>>(9).unwrap_err(),
    ] {
        assert_eq!(error.failure(), Failure::Damaged, "{error:?}");
    }
    let row = query(ask)
        .bind("none")
        .fetch_one::<crate::Row>(database)
        .await
        .unwrap();
    assert!(row.get::<bool>(0).unwrap() && row.get::<bool>(3).unwrap());
    assert_eq!(row.get::<Option<Vec<u8>>>(2).unwrap(), None);
    row.get::<Vec<u8>>(2).unwrap_err();
    let missing = query(ask).bind("no").fetch_one::<(i64,)>(database).await;
    assert!(matches!(missing, Err(DatabaseError::NoRow)), "{missing:?}");
}

async fn texts_are_in_the_order_of_their_bytes(database: &Database) {
    let mut transaction = database.begin().await.unwrap();
    for name in ["b", "A", "a", "B"] {
        let inserted = query("INSERT INTO thing (name, size) VALUES ($1, 2)").bind(name);
        inserted.execute(&mut transaction).await.unwrap();
    }
    let ordered = query("SELECT name FROM thing WHERE size = 2 AND name > $1 ORDER BY name");
    let names: Vec<(String,)> = ordered.bind("A").fetch_all(&mut transaction).await.unwrap();
    let names: Vec<&str> = names.iter().map(|(name,)| name.as_str()).collect();
    assert_eq!(names, ["B", "a", "b"]);
    transaction.rollback().await.unwrap();
}

async fn what_is_dropped_is_undone(database: &Database) {
    let mut transaction = database.begin().await.unwrap();
    let deleted = query("DELETE FROM thing").execute(&mut transaction).await;
    assert_eq!(deleted.unwrap(), 2);
    drop(transaction);
    // What comes after it waits until it is.
    let mut transaction = database.begin().await.unwrap();
    assert_eq!(things(&mut transaction).await, 2);
}

async fn things(transaction: &mut crate::Transaction<'_>) -> i64 {
    let count = query("SELECT count(*) FROM thing")
        .fetch_one(transaction)
        .await;
    let (count,) = count.unwrap();
    count
}

async fn a_snapshot_stays_as_it_is(database: &Database) {
    let mut snapshot = database.snapshot().await.unwrap();
    assert_eq!(things(&mut snapshot).await, 2);
    let mut transaction = database.begin().await.unwrap();
    query("DELETE FROM thing")
        .execute(&mut transaction)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(things(&mut snapshot).await, 2);
    let written = query("DELETE FROM thing").execute(&mut snapshot).await;
    assert!(written.is_err(), "{written:?}");
    drop(snapshot);
    let mut snapshot = database.snapshot().await.unwrap();
    assert_eq!(things(&mut snapshot).await, 0);
}

/// What a transaction has read stays true until it ends, also where others are other processes.
async fn writers_are_one_at_a_time(address: &DatabaseAddress) {
    const WRITERS: usize = 4;
    const TIMES: usize = 10;
    let writers = (0..WRITERS).map(|_| {
        let address = address.clone();
        tokio::spawn(async move {
            let database = Arc::new(open(&address).await.unwrap());
            for _ in 0..TIMES {
                let mut transaction = database.begin().await.unwrap();
                let read = query("SELECT value FROM counter").fetch_one(&mut transaction);
                let (value,): (i64,) = read.await.unwrap();
                tokio::task::yield_now().await;
                let written = query("UPDATE counter SET value = $1").bind(value + 1);
                written.execute(&mut transaction).await.unwrap();
                transaction.commit().await.unwrap();
            }
            let read = query("SELECT value FROM counter")
                .fetch_one(&*database)
                .await;
            database.close().await;
            read.unwrap()
        })
    });
    let mut last = 0;
    for writer in writers.collect::<Vec<_>>() {
        let (value,): (u64,) = writer.await.unwrap();
        last = last.max(value);
    }
    assert_eq!(last, (WRITERS * TIMES) as u64);
}

static INSERT_TWO: Statements = statements!(
    "INSERT INTO thing (name, size) VALUES ($1, 1)",
    "INSERT INTO thing (name, size) VALUES ($2, $3)",
    "SELECT name FROM thing WHERE name = $1 OR name = $2 ORDER BY name",
);

async fn a_change_of_statements_is_whole_or_nothing(address: &DatabaseAddress) {
    let opening = Opening::take(address, RULES.schema).await.unwrap();
    let mut writer = Writer::open(&opening, &RULES).await.unwrap();
    drop(opening);
    let two = |first: &str, second: &str, size: u32| {
        vec![Value::from(first), Value::from(second), Value::from(size)]
    };
    let names = |rows: Vec<Row>| {
        let names = rows.iter().map(|row| row.get::<String>(0).unwrap());
        names.collect::<Vec<_>>().join(" ")
    };
    let made = writer
        .run(&INSERT_TWO, two("b", "a", 2), Durability::Disk)
        .await;
    assert_eq!(names(made.unwrap()), "a b");
    let failed = writer
        .run(&INSERT_TWO, two("c", "a", 2), Durability::Process)
        .await;
    assert_eq!(failed.unwrap_err().failure(), Failure::Unique);

    let mut transaction = writer.begin(Durability::Process).await.unwrap();
    let made = transaction
        .run(&INSERT_TWO, two("d", "e", 2))
        .await
        .unwrap();
    assert_eq!(names(made.unwrap()), "d e");
    let failed = transaction
        .run(&INSERT_TWO, two("f", "g", 7))
        .await
        .unwrap();
    failed.unwrap_err();
    let mut part = transaction.savepoint().await.unwrap();
    query("DELETE FROM thing").execute(&mut part).await.unwrap();
    part.rollback().await.unwrap();
    let mut part = transaction.savepoint().await.unwrap();
    let deleted = query("DELETE FROM thing WHERE name = 'b'")
        .execute(&mut part)
        .await;
    assert_eq!(deleted.unwrap(), 1);
    part.commit().await.unwrap();
    transaction.commit().await.unwrap();
    writer.sync().await.unwrap();
    writer.close().await;

    let mut transaction = writer.begin(Durability::Disk).await.unwrap();
    let rows = query("SELECT name FROM thing ORDER BY name")
        .fetch_all(&mut transaction)
        .await;
    assert_eq!(names(rows.unwrap()), "a d e");
    drop(transaction);
    writer.close().await;
}

async fn what_is_often_asked_is_answered(database: &Database) {
    let often = OftenAsked::beside(database.readers());
    for _ in 0..2 {
        let ask = |name: &str| query("SELECT size FROM thing WHERE name = $1").bind(name);
        assert_eq!(often.row::<(i64,)>(ask("a")).await.unwrap(), Some((2,)));
        assert_eq!(often.row::<(i64,)>(ask("b")).await.unwrap(), None);
        often
            .row::<(i64,)>(query("SELECT nothing"))
            .await
            .unwrap_err();
    }
    often.close().await;
}

async fn tables_of_another_program_are_refused(address: &DatabaseAddress) {
    const CHANGED: &[Migration] = &[
        Migration::new(1, "things", "CREATE TABLE another (x TEXT) STRICT;"),
        TABLES[1],
    ];
    for migrations in [CHANGED, &TABLES[..1]] {
        let opening = Opening::take(address, RULES.schema).await.unwrap();
        let rules = Rules {
            migrations,
            ..RULES
        };
        let error = Database::open(&opening, &rules).await.unwrap_err();
        assert!(
            matches!(error, DatabaseError::Migration { .. }),
            "{error:?}"
        );
    }
}
