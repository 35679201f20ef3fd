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
use crate::keys::{Key, KeyPurpose};
use crate::vault::{Inner, Vault, read_row, unwrap_audit, unwrap_workspace};

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
        let _lock = OpeningLock::take(&vault.paths.database).await?;
        let row = read_row(&vault.database).await?;
        let row = row.ok_or_else(|| VaultError::NotAVault {
            path: vault.paths.database.clone(),
            problem: "has lost its row".to_owned(),
        })?;
        let old = vault.root_key.settle(row.root_key_id)?;
        let next = vault.root_key.next();
        let new = next.create(&Key::random())?;
        if let Some(path) = keep_old {
            vault.root_key.link_to(path)?;
        }

        let mut transaction = vault.database.begin().await?;
        let workspaces = rewrap_workspaces(vault, &mut transaction, &old, &new).await?;
        let audit_key = unwrap_audit(&old, &row)?;
        sqlx::query("UPDATE vault SET root_key_id = ?1, audit_key = ?2")
            .bind(new.id().0.as_slice())
            .bind(new.wrap(&vault.vault_id, KeyPurpose::Audit, &audit_key))
            .execute(&mut *transaction)
            .await
            .doing("wrapping the audit key")?;
        let detail = format!("root key {} to {}", old.id(), new.id());
        let entry = Entry::new(AuditAction::Rotate, actor).detail(&detail);
        vault.audit(&mut transaction, &[entry]).await?;
        transaction
            .commit()
            .await
            .doing("committing the new root key")?;

        next.rename_to(&vault.root_key)?;
        vault.database.truncate_log().await;
        Ok(RootRotation {
            old_key_id: old.id().to_string(),
            new_key_id: new.id().to_string(),
            workspaces,
            kept: keep_old.map(Path::to_owned),
        })
    }
}

async fn rewrap_workspaces(
    vault: &Inner,
    connection: &mut SqliteConnection,
    old: &Key,
    new: &Key,
) -> Result<usize, VaultError> {
    let rows: Vec<(String, Vec<u8>, Vec<u8>)> =
        sqlx::query_as("SELECT workspace, key_id, wrapped FROM workspace_key")
            .fetch_all(&mut *connection)
            .await
            .doing("reading workspace keys")?;
    for (text, key_id, wrapped) in &rows {
        let workspace = parse_workspace(text)?;
        let key = unwrap_workspace(old, &vault.vault_id, workspace, key_id, wrapped)?;
        let wrapped = new.wrap(&vault.vault_id, KeyPurpose::Workspace(text), &key);
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
