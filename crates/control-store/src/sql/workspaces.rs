//! Workspaces and their settings.

use std::time::Duration;

use database::query;
use ids::{WorkspaceId, WorkspaceName};

use super::{SqlStore, check_length, damaged, now_ms, parsed, timestamp};
use crate::error::{Doing, StoreError};
use crate::store::Durability;
use crate::store::StoreFuture;
use crate::workspaces::{RegistrySettings, Workspace, WorkspaceRecords};

/// Largest CA bundle. The whole set that browsers trust is near 220 KB.
const CA_LIMIT: usize = 1024 * 1024;
/// Longest token service: a host and a port.
const TOKEN_SERVICE_LIMIT: usize = 512;

impl WorkspaceRecords for SqlStore {
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

    fn set_after_removal<'a>(
        &'a self,
        workspace: WorkspaceId,
        then: &'a str,
    ) -> StoreFuture<'a, bool> {
        Box::pin(self.set_after_removal_now(workspace, then))
    }

    fn set_offline(&self, workspace: WorkspaceId, offline: Duration) -> StoreFuture<'_, bool> {
        Box::pin(self.set_offline_now(workspace, offline))
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
}

impl SqlStore {
    async fn ensure_workspace_now(
        &self,
        name: &WorkspaceName,
        proposed: WorkspaceId,
    ) -> Result<Workspace, StoreError> {
        if let Some(workspace) = self.workspace_of(name).await? {
            return Ok(workspace);
        }
        let change = query(
            "INSERT INTO workspace (workspace_id, name, created_at) VALUES ($1, $2, $3)
             ON CONFLICT DO NOTHING",
        )
        .bind(proposed.to_string())
        .bind(name.as_str())
        .bind(now_ms());
        self.database
            .execute(Durability::Process, "making a workspace", change)
            .await?;
        self.workspace_of(name)
            .await?
            .ok_or_else(|| damaged("workspace", format!("{name} shares its id with another")))
    }

    async fn workspace_of(&self, name: &WorkspaceName) -> Result<Option<Workspace>, StoreError> {
        let row: Option<Row> = query(
            "SELECT workspace_id, name, created_at, after_removal, offline_seconds
             FROM workspace WHERE name = $1",
        )
        .bind(name.as_str())
        .fetch_optional(self.database.reader())
        .await
        .doing("finding a workspace")?;
        row.map(workspace).transpose()
    }

    async fn workspaces_now(&self) -> Result<Vec<Workspace>, StoreError> {
        let rows: Vec<Row> = query(
            "SELECT workspace_id, name, created_at, after_removal, offline_seconds
             FROM workspace ORDER BY name",
        )
        .fetch_all(self.database.reader())
        .await
        .doing("listing workspaces")?;
        rows.into_iter().map(workspace).collect()
    }

    async fn set_after_removal_now(
        &self,
        workspace: WorkspaceId,
        then: &str,
    ) -> Result<bool, StoreError> {
        let change = query("UPDATE workspace SET after_removal = $2 WHERE workspace_id = $1")
            .bind(workspace.to_string())
            .bind(then);
        let changed = self
            .database
            .execute(
                Durability::Process,
                "setting what follows a removal",
                change,
            )
            .await?;
        Ok(changed > 0)
    }

    async fn set_offline_now(
        &self,
        workspace: WorkspaceId,
        offline: Duration,
    ) -> Result<bool, StoreError> {
        let seconds = i64::try_from(offline.as_secs()).unwrap_or(i64::MAX);
        let change = query("UPDATE workspace SET offline_seconds = $2 WHERE workspace_id = $1")
            .bind(workspace.to_string())
            .bind(seconds);
        let doing = "setting for how long a proof counts";
        // On disk before anybody relies on it: it may have been made shorter.
        let changed = self.database.execute(Durability::Disk, doing, change);
        Ok(changed.await? > 0)
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
        let change = query(
            "INSERT INTO registry_settings
                 (workspace_id, scope, plain_http, ca_pem, token_service,
                  workers_may_hold_password)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (workspace_id, scope) DO UPDATE
             SET plain_http = excluded.plain_http, ca_pem = excluded.ca_pem,
                 token_service = excluded.token_service,
                 workers_may_hold_password = excluded.workers_may_hold_password",
        )
        .bind(workspace.to_string())
        .bind(scope)
        .bind(settings.plain_http)
        .bind(settings.ca_pem.clone())
        .bind(settings.token_service.clone())
        .bind(settings.workers_may_hold_password);
        self.database
            .execute(Durability::Process, "writing settings", change)
            .await
            .map(drop)
    }

    async fn settings_now(
        &self,
        workspace: WorkspaceId,
    ) -> Result<Vec<(String, RegistrySettings)>, StoreError> {
        type Setting = (String, bool, Option<Vec<u8>>, Option<String>, bool);
        let rows: Vec<Setting> = query(
            "SELECT scope, plain_http, ca_pem, token_service, workers_may_hold_password
             FROM registry_settings WHERE workspace_id = $1 ORDER BY scope",
        )
        .bind(workspace.to_string())
        .fetch_all(self.database.reader())
        .await
        .doing("reading settings")?;
        let settings = |(scope, plain_http, ca_pem, token_service, workers_may_hold_password)| {
            let settings = RegistrySettings {
                plain_http,
                ca_pem,
                token_service,
                workers_may_hold_password,
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
        let change = query("DELETE FROM registry_settings WHERE workspace_id = $1 AND scope = $2")
            .bind(workspace.to_string())
            .bind(scope);
        let removed = self
            .database
            .execute(Durability::Process, "removing settings", change)
            .await?;
        Ok(removed > 0)
    }
}

/// Id, name, when it was made, what follows a removal, and for how many seconds a proof counts.
type Row = (String, String, i64, Option<String>, Option<i64>);

fn workspace(row: Row) -> Result<Workspace, StoreError> {
    let (id, name, created_at, after_removal, offline_seconds) = row;
    // The table takes none below zero; a damaged one counts for nothing.
    let offline = offline_seconds.map(|seconds| u64::try_from(seconds).unwrap_or_default());
    Ok(Workspace {
        offline: offline.map(Duration::from_secs),
        id: parsed("workspace", &id)?,
        name: parsed("workspace", &name)?,
        created_at: timestamp(created_at),
        after_removal,
    })
}
