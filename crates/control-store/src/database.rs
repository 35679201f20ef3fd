//! One SQLite file that several processes open at once.
//!
//! Each process has one connection that writes, whose transactions begin as `BEGIN IMMEDIATE` so
//! that they wait for those of others instead of failing half-way, and a few that read. Opening is
//! serialised between processes by a lock file: the switch to WAL and the migrations must not race.
//! `vault` opens its own file by the same rules; the two crates are of one layer and share no lower
//! one that knows SQL, so this much stands in both.

mod group;
mod often;
mod statements;
mod writer;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, SqlSafeStr, SqliteConnection};

use crate::error::{Doing, StoreError};

use self::group::Group;
pub(crate) use self::often::OftenAsked;
pub(crate) use self::statements::{Bound, Statements, statements};
use self::writer::Writer;

/// How long a writer waits for the writer of another process. Transactions here take
/// milliseconds; longer means that the machine is in trouble, and saying so is better.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait while another process opens or migrates.
const OPENING_TIMEOUT: Duration = Duration::from_mins(1);
/// Readers of one process: enough that a listing does not hold up a start.
const READER_LIMIT: u32 = 4;

const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "control", include_str!("../migrations/0001_control.sql")),
    (
        2,
        "functions",
        include_str!("../migrations/0002_functions.sql"),
    ),
    (3, "builds", include_str!("../migrations/0003_builds.sql")),
    (4, "calls", include_str!("../migrations/0004_calls.sql")),
    (
        5,
        "deliveries",
        include_str!("../migrations/0005_deliveries.sql"),
    ),
    (6, "shares", include_str!("../migrations/0006_shares.sql")),
];

/// The writer and the readers of one file.
#[derive(Debug)]
pub(crate) struct Database {
    reader: SqlitePool,
    often: OftenAsked,
    group: Group,
}

impl Database {
    /// Opens the file, makes it when it is not there, and brings its tables up to date.
    pub(crate) async fn open(path: &Path) -> Result<Self, StoreError> {
        let _opening = take_opening_lock(path).await?;
        private_file(path).map_err(|source| io_error(path, source))?;
        let options = writer_options(path);
        let mut writer = options.connect().await.doing("opening it")?;
        migrate(&mut writer).await?;
        Ok(Self {
            reader: readers(path),
            often: OftenAsked::new(reader_options(path)),
            group: Group::new(Writer::new(path, options, writer)),
        })
    }

    pub(crate) fn reader(&self) -> &SqlitePool {
        &self.reader
    }

    /// For what every request asks.
    pub(crate) fn often(&self) -> &OftenAsked {
        &self.often
    }

    pub(crate) async fn close(&self) {
        self.reader.close().await;
        self.often.close().await;
        self.group.close().await;
    }
}

async fn take_opening_lock(database: &Path) -> Result<File, StoreError> {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    let path = PathBuf::from(name);
    let subject = path.display().to_string();
    let locking = tokio::task::spawn_blocking(move || -> io::Result<File> {
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            let mut builder = std::fs::DirBuilder::new();
            builder.recursive(true).mode(0o700).create(parent)?;
        }
        let file = private_file(&path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    });
    match tokio::time::timeout(OPENING_TIMEOUT, locking).await {
        Ok(joined) => joined
            .expect("the locking task does not panic")
            .map_err(|source| StoreError::Io { subject, source }),
        Err(_elapsed) => Err(StoreError::Busy { subject }),
    }
}

/// Opens or makes a file that only its owner can read; SQLite gives its log the same mode.
fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn io_error(path: &Path, source: io::Error) -> StoreError {
    StoreError::Io {
        subject: path.display().to_string(),
        source,
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .pragma("trusted_schema", "OFF")
        .disable_statement_logging()
}

/// `NORMAL` loses at most the last transactions when the machine loses power, and never order
/// among them. Who must not lose any has the log synced after its commit.
fn writer_options(path: &Path) -> SqliteConnectOptions {
    options(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
}

fn reader_options(path: &Path) -> SqliteConnectOptions {
    options(path).read_only(true)
}

fn readers(path: &Path) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(READER_LIMIT)
        .acquire_timeout(BUSY_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        // A file does not hang up; asking whether it has is a turn of the connection's thread.
        .test_before_acquire(false)
        .connect_lazy_with(reader_options(path))
}

async fn migrate(writer: &mut SqliteConnection) -> Result<(), StoreError> {
    let migrations = MIGRATIONS.iter().map(|(version, name, sql)| {
        let kind = MigrationType::Simple;
        Migration::new(*version, (*name).into(), kind, sql.into_sql_str(), false)
    });
    let migrator = Migrator::with_migrations(migrations.collect());
    let mut transaction = writer
        .begin_with("BEGIN IMMEDIATE")
        .await
        .doing("waiting to migrate")?;
    migrator
        .run_direct(None, &mut *transaction, false)
        .await
        .map_err(|source| StoreError::Migration { source })?;
    transaction.commit().await.doing("committing a migration")
}
