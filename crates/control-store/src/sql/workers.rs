//! Workers and the tokens that let them join.

use database::{Connection, query};
use ids::WorkerId;
use jiff::Timestamp;

use super::{SqlStore, check_length, damaged, now_ms, parsed, timestamp};
use crate::error::{Doing, StoreError};
use crate::store::Durability;
use crate::store::StoreFuture;
use crate::tokens::TokenHash;
use crate::workers::{Capacity, Joined, KeyFingerprint, NewWorker, Worker, WorkerRecords};

/// Longest name of a worker: that of a host.
const NAME_LIMIT: usize = 253;

type Row = (String, String, Vec<u8>, u32, i64, bool, i64, i64);

impl WorkerRecords for SqlStore {
    fn add_join_token<'a>(
        &'a self,
        hash: &'a TokenHash,
        expires_at: Timestamp,
    ) -> StoreFuture<'a, ()> {
        Box::pin(self.add_join_token_now(*hash, expires_at))
    }

    fn join_worker<'a>(
        &'a self,
        token: &'a TokenHash,
        worker: &'a NewWorker,
    ) -> StoreFuture<'a, Joined> {
        Box::pin(self.join_worker_now(*token, worker))
    }

    fn worker_of_key<'a>(&'a self, key: &'a KeyFingerprint) -> StoreFuture<'a, Option<Worker>> {
        Box::pin(self.worker_of_key_now(key))
    }

    fn workers(&self) -> StoreFuture<'_, Vec<Worker>> {
        Box::pin(self.workers_now())
    }

    fn note_worker<'a>(
        &'a self,
        id: WorkerId,
        capacity: &'a Capacity,
        at: Timestamp,
    ) -> StoreFuture<'a, ()> {
        Box::pin(self.note_worker_now(id, capacity.clone(), at))
    }

    fn set_worker_draining(&self, id: WorkerId, is_draining: bool) -> StoreFuture<'_, bool> {
        Box::pin(self.set_worker_draining_now(id, is_draining))
    }

    fn remove_worker(&self, id: WorkerId) -> StoreFuture<'_, bool> {
        Box::pin(self.remove_worker_now(id))
    }
}

impl SqlStore {
    async fn add_join_token_now(
        &self,
        hash: TokenHash,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        let now = now_ms();
        let change = self.database.change(Durability::Disk, move |connection| {
            Box::pin(async move {
                // Those that nobody used in time go when others come.
                query("DELETE FROM join_token WHERE expires_at <= $1")
                    .bind(now)
                    .execute(&mut *connection)
                    .await
                    .doing("forgetting join tokens")?;
                query("INSERT INTO join_token (hash, created_at, expires_at) VALUES ($1, $2, $3)")
                    .bind(&hash[..])
                    .bind(now)
                    .bind(expires_at.as_millisecond())
                    .execute(connection)
                    .await
                    .doing("adding a join token")?;
                Ok(())
            })
        });
        change.await
    }

    async fn join_worker_now(
        &self,
        token: TokenHash,
        worker: &NewWorker,
    ) -> Result<Joined, StoreError> {
        check_length("name of a worker", worker.name.len(), NAME_LIMIT)?;
        let (now, new) = (now_ms(), worker.clone());
        let change = self.database.change(Durability::Disk, move |connection| {
            Box::pin(async move {
                // First of all: who has no token learns of no name.
                if !is_good(connection, &token, now).await? {
                    return Ok(Joined::TokenRefused);
                }
                if is_taken(connection, &new).await? {
                    return Ok(Joined::NameTaken);
                }
                query("DELETE FROM join_token WHERE hash = $1")
                    .bind(&token[..])
                    .execute(&mut *connection)
                    .await
                    .doing("taking a join token")?;
                insert(connection, &new, now).await?;
                Ok(Joined::Worker(Worker {
                    id: new.id,
                    name: new.name,
                    key: new.key,
                    cpu_millicores: new.capacity.cpu_millicores,
                    memory_bytes: new.capacity.memory_bytes,
                    is_draining: false,
                    joined_at: timestamp(now),
                    seen_at: timestamp(now),
                }))
            })
        });
        change.await
    }

    async fn worker_of_key_now(&self, key: &KeyFingerprint) -> Result<Option<Worker>, StoreError> {
        let row: Option<Row> = query(
            "SELECT worker_id, name, public_key, cpu_millicores, memory_bytes, is_draining,
                    joined_at, seen_at
             FROM worker WHERE public_key = $1",
        )
        .bind(&key[..])
        .fetch_optional(self.database.reader())
        .await
        .doing("finding a worker")?;
        row.map(read).transpose()
    }

    async fn workers_now(&self) -> Result<Vec<Worker>, StoreError> {
        let rows: Vec<Row> = query(
            "SELECT worker_id, name, public_key, cpu_millicores, memory_bytes, is_draining,
                    joined_at, seen_at
             FROM worker ORDER BY worker_id",
        )
        .fetch_all(self.database.reader())
        .await
        .doing("listing workers")?;
        rows.into_iter().map(read).collect()
    }

    async fn note_worker_now(
        &self,
        id: WorkerId,
        capacity: Capacity,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let change = query(
            "UPDATE worker SET cpu_millicores = $2, memory_bytes = $3, seen_at = $4
             WHERE worker_id = $1",
        )
        .bind(id.to_string())
        .bind(capacity.cpu_millicores)
        .bind(stored_bytes(capacity.memory_bytes))
        .bind(at.as_millisecond());
        self.database
            .execute(Durability::Process, "noting a worker", change)
            .await
            .map(drop)
    }

    async fn set_worker_draining_now(
        &self,
        id: WorkerId,
        is_draining: bool,
    ) -> Result<bool, StoreError> {
        let change = query("UPDATE worker SET is_draining = $2 WHERE worker_id = $1")
            .bind(id.to_string())
            .bind(is_draining);
        let changed = self
            .database
            .execute(Durability::Disk, "draining a worker", change)
            .await?;
        Ok(changed > 0)
    }

    async fn remove_worker_now(&self, id: WorkerId) -> Result<bool, StoreError> {
        let change = query("DELETE FROM worker WHERE worker_id = $1").bind(id.to_string());
        let changed = self
            .database
            .execute(Durability::Disk, "removing a worker", change)
            .await?;
        Ok(changed > 0)
    }
}

async fn is_good(
    connection: &mut Connection<'_>,
    token: &TokenHash,
    now: i64,
) -> Result<bool, StoreError> {
    let (is_there,) =
        query("SELECT EXISTS (SELECT 1 FROM join_token WHERE hash = $1 AND expires_at > $2)")
            .bind(&token[..])
            .bind(now)
            .fetch_one(connection)
            .await
            .doing("looking for a join token")?;
    Ok(is_there)
}

async fn is_taken(connection: &mut Connection<'_>, new: &NewWorker) -> Result<bool, StoreError> {
    let (is_there,) =
        query("SELECT EXISTS (SELECT 1 FROM worker WHERE name = $1 OR public_key = $2)")
            .bind(&new.name)
            .bind(&new.key[..])
            .fetch_one(connection)
            .await
            .doing("looking for a worker")?;
    Ok(is_there)
}

async fn insert(
    connection: &mut Connection<'_>,
    new: &NewWorker,
    now: i64,
) -> Result<(), StoreError> {
    query(
        "INSERT INTO worker (worker_id, name, public_key, cpu_millicores, memory_bytes,
                             is_draining, joined_at, seen_at)
         VALUES ($1, $2, $3, $4, $5, 0, $6, $6)",
    )
    .bind(new.id.to_string())
    .bind(&new.name)
    .bind(&new.key[..])
    .bind(new.capacity.cpu_millicores)
    .bind(stored_bytes(new.capacity.memory_bytes))
    .bind(now)
    .execute(connection)
    .await
    .doing("recording a worker")?;
    Ok(())
}

fn stored_bytes(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn read(row: Row) -> Result<Worker, StoreError> {
    let (id, name, key, cpu_millicores, memory, is_draining, joined_at, seen_at) = row;
    let key = KeyFingerprint::try_from(key);
    let memory = u64::try_from(memory);
    Ok(Worker {
        id: parsed("worker", &id)?,
        name,
        key: key.map_err(|_| damaged("worker", "length of a key".to_owned()))?,
        cpu_millicores,
        memory_bytes: memory.map_err(|error| damaged("worker", error.to_string()))?,
        is_draining,
        joined_at: timestamp(joined_at),
        seen_at: timestamp(seen_at),
    })
}
