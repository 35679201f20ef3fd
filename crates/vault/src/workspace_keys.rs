//! The keys of workspaces: read, asked for, made and forgotten.
//!
//! What holds the root key may be far away, and then nobody asks it while others wait for a
//! transaction: a key is prepared before one begins. Which are remembered, and for how long, is in
//! [`known`].

mod known;

use std::sync::Arc;
use std::time::Instant;

use database::{Target, Transaction, query};
use ids::WorkspaceId;

use crate::error::{Doing, VaultError};
use crate::keys::{Key, KeyId, KeyPurpose, Wrapped};
use crate::vault::{Inner, WrappedRow, key_id_of, select_wrapped, workspace_key_damaged};

pub(crate) use known::KnownKeys;

/// A workspace's key that is not in the table yet.
#[derive(Debug)]
pub(crate) struct NewWorkspaceKey {
    pub(crate) key: Key,
    pub(crate) wrapped: Vec<u8>,
    pub(crate) root_key_id: Vec<u8>,
}

impl Inner {
    /// The key of a workspace, if it has one.
    pub(crate) async fn workspace_key(
        &self,
        transaction: &mut Transaction<'_>,
        workspace: WorkspaceId,
    ) -> Result<Option<Arc<Key>>, VaultError> {
        if let Some(key) = self.known_keys.get(workspace) {
            return Ok(Some(key));
        }
        let Some(row) = wrapped_row(&mut *transaction, workspace).await? else {
            return Ok(None);
        };
        let key = self.unwrap_workspace(workspace, &row).await?;
        Ok(Some(self.known_keys.remember(workspace, key)))
    }

    /// Asks for the key of a workspace before its caller takes what others wait for, where the
    /// answer comes over a network. Says whether the workspace has one. What is wrong with a row is
    /// for those to tell who use it.
    pub(crate) async fn prepare_key(&self, workspace: WorkspaceId) -> Result<bool, VaultError> {
        let keys = &self.known_keys;
        if !keys.are_far() || keys.is_good(workspace) {
            return Ok(true);
        }
        let began = Instant::now();
        let mut turn = keys.turn(workspace).lock().await;
        if keys.is_good(workspace) {
            return Ok(true);
        }
        if let Some(error) = turn.failed_since(workspace, began) {
            return Err(error);
        }
        let Some(row) = wrapped_row(&self.database, workspace).await? else {
            return Ok(false);
        };
        match self.unwrap_workspace(workspace, &row).await {
            Ok(key) => drop(keys.remember(workspace, key)),
            Err(error @ VaultError::KeyService { .. }) => {
                turn.note(workspace, &error);
                return Err(error);
            }
            Err(_told_later) => {}
        }
        Ok(true)
    }

    /// The same, and makes the key of a workspace that has none.
    pub(crate) async fn prepare_key_or_new(
        &self,
        workspace: WorkspaceId,
    ) -> Result<(), VaultError> {
        if self.prepare_key(workspace).await? {
            return Ok(());
        }
        let new = self.new_key_outside(workspace).await?;
        let mut transaction = self.begin().await?;
        // One that another process has made meanwhile stays, and so does a rotation's word.
        let is_due = root_for_new(&mut transaction).await? == new.root_key_id;
        let is_in = is_due && self.insert_key(&mut transaction, workspace, &new).await?;
        transaction
            .commit()
            .await
            .doing("committing a workspace's key")?;
        if is_in {
            self.known_keys.remember(workspace, new.key);
        }
        Ok(())
    }

    /// The key of a workspace, made in the caller's transaction when it has none.
    pub(crate) async fn workspace_key_or_new(
        &self,
        transaction: &mut Transaction<'_>,
        workspace: WorkspaceId,
    ) -> Result<Arc<Key>, VaultError> {
        if let Some(key) = self.stored_key(transaction, workspace).await? {
            return Ok(key);
        }
        let root_key_id = root_for_new(&mut *transaction).await?;
        let new = self.new_key_under(root_key_id, workspace).await?;
        self.insert_key(transaction, workspace, &new).await?;
        // Not remembered before it is committed: the next caller reads it from the table.
        Ok(Arc::new(new.key))
    }

    /// Says whether the workspace had none.
    async fn insert_key(
        &self,
        transaction: &mut Transaction<'_>,
        workspace: WorkspaceId,
        new: &NewWorkspaceKey,
    ) -> Result<bool, VaultError> {
        let inserted = query(
            "INSERT INTO workspace_key (workspace, key_id, wrapped, created_at, root_key_id)
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        )
        .bind(workspace.to_string())
        .bind(new.key.id().0.as_slice())
        .bind(&new.wrapped)
        .bind(self.clock.now_ms())
        .bind(&new.root_key_id)
        .execute(transaction)
        .await
        .doing("writing a workspace's key")?;
        Ok(inserted > 0)
    }

    /// A key that is to be a workspace's, and its row, made while nobody waits.
    pub(crate) async fn new_key_outside(
        &self,
        workspace: WorkspaceId,
    ) -> Result<NewWorkspaceKey, VaultError> {
        let root_key_id = root_for_new(&self.database).await?;
        self.new_key_under(root_key_id, workspace).await
    }

    /// The same for a transaction, of which a rotation may have come in between.
    pub(crate) async fn new_key_within(
        &self,
        transaction: &mut Transaction<'_>,
        workspace: WorkspaceId,
        made: NewWorkspaceKey,
    ) -> Result<NewWorkspaceKey, VaultError> {
        let root_key_id = root_for_new(&mut *transaction).await?;
        if made.root_key_id == root_key_id {
            return Ok(made);
        }
        self.new_key_under(root_key_id, workspace).await
    }

    async fn new_key_under(
        &self,
        root_key_id: Vec<u8>,
        workspace: WorkspaceId,
    ) -> Result<NewWorkspaceKey, VaultError> {
        let root = key_id_of(&root_key_id)?;
        let key = Key::random();
        let binding = self.binding(KeyPurpose::Workspace(workspace));
        let wrapped = self.root_key().wrap(root, binding, &key).await?;
        Ok(NewWorkspaceKey {
            key,
            wrapped,
            root_key_id,
        })
    }

    /// The key that the row names, whatever is remembered: another process may have replaced it.
    pub(crate) async fn stored_key(
        &self,
        transaction: &mut Transaction<'_>,
        workspace: WorkspaceId,
    ) -> Result<Option<Arc<Key>>, VaultError> {
        let Some(row) = wrapped_row(&mut *transaction, workspace).await? else {
            self.forget_key(workspace);
            return Ok(None);
        };
        if let Some(known) = self.known_keys.get(workspace) {
            if row.key_id == known.id().0 {
                return Ok(Some(known));
            }
            self.forget_key(workspace);
        }
        let key = self.unwrap_workspace(workspace, &row).await?;
        Ok(Some(self.known_keys.remember(workspace, key)))
    }

    pub(crate) fn forget_key(&self, workspace: WorkspaceId) {
        self.known_keys.forget(workspace);
    }

    /// A workspace's key as its row has it, opened under the root key that the row names.
    pub(crate) async fn unwrap_workspace(
        &self,
        workspace: WorkspaceId,
        row: &WrappedRow,
    ) -> Result<Key, VaultError> {
        if !row.is_root_known {
            return Err(workspace_key_damaged(&row.workspace));
        }
        let root = key_id_of(&row.root_key_id)?;
        self.unwrap_workspace_under(root, workspace, row).await
    }

    pub(crate) async fn unwrap_workspace_under(
        &self,
        root: KeyId,
        workspace: WorkspaceId,
        row: &WrappedRow,
    ) -> Result<Key, VaultError> {
        let wrapped = Wrapped {
            key_id: key_id_of(&row.key_id)?,
            bytes: &row.wrapped,
        };
        let binding = self.binding(KeyPurpose::Workspace(workspace));
        let key = self.root_key().unwrap(root, binding, wrapped).await?;
        key.ok_or_else(|| workspace_key_damaged(&row.workspace))
    }
}

async fn wrapped_row(
    on: impl Into<Target<'_>>,
    workspace: WorkspaceId,
) -> Result<Option<WrappedRow>, VaultError> {
    query(select_wrapped!("WHERE workspace = $1"))
        .bind(workspace.to_string())
        .fetch_optional(on)
        .await
        .doing("reading a workspace's key")
}

/// While a rotation is under way, what is new is not wrapped under what it takes away.
async fn root_for_new(on: impl Into<Target<'_>>) -> Result<Vec<u8>, VaultError> {
    let row: (Vec<u8>,) = query("SELECT coalesce(next_root_key_id, root_key_id) FROM vault")
        .fetch_one(on)
        .await
        .doing("reading the vault's row")?;
    Ok(row.0)
}
