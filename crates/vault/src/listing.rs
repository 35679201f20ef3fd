//! What the vault has, without opening any of it: workspaces, live secrets, the history of a name.

use credential::SecretName;
use database::{DatabaseError, FromRow, Row, query};
use ids::{SecretId, WorkspaceId};
use jiff::Timestamp;

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
        let rows: Vec<(String,)> = query("SELECT workspace FROM workspace_key ORDER BY workspace")
            .fetch_all(&self.inner.database)
            .await
            .doing("listing workspaces")?;
        let all: Vec<_> = rows
            .iter()
            .map(|(text,)| parse_workspace(text))
            .collect::<Result<_, _>>()?;
        let own = installation();
        Ok(all.into_iter().filter(|one| *one != own).collect())
    }

    /// The live secrets of a workspace, by name.
    pub async fn list(&self, workspace: WorkspaceId) -> Result<Vec<SecretRow>, VaultError> {
        let rows: Vec<SecretLine> = query(
            "SELECT secret.secret_id, name, kind, scope, version, secret_version.created_at,
                    state, proven, rung, realm, checked_at, not_after
             FROM secret JOIN secret_version
                  ON secret_version.secret_id = secret.secret_id AND version = current_version
             WHERE workspace = $1 AND removed_at IS NULL ORDER BY name",
        )
        .bind(workspace.to_string())
        .fetch_all(&self.inner.database)
        .await
        .doing("listing secrets")?;
        rows.into_iter().map(secret_row).collect()
    }

    /// All versions that a name ever had in this workspace, newest first, removed ones included.
    pub async fn history(
        &self,
        workspace: WorkspaceId,
        name: &SecretName,
    ) -> Result<Vec<VersionRow>, VaultError> {
        let rows: Vec<VersionLine> = query(
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
        .fetch_all(&self.inner.database)
        .await
        .doing("reading a secret's history")?;
        let rows = rows.into_iter();
        rows.map(|row| version_row(name, row)).collect()
    }
}

/// A row of the first statement.
struct SecretLine {
    secret_id: String,
    name: String,
    kind: String,
    scope: String,
    version: i64,
    created_at: i64,
    state: VersionState,
}

impl FromRow for SecretLine {
    fn from_row(row: Row) -> Result<Self, DatabaseError> {
        Ok(Self {
            secret_id: row.get(0)?,
            name: row.get(1)?,
            kind: row.get(2)?,
            scope: row.get(3)?,
            version: row.get(4)?,
            created_at: row.get(5)?,
            state: state(&row, 6)?,
        })
    }
}

/// A row of the second.
struct VersionLine {
    secret_id: String,
    version: i64,
    kind: String,
    scope: String,
    actor: String,
    created_at: i64,
    current: bool,
    retired_at: Option<i64>,
    removed_at: Option<i64>,
    leases: i64,
    state: VersionState,
}

impl FromRow for VersionLine {
    fn from_row(row: Row) -> Result<Self, DatabaseError> {
        Ok(Self {
            secret_id: row.get(0)?,
            version: row.get(1)?,
            kind: row.get(2)?,
            scope: row.get(3)?,
            actor: row.get(4)?,
            created_at: row.get(5)?,
            current: row.get(6)?,
            retired_at: row.get(7)?,
            removed_at: row.get(8)?,
            leases: row.get(9)?,
            state: state(&row, 10)?,
        })
    }
}

/// The columns of a state, from this one on.
fn state(row: &Row, first: usize) -> Result<VersionState, DatabaseError> {
    Ok(VersionState {
        state: SecretState::read(&row.get::<String>(first)?),
        proven: row.get(first + 1)?,
        rung: row.get(first + 2)?,
        realm: row.get(first + 3)?,
        checked_at: row.get::<Option<i64>>(first + 4)?.map(timestamp),
        not_after: row.get::<Option<i64>>(first + 5)?.map(timestamp),
    })
}

fn secret_row(line: SecretLine) -> Result<SecretRow, VaultError> {
    Ok(SecretRow {
        secret_id: parse_secret_id(&line.secret_id)?,
        version: parse_version(&line.name, line.version)?,
        kind: line.kind,
        scope: line.scope,
        created_at: timestamp(line.created_at),
        state: line.state,
        name: line.name,
    })
}

fn version_row(name: &SecretName, line: VersionLine) -> Result<VersionRow, VaultError> {
    Ok(VersionRow {
        secret_id: parse_secret_id(&line.secret_id)?,
        version: parse_version(name.as_str(), line.version)?,
        kind: line.kind,
        scope: line.scope,
        actor: line.actor,
        created_at: timestamp(line.created_at),
        current: line.current,
        retired_at: line.retired_at.map(timestamp),
        removed_at: line.removed_at.map(timestamp),
        leases: u32::try_from(line.leases).unwrap_or(u32::MAX),
        state: line.state,
    })
}
