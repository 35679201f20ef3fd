//! The one connection that writes, and its log on the disk.
//!
//! SQLite would sync its log within a commit; here that is done afterwards, and only for who asks:
//! a change is there for all others, and survives the end of this process, while the disk works.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

/// A connection that is opened anew after it has failed.
#[derive(Debug)]
pub(super) struct Writer {
    options: SqliteConnectOptions,
    connection: Option<SqliteConnection>,
    log: PathBuf,
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
    pub(super) async fn sync(&self) -> Result<(), sqlx::Error> {
        let log = self.log.clone();
        let synced = tokio::task::spawn_blocking(move || sync(&log)).await;
        let synced = synced.map_err(io::Error::other).flatten();
        synced.map_err(sqlx::Error::Io)
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
