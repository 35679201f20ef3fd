//! The one connection that writes, and its log on the disk.
//!
//! SQLite would sync its log within a commit; here that is done afterwards, and only for who asks:
//! a change is there for all others, and survives the end of this process, while the disk works.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection};

/// A connection that is opened anew after it has failed.
#[derive(Debug)]
pub(super) struct Writer {
    options: SqliteConnectOptions,
    connection: Option<SqliteConnection>,
    log: PathBuf,
    /// A sync has failed. What it was to write counts as written to the kernel, and no further sync
    /// of the log would try it again.
    is_suspect: bool,
}

impl Writer {
    /// Of the database at this path.
    pub(super) fn new(
        path: &Path,
        options: SqliteConnectOptions,
        connection: SqliteConnection,
    ) -> Self {
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        Self {
            options,
            connection: Some(connection),
            log: log.into(),
            is_suspect: false,
        }
    }

    pub(super) async fn connection(&mut self) -> Result<&mut SqliteConnection, sqlx::Error> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        Ok(self.connection.insert(connection))
    }

    /// Has what was committed survive a power cut.
    pub(super) async fn sync(&mut self) -> Result<(), sqlx::Error> {
        if self.is_suspect {
            self.checkpoint().await?;
            self.is_suspect = false;
            return Ok(());
        }
        let log = self.log.clone();
        let synced = tokio::task::spawn_blocking(move || sync(&log)).await;
        let synced = synced.map_err(io::Error::other).flatten();
        self.is_suspect = synced.is_err();
        synced.map_err(sqlx::Error::Io)
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

    /// Lets the connection go, and with it a transaction that it did not end.
    pub(super) async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            // Its thread ends in any case.
            let _ = connection.close().await;
        }
    }
}

/// Opened each time, since the last connection that closes removes the log and the next makes
/// another. What was in one that is gone is in the database, which was synced before.
fn sync(log: &Path) -> io::Result<()> {
    match File::open(log) {
        Ok(log) => log.sync_data(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Executor;

    use super::*;

    #[tokio::test]
    async fn after_a_failed_sync_the_database_itself_is_written() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("state.db");
        let options = crate::database::writer_options(&path).create_if_missing(true);
        let connection = options.connect().await.unwrap();
        let mut writer = Writer::new(&path, options, connection);
        let connection = writer.connection().await.unwrap();
        connection.execute("CREATE TABLE t (x)").await.unwrap();
        writer.sync().await.unwrap();
        let before = path.metadata().unwrap().len();
        let log = std::mem::replace(&mut writer.log, "/dev/null/log".into());
        writer.sync().await.unwrap_err();
        writer.log = log;
        writer.sync().await.unwrap();
        assert!(path.metadata().unwrap().len() > before);
        assert!(!writer.is_suspect);
        writer.close().await;
    }
}
