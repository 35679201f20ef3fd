//! A new root key under the same secrets, while they are used.
//!
//! ```text
//!   root.key A          root.key A          root.key A          root.key A          root.key B
//!                       root.key.next B     root.key.next B     root.key.next B
//!   rows under A   -->  rows under A   -->  under A and B  -->  rows under B   -->  rows under B
//!                sync                noted,              all of        the last     rename
//!                                    batches             them          commit
//! ```
//!
//! At every point each key that a row needs is on disk under one of the two names; each row names
//! its own, and the vault's row names the one that counts and, from before the first batch until
//! the last commit, the next. The key is asked to wrap outside of transactions, and a batch is
//! short, so that others write in between. Opening undoes what was not noted yet and finishes what
//! was. Where the next key is of another source, that one has it in place of `root.key.next`.
//!
//! Workspace keys are wrapped anew, not replaced: nothing sealed is touched, and whoever had the
//! old root key *and* an old copy of the database can still read what was sealed then.

use std::path::{Path, PathBuf};

use database::{Transaction, query};
use futures::future::join_all;
use ids::WorkspaceId;

use crate::audit::{AuditAction, Entry};
use crate::error::{Doing, VaultError};
use crate::keys::{KeyId, KeyPurpose};
use crate::place::OpeningLock;
use crate::vault::{
    Inner, OURSELVES, Vault, VaultRow, WrappedRow, read_row, select_wrapped, workspace_key_damaged,
};

/// Keys in one commit: others wait for a few milliseconds at most.
const BATCH_ROWS: u32 = 64;
/// Keys that are asked about at once: a service that is 20 ms away wraps some hundred in a second,
/// and is not flooded.
const ASKED_AT_ONCE: usize = 8;

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
    /// Puts a new root key in place of the old one, while others read and write. The old one is
    /// gone afterwards unless `keep_old` names a path for it; backups made before need it.
    pub async fn rotate_root_key(
        &self,
        keep_old: Option<&Path>,
        actor: &str,
    ) -> Result<RootRotation, VaultError> {
        let vault = &*self.inner;
        let root_key = vault.root_key();
        let lock = vault.place.lock().await?;
        let row = read_row(&vault.database).await?;
        let row = row.ok_or_else(|| VaultError::NotAVault {
            database: vault.place.subject(),
            problem: "has lost its row".to_owned(),
        })?;
        finish_interrupted(vault, &row, &lock).await?;
        let row = read_row(&vault.database).await?.unwrap_or(row);
        if row.next_root_key_id.is_some() {
            return Err(first_damaged(vault, &row).await?);
        }
        let old = row.root_key_id;
        let new = root_key.begin_rotation(old, keep_old, &lock).await?;
        note_next(vault, old, new).await?;
        let rotation = Rotation { vault, old, new };
        let workspaces = rotation.finish(&lock, actor).await?;
        Ok(RootRotation {
            old_key_id: old.to_string(),
            new_key_id: new.to_string(),
            workspaces,
            kept: keep_old.map(Path::to_owned),
        })
    }
}

/// A rotation that has been noted.
struct Rotation<'a> {
    vault: &'a Inner,
    old: KeyId,
    new: KeyId,
}

impl Rotation<'_> {
    /// Wraps what is left under the old key, and lets the new one count. Answers how many workspace
    /// keys were wrapped.
    async fn finish(&self, lock: &OpeningLock, actor: &str) -> Result<usize, VaultError> {
        let workspaces = self.rewrap_all().await?;
        self.let_new_count(actor).await?;
        self.vault.root_key().settle(self.new, lock).await?;
        self.vault.clear_erased().await;
        Ok(workspaces)
    }

    /// A key that does not open is left where it is, and told when all others are done: nothing is
    /// lost by that, since the old key stays.
    async fn rewrap_all(&self) -> Result<usize, VaultError> {
        let (mut after, mut done, mut damaged) = (String::new(), 0, None);
        loop {
            let rows = self.batch(&after).await?;
            let Some(last) = rows.last() else {
                return damaged.map_or(Ok(done), Err);
            };
            after.clone_from(&last.workspace);
            let mut wrapped = Vec::with_capacity(rows.len());
            for rows in rows.chunks(ASKED_AT_ONCE) {
                let asked = join_all(rows.iter().map(|row| self.rewrap(row))).await;
                for (row, answer) in rows.iter().zip(asked) {
                    match answer {
                        Ok(bytes) => wrapped.push((row, bytes)),
                        Err(error @ VaultError::WorkspaceKeyDamaged { .. }) => {
                            damaged = Some(error);
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
            done += wrapped.len();
            self.write(&wrapped).await?;
        }
    }

    async fn batch(&self, after: &str) -> Result<Vec<WrappedRow>, VaultError> {
        query(select_wrapped!(
            "WHERE workspace > $1 AND workspace_key.root_key_id <> $2
             ORDER BY workspace LIMIT $3"
        ))
        .bind(after)
        .bind(self.new.0.as_slice())
        .bind(BATCH_ROWS)
        .fetch_all(&self.vault.database)
        .await
        .doing("reading workspace keys")
    }

    async fn rewrap(&self, row: &WrappedRow) -> Result<Vec<u8>, VaultError> {
        let (vault, workspace) = (self.vault, parse_workspace(&row.workspace)?);
        let key = vault.unwrap_workspace_under(self.old, workspace, row);
        let key = key.await?;
        let binding = vault.binding(KeyPurpose::Workspace(workspace));
        vault.root_key().wrap(self.new, binding, &key).await
    }

    async fn write(&self, wrapped: &[(&WrappedRow, Vec<u8>)]) -> Result<(), VaultError> {
        let mut transaction = self.vault.begin().await?;
        for (row, bytes) in wrapped {
            // One that was dropped or replaced since it was read is not brought back.
            query(
                "UPDATE workspace_key SET wrapped = $1, root_key_id = $2
                 WHERE workspace = $3 AND wrapped = $4",
            )
            .bind(bytes)
            .bind(self.new.0.as_slice())
            .bind(&row.workspace)
            .bind(&row.wrapped)
            .execute(&mut transaction)
            .await
            .doing("wrapping a workspace's key")?;
        }
        transaction.commit().await.doing("committing wrapped keys")
    }

    async fn let_new_count(&self, actor: &str) -> Result<(), VaultError> {
        let (vault, old, new) = (self.vault, self.old, self.new);
        let binding = vault.binding(KeyPurpose::Audit);
        let audit_key = vault.audit_key.key();
        let wrapped = vault.root_key().wrap(new, binding, audit_key).await?;
        let mut transaction = vault.begin().await?;
        refuse_left(&mut transaction, new).await?;
        let moved = query(
            "UPDATE vault SET root_key_id = $1, next_root_key_id = NULL, audit_key = $2
             WHERE root_key_id = $3 AND next_root_key_id = $1",
        )
        .bind(new.0.as_slice())
        .bind(wrapped)
        .bind(old.0.as_slice())
        .execute(&mut transaction)
        .await
        .doing("wrapping the audit key")?;
        refuse_overtaken(moved)?;
        let detail = format!("root key {old} to {new}");
        let entry = Entry::new(AuditAction::Rotate, actor).detail(&detail);
        vault.audit(&mut transaction, &[entry]).await?;
        transaction
            .commit()
            .await
            .doing("committing the new root key")
    }
}

/// Finishes a rotation that was cut short after it was noted. One whose rows do not all open goes
/// on having two keys, so that what does open is not held up.
pub(crate) async fn finish_interrupted(
    vault: &Inner,
    row: &VaultRow,
    lock: &OpeningLock,
) -> Result<(), VaultError> {
    let Some(new) = row.next_root_key_id else {
        return Ok(());
    };
    let old = row.root_key_id;
    let rotation = Rotation { vault, old, new };
    match rotation.finish(lock, OURSELVES).await {
        Ok(_) | Err(VaultError::WorkspaceKeyDamaged { .. } | VaultError::AuditDamaged { .. }) => {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

async fn note_next(vault: &Inner, old: KeyId, new: KeyId) -> Result<(), VaultError> {
    let mut transaction = vault.begin().await?;
    let noted = query(
        "UPDATE vault SET next_root_key_id = $1
         WHERE root_key_id = $2 AND next_root_key_id IS NULL",
    )
    .bind(new.0.as_slice())
    .bind(old.0.as_slice())
    .execute(&mut transaction)
    .await
    .doing("noting the next root key")?;
    refuse_overtaken(noted)?;
    transaction
        .commit()
        .await
        .doing("committing the next root key")
}

/// Whoever holds the opening lock is alone; one that a server held is lost with its connection, and
/// another process may have rotated since.
fn refuse_overtaken(rows: u64) -> Result<(), VaultError> {
    match rows {
        0 => Err(VaultError::Overtaken),
        _ => Ok(()),
    }
}

/// What keeps a rotation from being finished.
async fn first_damaged(vault: &Inner, row: &VaultRow) -> Result<VaultError, VaultError> {
    let left: Option<(String,)> =
        query("SELECT workspace FROM workspace_key WHERE root_key_id <> $1 ORDER BY workspace")
            .bind(row.next_root_key_id.map(|next| next.0.to_vec()))
            .fetch_optional(&vault.database)
            .await
            .doing("looking for keys that are left")?;
    Ok(match left {
        Some((workspace,)) => workspace_key_damaged(&workspace),
        None => VaultError::AuditDamaged {
            problem: "is not written on, so that the root key cannot be rotated".to_owned(),
        },
    })
}

/// Every row that was made since the rotation was noted is under the new key, so none is left.
async fn refuse_left(transaction: &mut Transaction<'_>, new: KeyId) -> Result<(), VaultError> {
    let left: Option<(String,)> =
        query("SELECT workspace FROM workspace_key WHERE root_key_id <> $1")
            .bind(new.0.as_slice())
            .fetch_optional(transaction)
            .await
            .doing("looking for keys that are left")?;
    left.map_or(Ok(()), |(workspace,)| {
        Err(workspace_key_damaged(&workspace))
    })
}

pub(crate) fn parse_workspace(text: &str) -> Result<WorkspaceId, VaultError> {
    text.parse().map_err(|_| VaultError::WorkspaceKeyDamaged {
        workspace: text.to_owned(),
    })
}
