//! The store in SQL: one SQLite file, for one machine, or a PostgreSQL server.

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

use database::DatabaseAddress;
use jiff::Timestamp;
use reference::Digest;

use crate::database::Database;
use crate::error::StoreError;
use crate::store::{ControlStore, StoreFuture};

/// A control store in a database that several processes use at once.
#[derive(Debug)]
pub struct SqlStore {
    database: Database,
}

impl SqlStore {
    pub async fn open(address: &DatabaseAddress) -> Result<Self, StoreError> {
        let database = Database::open(address).await?;
        Ok(Self { database })
    }

    pub async fn close(&self) {
        self.database.close().await;
    }
}

impl ControlStore for SqlStore {
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

/// A text of others that is to be kept whatever stands in it: a server keeps every sign but one.
pub(crate) fn keepable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
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

    use database::Server;
    use ids::{WorkspaceId, WorkspaceName};
    use postgres_server::PostgresServer;

    use super::*;
    use crate::workspaces::WorkspaceRecords;

    fn server(postgres: &PostgresServer) -> DatabaseAddress {
        DatabaseAddress::Server(Server::parse(&postgres.new_database()).unwrap())
    }

    async fn keeps_the_contract(address: &DatabaseAddress) {
        let store = Arc::new(SqlStore::open(address).await.unwrap());
        crate::contract::check(Arc::clone(&store) as Arc<dyn ControlStore>).await;
        store.sync().await.unwrap();
        store.close().await;
        let again = SqlStore::open(address).await.unwrap();
        assert_eq!(again.workspaces().await.unwrap().len(), 3);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn sqlite_keeps_the_contract() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data/state.db");
        keeps_the_contract(&DatabaseAddress::File(path.clone())).await;
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn postgresql_keeps_the_contract() {
        keeps_the_contract(&server(PostgresServer::shared())).await;
    }

    /// Several stores on one database, as several processes would have them, made at the same time.
    async fn stores_open_it_together(address: &DatabaseAddress) {
        let opened = (0..6).map(|_| {
            let address = address.clone();
            tokio::spawn(async move {
                let store = SqlStore::open(&address).await.unwrap();
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

    #[tokio::test(flavor = "multi_thread")]
    async fn stores_open_one_file_together() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.db");
        stores_open_it_together(&DatabaseAddress::File(path)).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn stores_open_one_server_together() {
        stores_open_it_together(&server(PostgresServer::shared())).await;
    }

    /// What was accepted is there afterwards, and what was not says why.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_store_finds_its_server_again() {
        let postgres = PostgresServer::start();
        let store = SqlStore::open(&server(&postgres)).await.unwrap();
        let ensure = async |name: &str| {
            let name = WorkspaceName::parse(name).unwrap();
            store.ensure_workspace(&name, WorkspaceId::new()).await
        };
        let made = ensure("one").await.unwrap();
        store.sync().await.unwrap();
        postgres.stop();
        for error in [
            ensure("two").await.unwrap_err(),
            store.workspaces().await.unwrap_err(),
            store.sync().await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), "unreachable", "{error:?}");
            assert!(error.may_pass() && error.hint().is_some());
        }
        postgres.start_again();
        let two = ensure("two").await.unwrap();
        assert_eq!(store.workspaces().await.unwrap(), [made, two]);
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
        let error = SqlStore::open(&DatabaseAddress::File(path))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), "storage");
    }
}
