//! Stubs and their definitions, which stand in their rows as JSON.

use database::query;
use ids::{StubId, WorkspaceId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{SqlStore, check_length, damaged, digest, now_ms, parsed, timestamp};
use crate::error::{Doing, StoreError};
use crate::store::Durability;
use crate::store::StoreFuture;
use crate::stubs::{Definition, Stub, StubRecords};

/// Longest name of a stub: a kind, a module and a function.
const NAME_LIMIT: usize = 512;
/// Longest definition. Environments are the only large part, and the kernel has a limit for them.
const DEFINITION_LIMIT: usize = 2 << 20;

type Row = (String, String, String, String, i64);

impl StubRecords for SqlStore {
    fn ensure_stub<'a>(
        &'a self,
        workspace: WorkspaceId,
        name: &'a str,
        definition: &'a Definition,
    ) -> StoreFuture<'a, Stub> {
        Box::pin(self.ensure_stub_now(workspace, name, definition))
    }

    fn stub(&self, workspace: WorkspaceId, id: StubId) -> StoreFuture<'_, Option<Stub>> {
        Box::pin(self.stub_now(workspace, id))
    }

    fn stubs(&self, workspace: WorkspaceId) -> StoreFuture<'_, Vec<Stub>> {
        Box::pin(self.stubs_now(workspace))
    }
}

impl SqlStore {
    async fn ensure_stub_now(
        &self,
        workspace: WorkspaceId,
        name: &str,
        definition: &Definition,
    ) -> Result<Stub, StoreError> {
        check_length("name of a stub", name.len(), NAME_LIMIT)?;
        let text = write(definition);
        check_length("definition of a stub", text.len(), DEFINITION_LIMIT)?;
        let fingerprint = Sha256::new()
            .chain_update(name.len().to_le_bytes())
            .chain_update(name)
            .chain_update(&text)
            .finalize();
        let (id, name) = (StubId::new(), name.to_owned());
        let change = self.database.change(Durability::Disk, move |connection| {
            Box::pin(async move {
                let row: Row = query(
                    "INSERT INTO stub (stub_id, workspace_id, name, fingerprint, definition,
                                       created_at)
                     VALUES ($1, $2, $3, $4, $5, $6)
                     ON CONFLICT (workspace_id, fingerprint) DO UPDATE SET name = excluded.name
                     RETURNING stub_id, workspace_id, name, definition, created_at",
                )
                .bind(id.to_string())
                .bind(workspace.to_string())
                .bind(name)
                .bind(&fingerprint[..])
                .bind(text)
                .bind(now_ms())
                .fetch_one(connection)
                .await
                .doing("recording a stub")?;
                stub(row)
            })
        });
        change.await
    }

    async fn stub_now(
        &self,
        workspace: WorkspaceId,
        id: StubId,
    ) -> Result<Option<Stub>, StoreError> {
        let row: Option<Row> = query(
            "SELECT stub_id, workspace_id, name, definition, created_at FROM stub
             WHERE workspace_id = $1 AND stub_id = $2",
        )
        .bind(workspace.to_string())
        .bind(id.to_string())
        .fetch_optional(self.database.reader())
        .await
        .doing("finding a stub")?;
        row.map(stub).transpose()
    }

    async fn stubs_now(&self, workspace: WorkspaceId) -> Result<Vec<Stub>, StoreError> {
        let rows: Vec<Row> = query(
            "SELECT stub_id, workspace_id, name, definition, created_at FROM stub
             WHERE workspace_id = $1 ORDER BY stub_id DESC",
        )
        .bind(workspace.to_string())
        .fetch_all(self.database.reader())
        .await
        .doing("listing stubs")?;
        rows.into_iter().map(stub).collect()
    }
}

fn stub((id, workspace, name, definition, created_at): Row) -> Result<Stub, StoreError> {
    Ok(Stub {
        id: parsed("stub", &id)?,
        workspace: parsed("stub", &workspace)?,
        name,
        definition: read(&definition)?,
        created_at: timestamp(created_at),
    })
}

/// A definition as it stands in its row. Its text decides whether two definitions are one, so the
/// order of fields is part of it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    image: String,
    code: Option<String>,
    handler: String,
    python: String,
    cpu_millicores: u32,
    memory_bytes: u64,
    timeout_ms: u64,
    retries: u32,
    concurrency: u32,
    keep_warm_ms: u64,
    max_containers: u32,
    max_pending: u32,
    environment: Vec<(String, String)>,
    secrets: Vec<String>,
}

fn write(definition: &Definition) -> String {
    let stored = Stored {
        image: definition.image.as_str().to_owned(),
        code: definition.code.map(|id| id.to_string()),
        handler: definition.handler.clone(),
        python: definition.python.clone(),
        cpu_millicores: definition.cpu_millicores,
        memory_bytes: definition.memory_bytes,
        timeout_ms: definition.timeout_ms,
        retries: definition.retries,
        concurrency: definition.concurrency,
        keep_warm_ms: definition.keep_warm_ms,
        max_containers: definition.max_containers,
        max_pending: definition.max_pending,
        environment: definition.environment.clone(),
        secrets: definition.secrets.clone(),
    };
    serde_json::to_string(&stored).expect("texts and numbers serialise")
}

fn read(text: &str) -> Result<Definition, StoreError> {
    let stored: Stored =
        serde_json::from_str(text).map_err(|error| damaged("stub", error.to_string()))?;
    let code = stored.code.as_deref();
    Ok(Definition {
        image: digest("stub", &stored.image)?,
        code: code.map(|id| parsed("stub", id)).transpose()?,
        handler: stored.handler,
        python: stored.python,
        cpu_millicores: stored.cpu_millicores,
        memory_bytes: stored.memory_bytes,
        timeout_ms: stored.timeout_ms,
        retries: stored.retries,
        concurrency: stored.concurrency,
        keep_warm_ms: stored.keep_warm_ms,
        max_containers: stored.max_containers,
        max_pending: stored.max_pending,
        environment: stored.environment,
        secrets: stored.secrets,
    })
}
