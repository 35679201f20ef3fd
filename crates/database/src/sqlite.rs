//! One SQLite file that several processes open at once.
//!
//! Each process has one connection that writes, whose transactions begin as `BEGIN IMMEDIATE` so
//! that they wait for those of others instead of failing half-way, and a few that read.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection};

use crate::database::{Durability, Rules};
use crate::error::DatabaseError;
use crate::migration;
use crate::opening::private_file;

/// How long a writer waits for the writer of another process. Transactions here take
/// milliseconds; longer means that the machine is in trouble, and saying so is better.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long readers are waited for when the log is to be emptied. They take milliseconds, but for a
/// look at everything or one that waits for a keeper.
const TRUNCATE_TIMEOUT: Duration = Duration::from_millis(500);
/// Readers of one process: enough that a listing does not hold up a start.
const READER_LIMIT: u32 = 4;

/// How a transaction begins that writes.
pub(crate) const BEGIN: &str = "BEGIN IMMEDIATE";

/// The connection that writes, for many who wait for each other, its tables up to date.
pub(crate) async fn writer_pool(path: &Path, rules: &Rules) -> Result<SqlitePool, DatabaseError> {
    make(path)?;
    let pool = pool(1)
        .after_release(|connection, _| Box::pin(has_no_transaction(connection)))
        .connect_with(writer_options(path, rules))
        .await?;
    migrate(&mut *pool.acquire().await?, rules).await?;
    Ok(pool)
}

/// Makes the file when there is none.
pub(crate) fn make(path: &Path) -> Result<(), DatabaseError> {
    private_file(path).map_err(|source| DatabaseError::Io {
        subject: path.display().to_string(),
        source,
    })?;
    Ok(())
}

pub(crate) async fn migrate(
    writer: &mut SqliteConnection,
    rules: &Rules,
) -> Result<(), DatabaseError> {
    let migrator = migration::for_sqlite(rules.migrations);
    let mut transaction = writer.begin_with(BEGIN).await?;
    migrator
        .run_direct(None, &mut *transaction, false)
        .await
        .map_err(|source| DatabaseError::Migration { source })?;
    transaction.commit().await?;
    Ok(())
}

pub(crate) fn readers(options: SqliteConnectOptions) -> SqlitePool {
    pool(READER_LIMIT)
        // A file does not hang up; asking whether it has is a turn of the connection's thread.
        .test_before_acquire(false)
        .connect_lazy_with(options)
}

/// Of a file that nobody changes, so that nothing is made beside it.
pub(crate) fn unchanged(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .immutable(true)
        .disable_statement_logging()
}

fn options(path: &Path, rules: &Rules) -> SqliteConnectOptions {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .pragma("trusted_schema", "OFF")
        .disable_statement_logging();
    if rules.overwrites_deleted {
        options.pragma("secure_delete", "ON")
    } else {
        options
    }
}

/// `NORMAL` loses at most the last transactions when the machine loses power, and never order
/// among them. Who must not lose any has the log synced after its commit.
pub(crate) fn writer_options(path: &Path, rules: &Rules) -> SqliteConnectOptions {
    let synchronous = match rules.durability {
        Durability::Process => SqliteSynchronous::Normal,
        Durability::Disk => SqliteSynchronous::Full,
    };
    options(path, rules)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
}

pub(crate) fn reader_options(path: &Path, rules: &Rules) -> SqliteConnectOptions {
    options(path, rules).read_only(true)
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

pub(crate) async fn copy(writer: &SqlitePool, path: &Path) -> Result<(), DatabaseError> {
    let path = path.to_str().ok_or_else(|| DatabaseError::Unsuitable {
        database: path.display().to_string(),
        problem: "has a name that is no text".to_owned(),
    })?;
    let copying = sqlx::query("VACUUM INTO $1").bind(path.to_owned());
    copying.execute(writer).await?;
    Ok(())
}

pub(crate) async fn truncate_log(writer: &SqlitePool) {
    let Ok(mut writer) = writer.acquire().await else {
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
