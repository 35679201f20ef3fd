//! The contract on both engines, and what is each one's own.

use std::error::Error as _;
use std::future::Future as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use postgres_server::{GUARDED_PASSWORD, GUARDED_USER, PostgresServer};
use registry_sim::Authority;

use crate::contract::{self, RULES};
use crate::{
    Database, DatabaseAddress, DatabaseError, Durability, Failure, Opening, Readers, Reservation,
    Reserved, Server, Statements, Value, Writer, query, statements,
};

fn server(address: &str) -> DatabaseAddress {
    DatabaseAddress::Server(Server::parse(address).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data/t.db");
    contract::check(&DatabaseAddress::File(path.clone())).await;
    for name in ["t.db", "t.db.lock"] {
        let mode = path
            .with_file_name(name)
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_keeps_the_contract() {
    contract::check(&server(&PostgresServer::shared().new_database())).await;
}

#[tokio::test]
async fn what_is_no_database_is_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.db");
    std::fs::write(&path, "x".repeat(100)).unwrap();
    let error = contract::open(&DatabaseAddress::File(path))
        .await
        .unwrap_err();
    assert_eq!(error.failure(), Failure::Damaged, "{error:?}");
}

#[tokio::test]
async fn a_lock_is_waited_for_by_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let address = DatabaseAddress::File(directory.path().join("t.db"));
    let opening = Opening::take(&address, RULES.schema).await.unwrap();
    let lock = opening.file_lock().unwrap();
    assert_eq!(lock.path(), directory.path().join("t.db"));
    let file = std::fs::File::open(directory.path().join("t.db.lock")).unwrap();
    let taken = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
    assert!(taken.is_err());
    drop(opening);
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_away_is_found_again() {
    let postgres = PostgresServer::start();
    let address = server(&postgres.new_database());
    let database = contract::open(&address).await.unwrap();
    let count = || query("SELECT value FROM counter");
    count().fetch_one::<(i64,)>(&database).await.unwrap();
    postgres.stop();
    for error in [
        count().fetch_one::<(i64,)>(&database).await.unwrap_err(),
        count().fetch_one::<(i64,)>(&database).await.unwrap_err(),
        database.begin().await.unwrap_err(),
        contract::open(&address).await.unwrap_err(),
    ] {
        assert_eq!(error.failure(), Failure::Unreachable, "{error:?}");
    }
    postgres.start_again();
    assert_eq!(count().fetch_one::<(i64,)>(&database).await.unwrap(), (0,));
    let mut transaction = database.begin().await.unwrap();
    count().fetch_one::<(i64,)>(&mut transaction).await.unwrap();
    transaction.commit().await.unwrap();
}

/// The driver would try a port that refuses for as long as a connection is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_refuses_is_unreachable_soon() {
    let authority = Authority::new();
    let certificate = authority.server_pem();
    let postgres = PostgresServer::start_in_tls(&certificate.certificate, &certificate.key);
    let address = format!("{}?sslmode=require", postgres.tls_address("127.0.0.1"));
    let database = contract::open(&server(&address)).await.unwrap();
    postgres.stop();
    let started = std::time::Instant::now();
    let count = query("SELECT value FROM counter");
    for error in [
        count.fetch_one::<(i64,)>(&database).await.unwrap_err(),
        database.snapshot().await.unwrap_err(),
        database.begin().await.unwrap_err(),
        database.begin().await.unwrap_err(),
    ] {
        assert_eq!(error.failure(), Failure::Unreachable, "{error:?}");
    }
    // Of the 70 seconds that they would wait.
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join(".s.PGSQL.5432");
    drop(std::os::unix::net::UnixListener::bind(socket).unwrap());
    let address = format!("postgres://a@/n?host={}", directory.path().display());
    let readers = Readers::new(&server(&address), &RULES).unwrap();
    let error = query("SELECT 1")
        .fetch_one::<(i64,)>(&readers)
        .await
        .unwrap_err();
    assert_eq!(error.failure(), Failure::Unreachable, "{error:?}");
    let error = contract::open(&server(&address)).await.unwrap_err();
    assert_eq!(error.failure(), Failure::Unreachable, "{error:?}");
}

/// The one that commits knows it, and what it had begun is undone.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_does_not_outlive_its_server() {
    let postgres = PostgresServer::start();
    let address = server(&postgres.new_database());
    let database = contract::open(&address).await.unwrap();
    let mut transaction = database.begin().await.unwrap();
    let written = query("UPDATE counter SET value = 1")
        .execute(&mut transaction)
        .await;
    assert_eq!(written.unwrap(), 1);
    postgres.stop();
    postgres.start_again();
    let error = transaction.commit().await.unwrap_err();
    assert_eq!(error.failure(), Failure::Unreachable, "{error:?}");
    let (value,): (i64,) = query("SELECT value FROM counter")
        .fetch_one(&database)
        .await
        .unwrap();
    assert_eq!(value, 0);
}

#[tokio::test]
async fn a_server_that_refuses_is_told_apart() {
    let postgres = PostgresServer::shared();
    let name = postgres.new_database();
    let name = name.split(['/', '?']).nth(3).unwrap();
    let guarded = Server::parse(&postgres.address(GUARDED_USER, name)).unwrap();
    let wrong = guarded.clone().with_password("hunter2".to_owned().into());
    let right = guarded
        .clone()
        .with_password(GUARDED_PASSWORD.to_owned().into());
    let absent = Server::parse(&postgres.address(postgres_server::USER, "absent")).unwrap();
    for refused in [guarded, wrong, absent] {
        let error = contract::open(&DatabaseAddress::Server(refused))
            .await
            .unwrap_err();
        assert_eq!(error.failure(), Failure::Refused, "{error:?}");
        let shown = format!("{error} {:?} {error:?}", error.source());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let database = contract::open(&DatabaseAddress::Server(right.clone()))
        .await
        .unwrap();
    assert!(!format!("{database:?}").contains(GUARDED_PASSWORD));
    database.close().await;
    // Who may not make the schema may use the one that is there.
    postgres.sql(
        name,
        &format!("REVOKE CREATE ON DATABASE {name} FROM {GUARDED_USER}"),
    );
    contract::open(&DatabaseAddress::Server(right))
        .await
        .unwrap();
}

/// What others put into a schema that everybody may write to is not looked for.
#[tokio::test]
async fn tables_are_in_a_schema_of_their_own() {
    let postgres = PostgresServer::shared();
    let address = postgres.new_database();
    let name = address.split(['/', '?']).nth(3).unwrap();
    postgres.sql(
        name,
        "CREATE TABLE thing (x TEXT); CREATE TABLE decoy (x TEXT)",
    );
    let database = contract::open(&server(&address)).await.unwrap();
    let found = query("SELECT count(*) FROM thing WHERE colour IS NULL");
    found.fetch_one::<(i64,)>(&database).await.unwrap();
    let decoy = query("SELECT count(*) FROM decoy")
        .fetch_one::<(i64,)>(&database)
        .await;
    assert!(decoy.is_err(), "{decoy:?}");
    let schemas = "SELECT schemaname FROM pg_tables WHERE tablename = '_sqlx_migrations'";
    assert_eq!(postgres.sql(name, schemas), RULES.schema);
}

/// How far the server's log is written, and how far it is on the disk.
fn log(postgres: &PostgresServer) -> (u64, u64) {
    let asked = "SELECT pg_current_wal_insert_lsn() - '0/0', pg_current_wal_flush_lsn() - '0/0'";
    let answer = postgres.sql("postgres", asked);
    let (written, flushed) = answer.split_once('|').unwrap();
    (written.parse().unwrap(), flushed.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_as_durable_as_asked() {
    let postgres = PostgresServer::start();
    // Nothing is flushed but by a commit: neither by the clock nor by other work of the server's.
    for setting in ["wal_writer_delay = '10s'", "autovacuum = off"] {
        postgres.sql("postgres", &format!("ALTER SYSTEM SET {setting}"));
    }
    postgres.stop();
    postgres.start_again();
    let address = server(&postgres.new_database());
    let opening = Opening::take(&address, RULES.schema).await.unwrap();
    let mut writer = Writer::open(&opening, &RULES).await.unwrap();
    assert!(!writer.syncs_apart());

    let count = async |writer: &mut Writer, durability| {
        let mut transaction = writer.begin(durability).await.unwrap();
        let written = query("UPDATE counter SET value = value + 1");
        written.execute(&mut transaction).await.unwrap();
        transaction.commit().await.unwrap();
    };
    count(&mut writer, Durability::Disk).await;
    let (_, before) = log(&postgres);
    count(&mut writer, Durability::Process).await;
    let (written, flushed) = log(&postgres);
    assert!(
        before <= flushed && flushed < written,
        "{before} {flushed} {written}"
    );
    writer.sync().await.unwrap();
    assert!(log(&postgres).1 >= written);

    count(&mut writer, Durability::Process).await;
    let (written, flushed) = log(&postgres);
    assert!(flushed < written, "{flushed} {written}");
    count(&mut writer, Durability::Disk).await;
    assert!(log(&postgres).1 >= written);
    writer.close().await;
}

static COUNT: Statements = statements!(
    "UPDATE counter SET value = value + $1",
    "SELECT value FROM counter WHERE value > $2 AND value > $1",
);

/// What was begun and not ended is undone, and the next change has another connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_finds_its_server_again() {
    let postgres = PostgresServer::start();
    let address = server(&postgres.new_database());
    let opening = Opening::take(&address, RULES.schema).await.unwrap();
    let mut writer = Writer::open(&opening, &RULES).await.unwrap();
    let count = async |writer: &mut Writer| {
        let values = vec![Value::from(2_u32), Value::from(0_u32)];
        let rows = writer.run(&COUNT, values, Durability::Disk).await?;
        rows.first().map(|row| row.get::<i64>(0)).transpose()
    };
    assert_eq!(count(&mut writer).await.unwrap(), None);
    assert_eq!(count(&mut writer).await.unwrap(), Some(4));
    postgres.stop();
    for _ in 0..2 {
        let error = count(&mut writer).await.unwrap_err();
        assert_eq!(error.failure(), Failure::Unreachable, "{error:?}");
        let error = writer.sync().await.unwrap_err();
        assert_eq!(error.failure(), Failure::Unreachable, "{error:?}");
    }
    postgres.start_again();
    assert_eq!(count(&mut writer).await.unwrap(), Some(6));
    writer.sync().await.unwrap();
}

static FAIL: Statements =
    statements!("INSERT INTO thing (name, size) VALUES ('a', 1), ('a', 1) RETURNING name");
static WAIT: Statements = statements!("UPDATE counter SET value = 7", "SELECT pg_sleep(1)");

/// Whoever fails or goes away in the middle of a change holds nobody up.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_was_not_made_holds_nobody_up() {
    let postgres = PostgresServer::start();
    let address = server(&postgres.new_database());
    let opening = Opening::take(&address, RULES.schema).await.unwrap();
    let mut writer = Writer::open(&opening, &RULES).await.unwrap();
    let mut other = Writer::open(&opening, &RULES).await.unwrap();
    let values = || vec![Value::from(2_u32), Value::from(0_u32)];

    let failed = writer.run(&FAIL, Vec::new(), Durability::Disk).await;
    assert_eq!(failed.unwrap_err().failure(), Failure::Unique);
    let open = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'";
    assert_eq!(postgres.sql("postgres", open), "0");
    let changed = other.run(&COUNT, values(), Durability::Disk).await;
    assert!(changed.unwrap().is_empty());

    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let begun = async {
        while postgres.sql("postgres", sleeping) == "0" {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        waited = writer.run(&WAIT, Vec::new(), Durability::Disk) => panic!("{waited:?}"),
        () = begun => {}
    }
    let changed = other.run(&COUNT, values(), Durability::Disk).await;
    let value = changed.unwrap()[0].get::<i64>(0).unwrap();
    assert_eq!(value, 4, "what nobody waited for is undone");
}

/// A reader that was beginning to look sees what is there the next time.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_was_given_up_is_over() {
    let postgres = PostgresServer::start();
    let address = server(&postgres.new_database());
    let database = contract::open(&address).await.unwrap();
    let read = async || {
        let mut values = Vec::new();
        for _ in 0..8 {
            let read = query("SELECT value FROM counter").fetch_one(&database);
            let (value,): (i64,) = read.await.unwrap();
            values.push(value);
        }
        values
    };
    for value in 1..20_i64 {
        read().await;
        let mut looking = Box::pin(database.snapshot());
        let polled = std::future::poll_fn(|context| {
            std::task::Poll::Ready(looking.as_mut().poll(context).is_ready())
        });
        polled.await;
        drop(looking);
        read().await;
        let mut transaction = database.begin().await.unwrap();
        let written = query("UPDATE counter SET value = $1").bind(value);
        written.execute(&mut transaction).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(read().await, [value; 8]);
    }
}

/// One process has what is reserved, however often the server is started anew.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_reserved_is_one_processes() {
    let postgres = PostgresServer::start();
    let server = Server::parse(&postgres.new_database()).unwrap();
    let take = async |purpose: &str, holder: &str| {
        let taken = Reservation::take(&server, RULES.schema, purpose, holder).await;
        taken.unwrap()
    };
    let Reserved::Ours(first) = take("serve", "first").await else {
        panic!("nobody has it");
    };
    let Reserved::Theirs(holder) = take("serve", "second").await else {
        panic!("the first has it");
    };
    assert_eq!(holder.as_deref(), Some("first"));
    let Reserved::Ours(_other) = take("other", "second").await else {
        panic!("nobody has that");
    };
    drop(first);
    let Reserved::Ours(second) = taken_in_time(&take).await else {
        panic!("the first has ended");
    };
    // Somebody is there before the second finds the server again.
    postgres.stop();
    postgres.start_again();
    let Reserved::Ours(third) = take("serve", "third").await else {
        panic!("the server has forgotten the second");
    };
    assert_eq!(second.keep().await.as_deref(), Some("third"));
    // And who finds it again has it.
    let keeping = tokio::spawn(third.keep());
    postgres.stop();
    postgres.start_again();
    let holder = "SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
                  WHERE locktype = 'advisory'";
    while postgres.sql("postgres", holder) != "third" {
        tokio::task::yield_now().await;
    }
    assert!(!keeping.is_finished());
}

/// A server hears of the end of a connection a moment later.
async fn taken_in_time(take: &impl AsyncFn(&str, &str) -> Reserved) -> Reserved {
    loop {
        let taken = take("serve", "second").await;
        if let Reserved::Ours(_) = taken {
            return taken;
        }
    }
}

#[tokio::test]
async fn a_look_says_the_version_or_why_not() {
    let postgres = PostgresServer::shared();
    let server = Server::parse(&postgres.new_database()).unwrap();
    let version = server.look().await.unwrap();
    assert!(
        version.starts_with(|sign: char| sign.is_ascii_digit()),
        "{version}"
    );
    postgres.sql(
        "postgres",
        "CREATE DATABASE latin ENCODING LATIN1 TEMPLATE template0 LOCALE 'C'",
    );
    let latin = postgres.address(postgres_server::USER, "latin");
    let error = Server::parse(&latin).unwrap().look().await.unwrap_err();
    assert!(error.to_string().contains("LATIN1"), "{error}");
}

/// Whoever answers is asked for a certificate of the host that was named.
#[tokio::test(flavor = "multi_thread")]
async fn another_server_in_its_place_is_refused() {
    let authority = Authority::new();
    let certificate = authority.server_pem();
    let postgres = PostgresServer::start_in_tls(&certificate.certificate, &certificate.key);
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, authority: &Authority| {
        let path = directory.path().join(name);
        std::fs::write(&path, authority.pem()).unwrap();
        path.display().to_string()
    };
    let (ours, other) = (file("ours", &authority), file("other", &Authority::new()));
    for (host, settings, failure) in [
        (
            "127.0.0.1",
            format!("sslmode=verify-full&sslrootcert={ours}"),
            None,
        ),
        (
            "127.0.0.1",
            format!("sslmode=verify-full&sslrootcert={other}"),
            Some(Failure::Unreachable),
        ),
        (
            "127.0.0.1",
            "sslmode=verify-full".to_owned(),
            Some(Failure::Unreachable),
        ),
        (
            "127.0.0.2",
            format!("sslmode=verify-full&sslrootcert={ours}"),
            Some(Failure::Unreachable),
        ),
        (
            "127.0.0.2",
            format!("sslmode=verify-ca&sslrootcert={ours}"),
            None,
        ),
        (
            "127.0.0.2",
            format!("sslmode=verify-ca&sslrootcert={other}"),
            Some(Failure::Unreachable),
        ),
        ("127.0.0.2", "sslmode=require".to_owned(), None),
        (
            "127.0.0.1",
            "sslmode=disable".to_owned(),
            Some(Failure::Refused),
        ),
    ] {
        let address = format!("{}?{settings}", postgres.tls_address(host));
        let looked = Server::parse(&address).unwrap().look().await;
        let found = looked.as_ref().err().map(DatabaseError::failure);
        assert_eq!(found, failure, "{address}: {looked:?}");
    }
    // One that says that it has no TLS gets nothing in the clear.
    postgres.sql("postgres", "ALTER SYSTEM SET ssl = off");
    postgres.stop();
    postgres.start_again();
    for mode in ["require", "verify-full"] {
        let address = format!("{}?sslmode={mode}", postgres.tls_address("127.0.0.1"));
        let error = Server::parse(&address).unwrap().look().await.unwrap_err();
        assert_eq!(error.failure(), Failure::Unreachable, "{error:?}");
    }
}

#[tokio::test]
async fn a_copy_is_of_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let database = contract::open(&DatabaseAddress::File(directory.path().join("t.db")))
        .await
        .unwrap();
    assert!(database.is_file());
    let copy = directory.path().join("copy.db");
    database.copy_to(&copy).await.unwrap();
    copied(&copy).await;
    let address = PostgresServer::shared().new_database();
    let database = contract::open(&server(&address)).await.unwrap();
    let error = database.copy_to(&copy).await.unwrap_err();
    assert!(
        matches!(error, DatabaseError::Unsuitable { .. }),
        "{error:?}"
    );
}

async fn copied(path: &Path) {
    let opening = Opening::take(&DatabaseAddress::File(path.to_owned()), RULES.schema)
        .await
        .unwrap();
    let database = Database::open(&opening, &RULES).await.unwrap();
    query("SELECT value FROM counter")
        .fetch_one::<(i64,)>(&database)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_unchanged_file_is_read_and_nothing_is_made_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    let original = directory.path().join("t.db");
    let copy = directory.path().join("copy/t.db");
    std::fs::create_dir(copy.parent().unwrap()).unwrap();
    let database = contract::open(&DatabaseAddress::File(original))
        .await
        .unwrap();
    database.copy_to(&copy).await.unwrap();
    let unchanged = Readers::of_unchanged(&copy);
    let mut snapshot = unchanged.snapshot().await.unwrap();
    let read = query("SELECT value FROM counter").fetch_one(&mut snapshot);
    let (value,): (i64,) = read.await.unwrap();
    assert_eq!(value, 0);
    drop(snapshot);
    let update = query("UPDATE counter SET value = 1").execute(&unchanged);
    update.await.unwrap_err();
    unchanged.close().await;
    let names = std::fs::read_dir(copy.parent().unwrap()).unwrap();
    assert_eq!(names.count(), 1);
}

/// Of the versions of a row that a table has on a server, the one that counts is left.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_overwritten_on_a_server_is_given_up() {
    let postgres = PostgresServer::shared();
    let address = postgres.new_database();
    let database = contract::open(&server(&address)).await.unwrap();
    let name = address.split(['/', '?']).nth(3).unwrap();
    postgres.sql(name, "CREATE EXTENSION pageinspect");
    let versions = || {
        let page = "get_raw_page('holdfast_test.counter', 0)";
        let items = format!("heap_page_items({page}) WHERE t_data IS NOT NULL");
        postgres.sql(name, &format!("SELECT count(*) FROM {items}"))
    };
    for value in 0..3_i64 {
        let mut transaction = database.begin().await.unwrap();
        let updated = query("UPDATE counter SET value = $1").bind(value);
        updated.execute(&mut transaction).await.unwrap();
        transaction.commit().await.unwrap();
    }
    assert_ne!(versions(), "1");
    database.clear_deleted(&["thing", "counter"]).await;
    assert_eq!(versions(), "1");
    database.clear_deleted(&["no_such_table"]).await;
    database.begin().await.unwrap();
}
