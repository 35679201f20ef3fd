//! A workspace's sealed secrets, made unreadable at once.
//!
//! Its key is replaced by a new one, which nothing was sealed under: the wrapped form of the old
//! key is gone from the database, so that rows that stayed behind elsewhere do not open with the
//! root key either. A backup of the whole vault has that form still. Processes that have used the
//! workspace hold the old key until they end or use it again; under a key service, for the minutes
//! that it counts.

use database::{Transaction, query};
use ids::WorkspaceId;

use crate::audit::{AuditAction, Entry};
use crate::error::{Doing, VaultError};
use crate::secrets::{self, SealedVersion};
use crate::vault::{Inner, Vault};
use crate::workspace_keys::NewWorkspaceKey;

impl Vault {
    /// Shreds a workspace: every secret is removed, every lease on one ends, and the key that they
    /// were sealed under is gone. Works on damaged rows too. `name` stands in the audit log.
    /// Answers what was removed.
    pub async fn shred(
        &self,
        workspace: WorkspaceId,
        name: &str,
        actor: &str,
    ) -> Result<Vec<SealedVersion>, VaultError> {
        let vault = &*self.inner;
        let new = vault.new_key_outside(workspace).await?;
        let mut transaction = vault.begin().await?;
        let live = secrets::live_within(&mut transaction, workspace).await?;
        let mut entries = Vec::with_capacity(live.len() + 1);
        let mut removed = Vec::with_capacity(live.len());
        for secret in live {
            let sealed =
                secrets::remove_within(vault, &mut transaction, workspace, &secret).await?;
            let entry = Entry::new(AuditAction::Remove, actor).of(workspace, &secret);
            entries.push(entry.version(sealed.secret_id, sealed.version));
            removed.push(sealed);
        }
        replace_key(vault, &mut transaction, workspace, new).await?;
        let detail = format!("{} secrets", removed.len());
        let entry = Entry::new(AuditAction::Shred, actor).of(workspace, name);
        entries.push(entry.detail(&detail));
        vault.audit(&mut transaction, &entries).await?;
        transaction.commit().await.doing("committing a shredding")?;
        vault.forget_key(workspace);
        vault.clear_erased().await;
        Ok(removed)
    }
}

/// One that has no key yet has nothing that could be opened.
async fn replace_key(
    vault: &Inner,
    transaction: &mut Transaction<'_>,
    workspace: WorkspaceId,
    made: NewWorkspaceKey,
) -> Result<(), VaultError> {
    let new = vault.new_key_within(transaction, workspace, made).await?;
    query(
        "UPDATE workspace_key SET key_id = $1, wrapped = $2, root_key_id = $3, created_at = $4
         WHERE workspace = $5",
    )
    .bind(new.key.id().0.as_slice())
    .bind(new.wrapped)
    .bind(new.root_key_id)
    .bind(vault.clock.now_ms())
    .bind(workspace.to_string())
    .execute(transaction)
    .await
    .doing("replacing a workspace's key")?;
    Ok(())
}
