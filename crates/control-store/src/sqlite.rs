//! The store in one SQLite file, for one machine.

mod grants;
mod images;
mod layers;

use std::path::Path;

use ids::{SecretId, WorkspaceId, WorkspaceName};
use jiff::Timestamp;
use reference::Digest;

use crate::database::Database;
use crate::error::{Doing, StoreError};
use crate::model::{
    Grant, GrantOutcome, Image, ImageAlias, NewGrant, Publication, RegistrySettings, Workspace,
};
use crate::store::{ControlStore, StoreFuture};

/// Largest CA bundle. The whole set that browsers trust is near 220 KB.
const CA_LIMIT: usize = 1024 * 1024;
/// Longest token service: a host and a port.
const TOKEN_SERVICE_LIMIT: usize = 512;

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

    async fn ensure_workspace_now(
        &self,
        name: &WorkspaceName,
        proposed: WorkspaceId,
    ) -> Result<Workspace, StoreError> {
        if let Some(workspace) = self.workspace_of(name).await? {
            return Ok(workspace);
        }
        let mut transaction = self.database.begin().await?;
        sqlx::query(
            "INSERT INTO workspace (workspace_id, name, created_at) VALUES (?1, ?2, ?3)
             ON CONFLICT DO NOTHING",
        )
        .bind(proposed.to_string())
        .bind(name.as_str())
        .bind(now_ms())
        .execute(&mut *transaction)
        .await
        .doing("making a workspace")?;
        transaction.commit().await.doing("committing a workspace")?;
        self.workspace_of(name)
            .await?
            .ok_or_else(|| damaged("workspace", format!("{name} shares its id with another")))
    }

    async fn workspace_of(&self, name: &WorkspaceName) -> Result<Option<Workspace>, StoreError> {
        let row: Option<(String, String, i64)> =
            sqlx::query_as("SELECT workspace_id, name, created_at FROM workspace WHERE name = ?1")
                .bind(name.as_str())
                .fetch_optional(self.database.reader())
                .await
                .doing("finding a workspace")?;
        row.map(workspace).transpose()
    }

    async fn workspaces_now(&self) -> Result<Vec<Workspace>, StoreError> {
        let rows: Vec<(String, String, i64)> =
            sqlx::query_as("SELECT workspace_id, name, created_at FROM workspace ORDER BY name")
                .fetch_all(self.database.reader())
                .await
                .doing("listing workspaces")?;
        rows.into_iter().map(workspace).collect()
    }

    async fn put_settings_now(
        &self,
        workspace: WorkspaceId,
        scope: &str,
        settings: &RegistrySettings,
    ) -> Result<(), StoreError> {
        let ca = settings.ca_pem.as_ref().map_or(0, Vec::len);
        check_length("CA bundle", ca, CA_LIMIT)?;
        let service = settings.token_service.as_ref().map_or(0, String::len);
        check_length("token service", service, TOKEN_SERVICE_LIMIT)?;
        let mut transaction = self.database.begin().await?;
        sqlx::query(
            "INSERT INTO registry_settings (workspace_id, scope, plain_http, ca_pem, token_service)
             VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (workspace_id, scope) DO UPDATE
             SET plain_http = excluded.plain_http, ca_pem = excluded.ca_pem,
                 token_service = excluded.token_service",
        )
        .bind(workspace.to_string())
        .bind(scope)
        .bind(settings.plain_http)
        .bind(settings.ca_pem.as_deref())
        .bind(settings.token_service.as_deref())
        .execute(&mut *transaction)
        .await
        .doing("writing settings")?;
        transaction.commit().await.doing("committing settings")
    }

    async fn settings_now(
        &self,
        workspace: WorkspaceId,
    ) -> Result<Vec<(String, RegistrySettings)>, StoreError> {
        type Row = (String, bool, Option<Vec<u8>>, Option<String>);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT scope, plain_http, ca_pem, token_service FROM registry_settings
             WHERE workspace_id = ?1 ORDER BY scope",
        )
        .bind(workspace.to_string())
        .fetch_all(self.database.reader())
        .await
        .doing("reading settings")?;
        let settings = |(scope, plain_http, ca_pem, token_service)| {
            let settings = RegistrySettings {
                plain_http,
                ca_pem,
                token_service,
            };
            (scope, settings)
        };
        Ok(rows.into_iter().map(settings).collect())
    }

    async fn remove_settings_now(
        &self,
        workspace: WorkspaceId,
        scope: &str,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.database.begin().await?;
        let removed =
            sqlx::query("DELETE FROM registry_settings WHERE workspace_id = ?1 AND scope = ?2")
                .bind(workspace.to_string())
                .bind(scope)
                .execute(&mut *transaction)
                .await
                .doing("removing settings")?;
        transaction.commit().await.doing("committing a removal")?;
        Ok(removed.rows_affected() > 0)
    }
}

impl ControlStore for SqliteStore {
    fn ensure_workspace<'a>(
        &'a self,
        name: &'a WorkspaceName,
        proposed: WorkspaceId,
    ) -> StoreFuture<'a, Workspace> {
        Box::pin(self.ensure_workspace_now(name, proposed))
    }

    fn workspaces(&self) -> StoreFuture<'_, Vec<Workspace>> {
        Box::pin(self.workspaces_now())
    }

    fn put_settings<'a>(
        &'a self,
        workspace: WorkspaceId,
        scope: &'a str,
        settings: &'a RegistrySettings,
    ) -> StoreFuture<'a, ()> {
        Box::pin(self.put_settings_now(workspace, scope, settings))
    }

    fn settings(&self, workspace: WorkspaceId) -> StoreFuture<'_, Vec<(String, RegistrySettings)>> {
        Box::pin(self.settings_now(workspace))
    }

    fn remove_settings<'a>(
        &'a self,
        workspace: WorkspaceId,
        scope: &'a str,
    ) -> StoreFuture<'a, bool> {
        Box::pin(self.remove_settings_now(workspace, scope))
    }

    fn publish<'a>(
        &'a self,
        workspace: WorkspaceId,
        publication: &'a Publication,
    ) -> StoreFuture<'a, GrantOutcome> {
        Box::pin(images::publish(&self.database, workspace, publication))
    }

    fn image<'a>(
        &'a self,
        workspace: WorkspaceId,
        id: &'a Digest,
    ) -> StoreFuture<'a, Option<Image>> {
        Box::pin(images::find(&self.database, workspace, id))
    }

    fn images(&self, workspace: WorkspaceId) -> StoreFuture<'_, Vec<Image>> {
        Box::pin(images::list(&self.database, workspace))
    }

    fn alias<'a>(
        &'a self,
        workspace: WorkspaceId,
        canonical: &'a str,
    ) -> StoreFuture<'a, Option<ImageAlias>> {
        Box::pin(images::alias(&self.database, workspace, canonical))
    }

    fn record_grant<'a>(
        &'a self,
        workspace: WorkspaceId,
        grant: &'a NewGrant,
    ) -> StoreFuture<'a, GrantOutcome> {
        Box::pin(grants::record(&self.database, workspace, grant))
    }

    fn grant<'a>(
        &'a self,
        workspace: WorkspaceId,
        image_id: &'a Digest,
        origin: &'a str,
    ) -> StoreFuture<'a, Option<Grant>> {
        Box::pin(grants::find(&self.database, workspace, image_id, origin))
    }

    fn revoke_grants_of(
        &self,
        workspace: WorkspaceId,
        secret_id: SecretId,
    ) -> StoreFuture<'_, u64> {
        Box::pin(grants::revoke(&self.database, workspace, secret_id))
    }
}

fn workspace((id, name, created_at): (String, String, i64)) -> Result<Workspace, StoreError> {
    Ok(Workspace {
        id: parsed("workspace", &id)?,
        name: parsed("workspace", &name)?,
        created_at: timestamp(created_at),
    })
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

    use super::*;

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
