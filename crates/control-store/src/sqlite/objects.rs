//! Uploaded objects.

use ids::{ObjectId, WorkspaceId};
use reference::Digest;

use super::{SqliteStore, damaged, digest, now_ms, parsed, timestamp};
use crate::database::Durability;
use crate::error::{Doing, StoreError};
use crate::objects::{Object, ObjectRecords};
use crate::store::StoreFuture;

type Row = (String, String, String, i64, i64);

impl ObjectRecords for SqliteStore {
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
}

impl SqliteStore {
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
                let row: Row = sqlx::query_as(
                    "INSERT INTO object (object_id, workspace_id, digest, size_bytes, created_at)
                     VALUES (?1, ?2, ?3, ?4, ?5)
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
        let row: Option<Row> = sqlx::query_as(
            "SELECT object_id, workspace_id, digest, size_bytes, created_at FROM object
             WHERE workspace_id = ?1 AND object_id = ?2",
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
        let row: Option<Row> = sqlx::query_as(
            "SELECT object_id, workspace_id, digest, size_bytes, created_at FROM object
             WHERE workspace_id = ?1 AND digest = ?2",
        )
        .bind(workspace.to_string())
        .bind(digest.as_str())
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
