//! Shares of credentials.

use database::query;
use ids::WorkspaceId;

use super::{SqlStore, damaged, parsed};
use crate::error::{Doing, StoreError};
use crate::shares::{Recipient, Share, ShareRecords};
use crate::store::{Durability, StoreFuture};

impl ShareRecords for SqlStore {
    fn put_share<'a>(&'a self, workspace: WorkspaceId, share: &'a Share) -> StoreFuture<'a, ()> {
        Box::pin(self.put_share_now(workspace, share))
    }

    fn shares(&self, workspace: WorkspaceId) -> StoreFuture<'_, Vec<Share>> {
        Box::pin(self.shares_now(workspace))
    }

    fn remove_share<'a>(
        &'a self,
        workspace: WorkspaceId,
        scope: &'a str,
        recipient: Recipient,
    ) -> StoreFuture<'a, bool> {
        Box::pin(self.remove_share_now(workspace, scope, recipient))
    }
}

impl SqlStore {
    async fn put_share_now(&self, workspace: WorkspaceId, share: &Share) -> Result<(), StoreError> {
        let change = query(
            "INSERT INTO share (workspace_id, scope, recipient, secret_id)
             VALUES ($1, $2, $3, $4)
             ON CONFLICT (workspace_id, scope, recipient) DO UPDATE
             SET secret_id = excluded.secret_id",
        )
        .bind(workspace.to_string())
        .bind(&share.scope)
        .bind(share.recipient.as_str())
        .bind(share.secret_id.to_string());
        self.database
            .execute(Durability::Disk, "writing a share", change)
            .await?;
        Ok(())
    }

    async fn shares_now(&self, workspace: WorkspaceId) -> Result<Vec<Share>, StoreError> {
        let rows: Vec<(String, String, String)> = query(
            "SELECT scope, recipient, secret_id FROM share WHERE workspace_id = $1
             ORDER BY scope, recipient",
        )
        .bind(workspace.to_string())
        .fetch_all(self.database.reader())
        .await
        .doing("reading shares")?;
        let share = |(scope, recipient, secret_id): (String, String, String)| {
            let unknown = || damaged("share", format!("of {scope} has an unknown recipient"));
            Ok(Share {
                recipient: Recipient::from_name(&recipient).ok_or_else(unknown)?,
                secret_id: parsed("share", &secret_id)?,
                scope,
            })
        };
        rows.into_iter().map(share).collect()
    }

    async fn remove_share_now(
        &self,
        workspace: WorkspaceId,
        scope: &str,
        recipient: Recipient,
    ) -> Result<bool, StoreError> {
        let change =
            query("DELETE FROM share WHERE workspace_id = $1 AND scope = $2 AND recipient = $3")
                .bind(workspace.to_string())
                .bind(scope)
                .bind(recipient.as_str());
        let removed = self
            .database
            .execute(Durability::Disk, "ending a share", change)
            .await?;
        Ok(removed > 0)
    }
}
