//! A new root key under the same secrets.
//!
//! ```text
//!   root.key A          root.key A             root.key A             root.key B
//!                       root.key.next B        root.key.next B
//!   rows under A   -->  rows under A      -->  rows under B      -->  rows under B
//!                  sync               commit                 rename
//! ```
//!
//! At every point the key that the rows need is on disk under one of the two names, and the
//! vault's row says which. Opening finishes or undoes what a killed rotation left. Workspace keys
//! are wrapped anew, not replaced: nothing sealed is touched, and whoever had the old root key
//! *and* an old copy of the database can still read what was sealed then.

use std::path::{Path, PathBuf};

use ids::WorkspaceId;
use sqlx::SqliteConnection;

use crate::audit::{AuditAction, Entry};
use crate::database::OpeningLock;
use crate::error::{Doing, VaultError};
use crate::keys::{KeyId, KeyPurpose};
use crate::vault::{Inner, Vault, read_row, unwrap_audit};

/// What a rotation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootRotation {
    pub old_key_id: String,
    pub new_key_id: String,
    /// Workspace keys that were wrapped anew.
    pub workspaces: usize,
    /// Where the old key was kept.
    pub kept: Option<PathBuf>,
}

impl Vault {
    /// Puts a new root key in place of the old one. The old one is gone afterwards unless
    /// `keep_old` names a path for it; backups made before need it.
    pub async fn rotate_root_key(
        &self,
        keep_old: Option<&Path>,
        actor: &str,
    ) -> Result<RootRotation, VaultError> {
        let vault = &*self.inner;
        let root_key = vault.root_key();
        let lock = OpeningLock::take(&vault.place.database).await?;
        let row = read_row(&vault.database).await?;
        let row = row.ok_or_else(|| VaultError::NotAVault {
            path: vault.place.database.clone(),
            problem: "has lost its row".to_owned(),
        })?;
        let old = row.root_key_id;
        let new = root_key.begin_rotation(old, keep_old, &lock).await?;

        let mut transaction = vault.database.begin().await?;
        let workspaces = rewrap_workspaces(vault, &mut transaction, old, new).await?;
        let audit_key = unwrap_audit(root_key, &row).await?;
        let binding = vault.binding(KeyPurpose::Audit);
        let wrapped = root_key.wrap(new, binding, &audit_key).await?;
        sqlx::query("UPDATE vault SET root_key_id = ?1, audit_key = ?2")
            .bind(new.0.as_slice())
            .bind(wrapped)
            .execute(&mut *transaction)
            .await
            .doing("wrapping the audit key")?;
        let detail = format!("root key {old} to {new}");
        let entry = Entry::new(AuditAction::Rotate, actor).detail(&detail);
        vault.audit(&mut transaction, &[entry]).await?;
        transaction
            .commit()
            .await
            .doing("committing the new root key")?;

        root_key.settle(new, &lock).await?;
        vault.database.truncate_log().await;
        Ok(RootRotation {
            old_key_id: old.to_string(),
            new_key_id: new.to_string(),
            workspaces,
            kept: keep_old.map(Path::to_owned),
        })
    }
}

async fn rewrap_workspaces(
    vault: &Inner,
    connection: &mut SqliteConnection,
    old: KeyId,
    new: KeyId,
) -> Result<usize, VaultError> {
    let rows: Vec<(String, Vec<u8>, Vec<u8>)> =
        sqlx::query_as("SELECT workspace, key_id, wrapped FROM workspace_key")
            .fetch_all(&mut *connection)
            .await
            .doing("reading workspace keys")?;
    for (text, key_id, wrapped) in &rows {
        let workspace = parse_workspace(text)?;
        let key = vault
            .unwrap_workspace(old, workspace, key_id, wrapped)
            .await?;
        let binding = vault.binding(KeyPurpose::Workspace(workspace));
        let wrapped = vault.root_key().wrap(new, binding, &key).await?;
        sqlx::query("UPDATE workspace_key SET wrapped = ?1 WHERE workspace = ?2")
            .bind(wrapped)
            .bind(text)
            .execute(&mut *connection)
            .await
            .doing("wrapping a workspace's key")?;
    }
    Ok(rows.len())
}

pub(crate) fn parse_workspace(text: &str) -> Result<WorkspaceId, VaultError> {
    text.parse().map_err(|_| VaultError::WorkspaceKeyDamaged {
        workspace: text.to_owned(),
    })
}
