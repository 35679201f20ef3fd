//! The store in one SQLite file, for one machine.

mod containers;
mod grants;
mod images;
mod layers;
mod objects;
mod shares;
mod stubs;
mod tasks;
mod tokens;
mod workers;
mod workspaces;

use std::path::Path;

use jiff::Timestamp;
use reference::Digest;

use crate::database::Database;
use crate::error::StoreError;
use crate::store::{ControlStore, StoreFuture};

/// A control store in an SQLite file that several processes use at once.
#[derive(Debug)]
pub struct SqliteStore {
    database: Database,
}

impl SqliteStore {
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let database = Database::open(path).await?;
        Ok(Self { database })
    }

    pub async fn close(&self) {
        self.database.close().await;
    }
}

impl ControlStore for SqliteStore {
    fn sync(&self) -> StoreFuture<'_, ()> {
        Box::pin(self.database.sync())
    }
}

pub(crate) fn check_length(
    what: &'static str,
    length: usize,
    limit: usize,
) -> Result<(), StoreError> {
    if length <= limit {
        return Ok(());
    }
    Err(StoreError::TooLong {
        what,
        length,
        limit,
    })
}

/// A text of a row as what it must be.
pub(crate) fn parsed<T>(table: &'static str, text: &str) -> Result<T, StoreError>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse()
        .map_err(|error: T::Err| damaged(table, error.to_string()))
}

pub(crate) fn digest(table: &'static str, text: &str) -> Result<Digest, StoreError> {
    Digest::parse(text).map_err(|error| damaged(table, error.to_string()))
}

pub(crate) fn damaged(table: &'static str, problem: String) -> StoreError {
    StoreError::Damaged { table, problem }
}

pub(crate) fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

/// A stored time. Whatever stands in a damaged row becomes the nearest time there is.
pub(crate) fn timestamp(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(if milliseconds < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use ids::{WorkspaceId, WorkspaceName};

    use super::*;
    use crate::workspaces::WorkspaceRecords;

    #[tokio::test(flavor = "multi_thread")]
    async fn sqlite_keeps_the_contract() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data/state.db");
        let store = Arc::new(SqliteStore::open(&path).await.unwrap());
        crate::contract::check(Arc::clone(&store) as Arc<dyn ControlStore>).await;
        store.close().await;
        let again = SqliteStore::open(&path).await.unwrap();
        assert_eq!(again.workspaces().await.unwrap().len(), 3);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    /// Several stores on one file, as several processes would have them, made at the same time.
    #[tokio::test(flavor = "multi_thread")]
    async fn stores_open_one_file_together() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.db");
        let opened = (0..6).map(|_| {
            let path = path.clone();
            tokio::spawn(async move {
                let store = SqliteStore::open(&path).await.unwrap();
                let name = WorkspaceName::default();
                store
                    .ensure_workspace(&name, WorkspaceId::new())
                    .await
                    .unwrap()
                    .id
            })
        });
        let mut ids = Vec::new();
        for task in opened.collect::<Vec<_>>() {
            ids.push(task.await.unwrap());
        }
        assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "{ids:?}");
    }

    #[tokio::test]
    async fn what_is_not_a_store_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.db");
        std::fs::write(
            &path,
            "this is not a database, and longer than a header of one",
        )
        .unwrap();
        let error = SqliteStore::open(&path).await.unwrap_err();
        assert_eq!(error.kind(), "storage");
    }
}
