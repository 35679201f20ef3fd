//! The containers of functions and their queue.

use database::query;
use ids::{ContainerId, StubId, WorkerId, WorkspaceId};
use jiff::Timestamp;

use super::{SqlStore, check_length, damaged, keepable, now_ms, parsed, timestamp};
use crate::containers::{ContainerRecord, ContainerRecords, ContainerState, Delivery};
use crate::error::{Doing, StoreError};
use crate::store::Durability;
use crate::store::StoreFuture;

/// Longest reason: a message and what caused it.
const REASON_LIMIT: usize = 4096;

type Row = (
    String,
    String,
    String,
    String,
    Option<String>,
    u32,
    i64,
    Option<i64>,
    Option<i64>,
    Option<String>,
);

impl ContainerRecords for SqlStore {
    fn request_container(
        &self,
        workspace: WorkspaceId,
        id: ContainerId,
        stub: StubId,
    ) -> StoreFuture<'_, ContainerRecord> {
        Box::pin(self.request_now(workspace, id, stub))
    }

    fn place_container(
        &self,
        id: ContainerId,
        worker: WorkerId,
    ) -> StoreFuture<'_, Option<Delivery>> {
        Box::pin(self.place_now(id, worker))
    }

    fn acknowledge_container(&self, id: ContainerId, by: Delivery) -> StoreFuture<'_, bool> {
        Box::pin(self.acknowledge_now(id, by))
    }

    fn note_container_ready(&self, id: ContainerId, by: Delivery) -> StoreFuture<'_, bool> {
        Box::pin(self.note_ready_now(id, by))
    }

    fn end_container<'a>(
        &'a self,
        id: ContainerId,
        by: Option<Delivery>,
        reason: &'a str,
    ) -> StoreFuture<'a, bool> {
        Box::pin(self.end_container_now(id, by, reason))
    }

    fn container(
        &self,
        workspace: WorkspaceId,
        id: ContainerId,
    ) -> StoreFuture<'_, Option<ContainerRecord>> {
        Box::pin(self.container_now(workspace, id))
    }

    fn containers(&self, workspace: WorkspaceId) -> StoreFuture<'_, Vec<ContainerRecord>> {
        Box::pin(self.open_containers_now(Some(workspace)))
    }

    fn open_containers(&self) -> StoreFuture<'_, Vec<ContainerRecord>> {
        Box::pin(self.open_containers_now(None))
    }

    fn forget_containers(&self, ended_before: Timestamp) -> StoreFuture<'_, u64> {
        Box::pin(self.forget_containers_now(ended_before))
    }
}

impl SqlStore {
    async fn request_now(
        &self,
        workspace: WorkspaceId,
        id: ContainerId,
        stub: StubId,
    ) -> Result<ContainerRecord, StoreError> {
        let now = now_ms();
        let change = query(
            "INSERT INTO container (container_id, workspace_id, stub_id, state, delivery,
                                    requested_at)
             VALUES ($1, $2, $3, 'requested', 0, $4)",
        )
        .bind(id.to_string())
        .bind(workspace.to_string())
        .bind(stub.to_string())
        .bind(now);
        self.database
            .execute(Durability::Disk, "asking for a container", change)
            .await?;
        Ok(ContainerRecord {
            id,
            workspace,
            stub,
            state: ContainerState::Requested,
            worker: None,
            delivery: 0,
            requested_at: timestamp(now),
            ready_at: None,
            ended_at: None,
            reason: None,
        })
    }

    async fn place_now(
        &self,
        id: ContainerId,
        worker: WorkerId,
    ) -> Result<Option<Delivery>, StoreError> {
        let change = self.database.change(Durability::Disk, move |connection| {
            Box::pin(async move {
                let number: Option<(u32,)> = query(
                    "UPDATE container SET state = 'placed', worker_id = $2,
                                          delivery = delivery + 1
                     WHERE container_id = $1 AND state = 'requested' RETURNING delivery",
                )
                .bind(id.to_string())
                .bind(worker.to_string())
                .fetch_optional(connection)
                .await
                .doing("placing a container")?;
                Ok(number.map(|(number,)| Delivery { worker, number }))
            })
        });
        change.await
    }

    async fn acknowledge_now(&self, id: ContainerId, by: Delivery) -> Result<bool, StoreError> {
        let change = query(
            "UPDATE container SET state = 'starting'
             WHERE container_id = $1 AND worker_id = $2 AND delivery = $3
               AND state = 'placed'",
        )
        .bind(id.to_string())
        .bind(by.worker.to_string())
        .bind(by.number);
        let changed = self
            .database
            .execute(Durability::Disk, "acknowledging a container", change)
            .await?;
        Ok(changed > 0)
    }

    async fn note_ready_now(&self, id: ContainerId, by: Delivery) -> Result<bool, StoreError> {
        let now = now_ms();
        let change = query(
            "UPDATE container SET state = 'ready', ready_at = $4
             WHERE container_id = $1 AND worker_id = $2 AND delivery = $3
               AND state = 'starting'",
        )
        .bind(id.to_string())
        .bind(by.worker.to_string())
        .bind(by.number)
        .bind(now);
        let changed = self
            .database
            .execute(
                Durability::Process,
                "noting that a container is ready",
                change,
            )
            .await?;
        Ok(changed > 0)
    }

    async fn end_container_now(
        &self,
        id: ContainerId,
        by: Option<Delivery>,
        reason: &str,
    ) -> Result<bool, StoreError> {
        check_length("reason", reason.len(), REASON_LIMIT)?;
        let (now, reason) = (now_ms(), keepable(reason));
        let change = query(
            "UPDATE container SET state = 'ended', ended_at = $4, reason = $5
             WHERE container_id = $1 AND state <> 'ended'
               AND ($2 IS NULL OR (worker_id = $2 AND delivery = $3))",
        )
        .bind(id.to_string())
        .bind(by.map(|by| by.worker.to_string()))
        .bind(by.map(|by| by.number))
        .bind(now)
        .bind(reason);
        let changed = self
            .database
            .execute(Durability::Disk, "ending a container", change)
            .await?;
        Ok(changed > 0)
    }

    async fn container_now(
        &self,
        workspace: WorkspaceId,
        id: ContainerId,
    ) -> Result<Option<ContainerRecord>, StoreError> {
        let row: Option<Row> = query(
            "SELECT container_id, workspace_id, stub_id, state, worker_id, delivery,
                    requested_at, ready_at, ended_at, reason
             FROM container WHERE workspace_id = $1 AND container_id = $2",
        )
        .bind(workspace.to_string())
        .bind(id.to_string())
        .fetch_optional(self.database.reader())
        .await
        .doing("finding a container")?;
        row.map(container).transpose()
    }

    async fn open_containers_now(
        &self,
        workspace: Option<WorkspaceId>,
    ) -> Result<Vec<ContainerRecord>, StoreError> {
        let rows: Vec<Row> = query(
            "SELECT container_id, workspace_id, stub_id, state, worker_id, delivery,
                    requested_at, ready_at, ended_at, reason
             FROM container WHERE state <> 'ended' AND ($1 IS NULL OR workspace_id = $1)
             ORDER BY container_id",
        )
        .bind(workspace.map(|id| id.to_string()))
        .fetch_all(self.database.reader())
        .await
        .doing("listing containers")?;
        rows.into_iter().map(container).collect()
    }

    async fn forget_containers_now(&self, ended_before: Timestamp) -> Result<u64, StoreError> {
        let change = query("DELETE FROM container WHERE state = 'ended' AND ended_at < $1")
            .bind(ended_before.as_millisecond());
        self.database
            .execute(Durability::Process, "forgetting containers", change)
            .await
    }
}

fn container(row: Row) -> Result<ContainerRecord, StoreError> {
    let (id, workspace, stub, state, worker, delivery, ..) = &row;
    let worker = worker.as_deref().map(|id| parsed("container", id));
    Ok(ContainerRecord {
        id: parsed("container", id)?,
        workspace: parsed("container", workspace)?,
        stub: parsed("container", stub)?,
        state: parse_state(state)?,
        worker: worker.transpose()?,
        delivery: *delivery,
        requested_at: timestamp(row.6),
        ready_at: row.7.map(timestamp),
        ended_at: row.8.map(timestamp),
        reason: row.9,
    })
}

fn parse_state(name: &str) -> Result<ContainerState, StoreError> {
    ContainerState::parse(name).ok_or_else(|| damaged("container", format!("state {name:?}")))
}
