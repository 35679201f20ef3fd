//! What the vault has, without opening any of it: workspaces, live secrets, the history of a name.

use credential::SecretName;
use ids::{SecretId, WorkspaceId};
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row, Sqlite, Type};

use crate::clock::timestamp;
use crate::error::{Doing, VaultError};
use crate::rotation::parse_workspace;
use crate::secrets::{parse_secret_id, parse_version};
use crate::state::{SecretState, VersionState};
use crate::vault::{Vault, installation};

/// A live secret and its current version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRow {
    pub secret_id: SecretId,
    pub name: String,
    pub kind: String,
    pub scope: String,
    pub version: u32,
    pub created_at: Timestamp,
    pub state: VersionState,
}

/// One version in the history of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRow {
    pub secret_id: SecretId,
    pub version: u32,
    pub kind: String,
    pub scope: String,
    pub actor: String,
    pub created_at: Timestamp,
    pub current: bool,
    /// When its bytes were erased.
    pub retired_at: Option<Timestamp>,
    /// When the whole secret was removed.
    pub removed_at: Option<Timestamp>,
    pub leases: u32,
    pub state: VersionState,
}

impl Vault {
    /// The workspaces that ever sealed something here. The installation itself is none.
    pub async fn workspaces(&self) -> Result<Vec<WorkspaceId>, VaultError> {
        let rows: Vec<String> =
            sqlx::query_scalar("SELECT workspace FROM workspace_key ORDER BY workspace")
                .fetch_all(self.inner.database.reader())
                .await
                .doing("listing workspaces")?;
        let all: Vec<_> = rows
            .iter()
            .map(|text| parse_workspace(text))
            .collect::<Result<_, _>>()?;
        let own = installation();
        Ok(all.into_iter().filter(|one| *one != own).collect())
    }

    /// The live secrets of a workspace, by name.
    pub async fn list(&self, workspace: WorkspaceId) -> Result<Vec<SecretRow>, VaultError> {
        let rows = sqlx::query(
            "SELECT secret.secret_id, name, kind, scope, version, secret_version.created_at,
                    state, proven, rung, realm, checked_at, not_after
             FROM secret JOIN secret_version
                  ON secret_version.secret_id = secret.secret_id AND version = current_version
             WHERE workspace = $1 AND removed_at IS NULL ORDER BY name",
        )
        .bind(workspace.to_string())
        .fetch_all(self.inner.database.reader())
        .await
        .doing("listing secrets")?;
        rows.iter().map(secret_row).collect()
    }

    /// All versions that a name ever had in this workspace, newest first, removed ones included.
    pub async fn history(
        &self,
        workspace: WorkspaceId,
        name: &SecretName,
    ) -> Result<Vec<VersionRow>, VaultError> {
        let rows = sqlx::query(
            "SELECT secret.secret_id, version, kind, scope, actor, secret_version.created_at,
                    version = current_version AND removed_at IS NULL AS current,
                    retired_at, removed_at,
                    (SELECT count(*) FROM lease
                     WHERE lease.secret_id = secret_version.secret_id
                       AND lease.version = secret_version.version AND ended_at IS NULL) AS leases,
                    state, proven, rung, realm, checked_at, not_after
             FROM secret JOIN secret_version ON secret_version.secret_id = secret.secret_id
             WHERE workspace = $1 AND name = $2
             ORDER BY secret.created_at DESC, secret.secret_id DESC, version DESC",
        )
        .bind(workspace.to_string())
        .bind(name.as_str())
        .fetch_all(self.inner.database.reader())
        .await
        .doing("reading a secret's history")?;
        rows.iter().map(|row| version_row(name, row)).collect()
    }
}

fn secret_row(row: &SqliteRow) -> Result<SecretRow, VaultError> {
    let name: String = column(row, "name")?;
    Ok(SecretRow {
        secret_id: parse_secret_id(column(row, "secret_id")?)?,
        version: parse_version(&name, column(row, "version")?)?,
        kind: column(row, "kind")?,
        scope: column(row, "scope")?,
        created_at: timestamp(column(row, "created_at")?),
        state: state(row)?,
        name,
    })
}

fn version_row(name: &SecretName, row: &SqliteRow) -> Result<VersionRow, VaultError> {
    let leases: i64 = column(row, "leases")?;
    Ok(VersionRow {
        secret_id: parse_secret_id(column(row, "secret_id")?)?,
        version: parse_version(name.as_str(), column(row, "version")?)?,
        kind: column(row, "kind")?,
        scope: column(row, "scope")?,
        actor: column(row, "actor")?,
        created_at: timestamp(column(row, "created_at")?),
        current: column(row, "current")?,
        retired_at: column::<Option<i64>>(row, "retired_at")?.map(timestamp),
        removed_at: column::<Option<i64>>(row, "removed_at")?.map(timestamp),
        leases: u32::try_from(leases).unwrap_or(u32::MAX),
        state: state(row)?,
    })
}

fn state(row: &SqliteRow) -> Result<VersionState, VaultError> {
    Ok(VersionState {
        state: SecretState::read(column(row, "state")?),
        proven: column(row, "proven")?,
        rung: column(row, "rung")?,
        realm: column(row, "realm")?,
        checked_at: column::<Option<i64>>(row, "checked_at")?.map(timestamp),
        not_after: column::<Option<i64>>(row, "not_after")?.map(timestamp),
    })
}

fn column<'r, T>(row: &'r SqliteRow, name: &str) -> Result<T, VaultError>
where
    T: Decode<'r, Sqlite> + Type<Sqlite>,
{
    row.try_get(name).doing("reading a row")
}
