//! One SQLite file that several processes open at once.
//!
//! Each process has one writer, whose transactions begin as `BEGIN IMMEDIATE` so that they wait
//! for each other instead of failing half-way, and a few readers. Opening is serialised between
//! processes by a lock file: the switch to WAL, the migrations and the first rows must not race.
//! `control-store` opens its own file by the same rules; the two crates are of one layer and
//! share no lower one that knows SQL, so this much stands in both.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, SqlSafeStr, Sqlite, SqliteConnection, Transaction,
};

use crate::error::{Doing, VaultError};

/// How long a writer waits for the writer of another process. Transactions here take
/// milliseconds; longer means that the machine is in trouble, and saying so is better.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long readers are waited for when the log is to be emptied. They take milliseconds, but for a
/// look at everything or one that waits for a keeper.
const TRUNCATE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long to wait while another process opens, migrates or rotates the root key.
const OPENING_TIMEOUT: Duration = Duration::from_mins(1);
/// Readers of one process: enough that a listing does not hold up a start.
const READER_LIMIT: u32 = 4;

const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "vault", include_str!("../migrations/0001_vault.sql")),
    (
        2,
        "rotation",
        include_str!("../migrations/0002_rotation.sql"),
    ),
    (
        3,
        "in_clear",
        include_str!("../migrations/0003_in_clear.sql"),
    ),
    (4, "leases", include_str!("../migrations/0004_leases.sql")),
];

/// Held while the files of one vault are being made, opened or replaced.
#[derive(Debug)]
pub(crate) struct OpeningLock {
    database: PathBuf,
    file: File,
}

impl OpeningLock {
    /// Waits for other processes that open the same database.
    pub(crate) async fn take(database: &Path) -> Result<Self, VaultError> {
        let database = database.to_owned();
        let path = sibling(&database, ".lock");
        let subject = path.display().to_string();
        let locking = tokio::task::spawn_blocking(move || -> io::Result<Self> {
            make_parent(&path)?;
            let file = private_file(&path)?;
            flock(&file, FlockOperation::LockExclusive)?;
            Ok(Self { database, file })
        });
        match tokio::time::timeout(OPENING_TIMEOUT, locking).await {
            Ok(joined) => joined
                .expect("the locking task does not panic")
                .map_err(|source| VaultError::Io { subject, source }),
            Err(_elapsed) => Err(VaultError::Busy { subject }),
        }
    }

    pub(crate) fn database(&self) -> &Path {
        &self.database
    }

    /// The directory of the vault.
    pub(crate) fn data(&self) -> &Path {
        parent(&self.database)
    }

    /// The locked file. Whoever is given it too holds the lock until both have closed it.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The writer and the readers of one file.
#[derive(Debug)]
pub(crate) struct Database {
    writer: SqlitePool,
    reader: SqlitePool,
}

impl Database {
    /// Opens the file, makes it when it is not there, and brings its tables up to date.
    pub(crate) async fn open(lock: &OpeningLock) -> Result<Self, VaultError> {
        let path = lock.database();
        private_file(path).map_err(|source| VaultError::Io {
            subject: path.display().to_string(),
            source,
        })?;
        let writer = pool(1)
            .after_release(|connection, _| Box::pin(has_no_transaction(connection)))
            .connect_with(writer_options(path))
            .await
            .doing("opening the vault")?;
        migrate(&writer).await?;
        let reader = pool(READER_LIMIT).connect_lazy_with(options(path).read_only(true));
        Ok(Self { writer, reader })
    }

    pub(crate) fn reader(&self) -> &SqlitePool {
        &self.reader
    }

    /// A transaction that holds the write lock from its first statement.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Sqlite>, VaultError> {
        self.writer
            .begin_with("BEGIN IMMEDIATE")
            .await
            .doing("waiting to write")
    }

    /// The one writing connection, for statements that cannot be in a transaction.
    pub(crate) fn writer(&self) -> &SqlitePool {
        &self.writer
    }

    /// Moves the log into the file and empties it, so that erased pages do not linger there. Who
    /// reads for long holds this up, and this the writer, so not for long; the next one catches up.
    pub(crate) async fn truncate_log(&self) {
        let Ok(mut writer) = self.writer.acquire().await else {
            return;
        };
        for statement in [
            format!("PRAGMA busy_timeout = {}", TRUNCATE_TIMEOUT.as_millis()),
            "PRAGMA wal_checkpoint(TRUNCATE)".to_owned(),
            format!("PRAGMA busy_timeout = {}", BUSY_TIMEOUT.as_millis()),
        ] {
            let _busy = sqlx::query(AssertSqlSafe(statement))
                .execute(&mut *writer)
                .await;
        }
    }

    pub(crate) async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }
}

/// The path with something appended to its file name.
pub(crate) fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(parent(path))?.sync_all()
}

pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn make_parent(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(parent(path))
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

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .pragma("trusted_schema", "OFF")
        .pragma("secure_delete", "ON")
        .disable_statement_logging()
}

fn writer_options(path: &Path) -> SqliteConnectOptions {
    options(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
}

fn pool(limit: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(limit)
        .acquire_timeout(BUSY_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
}

/// Whether what was begun on it has ended: where SQLite ended it, as on a full disk, the connection
/// counts it as open for ever and begins no other. Such a one is closed.
async fn has_no_transaction(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    // After what was told it and not waited for.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

async fn migrate(writer: &SqlitePool) -> Result<(), VaultError> {
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
        .map_err(|source| VaultError::Migration { source })?;
    transaction.commit().await.doing("committing a migration")
}
