//! Uploaded objects.

use database::query;
use ids::{ObjectId, WorkspaceId};
use reference::Digest;

use super::{SqlStore, check_length, damaged, digest, now_ms, parsed, timestamp};
use crate::error::{Doing, StoreError};
use crate::objects::{Object, ObjectRecords};
use crate::store::Durability;
use crate::store::StoreFuture;

/// Longest name of an object: a hash in hexadecimal is a fraction of it.
const NAME_LIMIT: usize = 256;

type Row = (String, String, String, i64, i64);

impl ObjectRecords for SqlStore {
    fn ensure_object<'a>(
        &'a self,
        workspace: WorkspaceId,
        digest: &'a Digest,
        size_bytes: u64,
    ) -> StoreFuture<'a, Object> {
        Box::pin(self.ensure_object_now(workspace, digest, size_bytes))
    }

    fn object(&self, workspace: WorkspaceId, id: ObjectId) -> StoreFuture<'_, Option<Object>> {
        Box::pin(self.object_now(workspace, id))
    }

    fn object_of_digest<'a>(
        &'a self,
        workspace: WorkspaceId,
        digest: &'a Digest,
    ) -> StoreFuture<'a, Option<Object>> {
        Box::pin(self.object_of_digest_now(workspace, digest))
    }

    fn name_object<'a>(
        &'a self,
        workspace: WorkspaceId,
        name: &'a str,
        object: ObjectId,
    ) -> StoreFuture<'a, bool> {
        Box::pin(self.name_object_now(workspace, name, object))
    }

    fn object_of_name<'a>(
        &'a self,
        workspace: WorkspaceId,
        name: &'a str,
    ) -> StoreFuture<'a, Option<Object>> {
        Box::pin(self.object_of_name_now(workspace, name))
    }
}

impl SqlStore {
    async fn ensure_object_now(
        &self,
        workspace: WorkspaceId,
        digest: &Digest,
        size_bytes: u64,
    ) -> Result<Object, StoreError> {
        let (id, digest) = (ObjectId::new(), digest.as_str().to_owned());
        let size = i64::try_from(size_bytes).unwrap_or(i64::MAX);
        let change = self.database.change(Durability::Disk, move |connection| {
            Box::pin(async move {
                let row: Row = query(
                    "INSERT INTO object (object_id, workspace_id, digest, size_bytes, created_at)
                     VALUES ($1, $2, $3, $4, $5)
                     ON CONFLICT (workspace_id, digest) DO UPDATE SET digest = excluded.digest
                     RETURNING object_id, workspace_id, digest, size_bytes, created_at",
                )
                .bind(id.to_string())
                .bind(workspace.to_string())
                .bind(digest)
                .bind(size)
                .bind(now_ms())
                .fetch_one(connection)
                .await
                .doing("recording an object")?;
                object(row)
            })
        });
        change.await
    }

    async fn object_now(
        &self,
        workspace: WorkspaceId,
        id: ObjectId,
    ) -> Result<Option<Object>, StoreError> {
        let row: Option<Row> = query(
            "SELECT object_id, workspace_id, digest, size_bytes, created_at FROM object
             WHERE workspace_id = $1 AND object_id = $2",
        )
        .bind(workspace.to_string())
        .bind(id.to_string())
        .fetch_optional(self.database.reader())
        .await
        .doing("finding an object")?;
        row.map(object).transpose()
    }

    async fn object_of_digest_now(
        &self,
        workspace: WorkspaceId,
        digest: &Digest,
    ) -> Result<Option<Object>, StoreError> {
        let row: Option<Row> = query(
            "SELECT object_id, workspace_id, digest, size_bytes, created_at FROM object
             WHERE workspace_id = $1 AND digest = $2",
        )
        .bind(workspace.to_string())
        .bind(digest.as_str())
        .fetch_optional(self.database.reader())
        .await
        .doing("finding an object")?;
        row.map(object).transpose()
    }

    async fn name_object_now(
        &self,
        workspace: WorkspaceId,
        name: &str,
        object: ObjectId,
    ) -> Result<bool, StoreError> {
        check_length("name of an object", name.len(), NAME_LIMIT)?;
        let change = query(
            "INSERT INTO object_name (workspace_id, name, object_id)
             SELECT workspace_id, $2, object_id FROM object
             WHERE workspace_id = $1 AND object_id = $3
             ON CONFLICT (workspace_id, name) DO UPDATE
             SET object_id = excluded.object_id",
        )
        .bind(workspace.to_string())
        .bind(name)
        .bind(object.to_string());
        let changed = self
            .database
            .execute(Durability::Disk, "naming an object", change)
            .await?;
        Ok(changed == 1)
    }

    async fn object_of_name_now(
        &self,
        workspace: WorkspaceId,
        name: &str,
    ) -> Result<Option<Object>, StoreError> {
        let row: Option<Row> = query(
            "SELECT object_id, object.workspace_id, digest, size_bytes, created_at
             FROM object_name JOIN object USING (object_id)
             WHERE object_name.workspace_id = $1 AND name = $2",
        )
        .bind(workspace.to_string())
        .bind(name)
        .fetch_optional(self.database.reader())
        .await
        .doing("finding an object")?;
        row.map(object).transpose()
    }
}

fn object((id, workspace, content, size, created_at): Row) -> Result<Object, StoreError> {
    let size_bytes = u64::try_from(size);
    Ok(Object {
        id: parsed("object", &id)?,
        workspace: parsed("object", &workspace)?,
        digest: digest("object", &content)?,
        size_bytes: size_bytes.map_err(|error| damaged("object", error.to_string()))?,
        created_at: timestamp(created_at),
    })
}
