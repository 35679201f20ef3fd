//! The connection that writes to a file, and that file's log on the disk.
//!
//! SQLite would sync its log within a commit; here that is done afterwards, and only for who asks.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, Row as _, Sqlite, SqliteConnection};

use super::on_file;
use crate::database::Rules;
use crate::error::DatabaseError;
use crate::query::Query;
use crate::row::Row;
use crate::sqlite;

#[derive(Debug)]
pub(super) struct FileWriter {
    options: SqliteConnectOptions,
    connection: Option<SqliteConnection>,
    log_path: PathBuf,
    log: Option<File>,
    /// Something that was to be synced may not have been: a sync failed, here or in a process
    /// before this one. What it was to write counts as written to the kernel, and no further sync
    /// of the log would try it again.
    is_suspect: bool,
}

impl FileWriter {
    pub(super) async fn open(path: &Path, rules: &Rules) -> Result<Self, DatabaseError> {
        sqlite::make(path)?;
        let options = sqlite::writer_options(path, rules);
        let mut connection = options.connect().await?;
        sqlite::migrate(&mut connection, rules).await?;
        let mut log_path = path.as_os_str().to_owned();
        log_path.push("-wal");
        Ok(Self {
            options,
            connection: Some(connection),
            log_path: log_path.into(),
            log: None,
            is_suspect: true,
        })
    }

    pub(super) async fn begin(&mut self) -> Result<sqlx::Transaction<'_, Sqlite>, sqlx::Error> {
        self.connection().await?.begin_with(sqlite::BEGIN).await
    }

    /// Runs statements of a text that begins and ends a transaction.
    pub(super) async fn run(&mut self, query: Query) -> Result<Vec<Row>, DatabaseError> {
        let connection = self.connection().await?;
        let rows = query.fetch_all(&mut on_file(connection)).await;
        // An error where SQLite has done it already, as on a full disk: whatever is wrong with the
        // connection, another one is made.
        if rows.is_err() && connection.execute("ROLLBACK").await.is_err() {
            self.close().await;
        }
        rows
    }

    async fn connection(&mut self) -> Result<&mut SqliteConnection, sqlx::Error> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        Ok(self.connection.insert(connection))
    }

    /// Has what was committed survive a power cut.
    pub(super) async fn sync(&mut self) -> Result<(), sqlx::Error> {
        if self.is_suspect {
            if let Err(error) = self.checkpoint().await {
                // Whatever is wrong with the connection, the next try has another one.
                self.close().await;
                return Err(error);
            }
            self.log = open(&self.log_path).map_err(sqlx::Error::Io)?;
            self.is_suspect = false;
            return Ok(());
        }
        let synced = self.sync_log().await;
        self.is_suspect = synced.is_err();
        synced.map_err(sqlx::Error::Io)
    }

    /// Syncs the log that is held: a failure to write is told once to each who had the file open
    /// then, and SQLite, which has it open too, passes over what it is told.
    async fn sync_log(&mut self) -> io::Result<()> {
        let (held, path) = (self.log.take(), self.log_path.clone());
        let synced = tokio::task::spawn_blocking(move || {
            let log = match held {
                Some(log) if is_at(&log, &path)? => Some(log),
                // The last connection that closes removes the log, after the database was synced,
                // and the next one makes another.
                _ => open(&path)?,
            };
            if let Some(log) = &log {
                log.sync_data()?;
            }
            Ok(log)
        });
        self.log = synced.await.map_err(io::Error::other).flatten()?;
        Ok(())
    }

    /// Writes all of the log into the database and syncs that.
    async fn checkpoint(&mut self) -> Result<(), sqlx::Error> {
        let connection = self.connection().await?;
        let row = sqlx::query("PRAGMA wal_checkpoint(FULL)");
        let row = row.fetch_one(connection).await?;
        match row.try_get(0)? {
            0 => Ok(()),
            _busy => Err(sqlx::Error::Io(io::ErrorKind::ResourceBusy.into())),
        }
    }

    pub(super) async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            // Its thread ends in any case.
            let _ = connection.close().await;
        }
    }
}

fn open(log: &Path) -> io::Result<Option<File>> {
    match File::open(log) {
        Ok(log) => Ok(Some(log)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether this file is the one at the path.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let there = match path.metadata() {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let held = file.metadata()?;
    Ok((held.dev(), held.ino()) == (there.dev(), there.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::RULES;
    use crate::database::Durability;

    async fn writer(path: &Path) -> FileWriter {
        let rules = Rules {
            durability: Durability::Process,
            ..RULES
        };
        FileWriter::open(path, &rules).await.unwrap()
    }

    #[tokio::test]
    async fn the_first_sync_and_one_after_a_failure_write_the_database_itself() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("state.db");
        let length = || path.metadata().unwrap().len();
        let mut writer = writer(&path).await;
        let before = length();
        writer.sync().await.unwrap();
        let first = length();
        assert!(first > before);

        let connection = writer.connection().await.unwrap();
        connection.execute("CREATE TABLE u (x)").await.unwrap();
        writer.sync().await.unwrap();
        assert_eq!(length(), first, "the log alone");

        let log = std::mem::replace(&mut writer.log_path, "/dev/null/log".into());
        writer.sync().await.unwrap_err();
        writer.log_path = log;
        writer.sync().await.unwrap();
        assert!(length() > first);
        writer.close().await;
    }

    #[tokio::test]
    async fn the_log_is_held_and_another_is_opened_where_there_is_another() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("state.db");
        let mut writer = writer(&path).await;
        writer.sync().await.unwrap();
        writer.sync().await.unwrap();
        let held = writer.log.as_ref().unwrap().metadata().unwrap().ino();
        assert_eq!(held, writer.log_path.metadata().unwrap().ino());
        writer.close().await;
        assert!(!writer.log_path.exists(), "the last connection removes it");
        writer.sync().await.unwrap();
        assert!(writer.log.is_none());
        let connection = writer.connection().await.unwrap();
        connection.execute("CREATE TABLE u (x)").await.unwrap();
        writer.sync().await.unwrap();
        let held = writer.log.as_ref().unwrap();
        assert!(is_at(held, &writer.log_path).unwrap());
        writer.close().await;
    }
}
