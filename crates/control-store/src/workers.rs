//! Workers: machines that run containers, each known by its key.

use ids::WorkerId;
use jiff::Timestamp;

use crate::store::StoreFuture;
use crate::tokens::TokenHash;

/// What tells one worker's key from all others: the SHA-256 of the public key.
pub type KeyFingerprint = [u8; 32];

/// A machine that runs containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    pub id: WorkerId,
    pub name: String,
    pub key: KeyFingerprint,
    pub cpu_millicores: u32,
    pub memory_bytes: u64,
    /// Gets no new containers.
    pub is_draining: bool,
    pub joined_at: Timestamp,
    pub seen_at: Timestamp,
}

/// What a worker says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capacity {
    pub cpu_millicores: u32,
    pub memory_bytes: u64,
}

/// A worker that wants to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWorker {
    pub id: WorkerId,
    pub name: String,
    pub key: KeyFingerprint,
    pub capacity: Capacity,
}

/// What became of a worker that wanted to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joined {
    Worker(Worker),
    /// The token is unknown, over, or was used before.
    TokenRefused,
    /// Another worker has this name or this key.
    NameTaken,
}

/// Where workers are kept.
pub trait WorkerRecords {
    /// Lets one worker join, once, until then.
    fn add_join_token<'a>(
        &'a self,
        hash: &'a TokenHash,
        expires_at: Timestamp,
    ) -> StoreFuture<'a, ()>;

    /// Takes the token and records the worker, both or neither.
    fn join_worker<'a>(
        &'a self,
        token: &'a TokenHash,
        worker: &'a NewWorker,
    ) -> StoreFuture<'a, Joined>;

    /// The worker with this key.
    fn worker_of_key<'a>(&'a self, key: &'a KeyFingerprint) -> StoreFuture<'a, Option<Worker>>;

    /// All workers, oldest first.
    fn workers(&self) -> StoreFuture<'_, Vec<Worker>>;

    /// Notes that a worker is there, and what it has.
    fn note_worker<'a>(
        &'a self,
        id: WorkerId,
        capacity: &'a Capacity,
        at: Timestamp,
    ) -> StoreFuture<'a, ()>;

    /// Sets whether a worker gets new containers; answers whether there is one.
    fn set_worker_draining(&self, id: WorkerId, is_draining: bool) -> StoreFuture<'_, bool>;

    /// Removes a worker; its key is no longer known.
    fn remove_worker(&self, id: WorkerId) -> StoreFuture<'_, bool>;
}
