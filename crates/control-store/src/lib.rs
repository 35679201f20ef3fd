//! What Holdfast remembers beside its secrets: workspaces and who may call, images and the right to
//! run them, functions, their calls and where they run.
//!
//! [`ControlStore`] is the seam, a trait for each family of records. [`SqlStore`] keeps them in an
//! SQLite file or on a PostgreSQL server, and passes the same contract suite on both.
//! Invariants: an image, its alias and its grant appear in one transaction; a proof by an older
//! version of a credential never replaces one by a newer; a task that was accepted is on disk and
//! ends once; what belongs to a workspace is only ever found through that workspace, but by the
//! control plane itself. Holds no secret, sealed or not, and decides nothing.

mod backup;
mod containers;
#[cfg(test)]
mod contract;
mod database;
mod error;
mod images;
mod objects;
mod shares;
mod sql;
mod store;
mod stubs;
mod tasks;
mod tokens;
mod workers;
mod workspaces;

pub use backup::{Onto, StoreBackup, StorePlace, back_up, restore};
pub use containers::{ContainerRecord, ContainerRecords, ContainerState, Delivery};
pub use database::reserve_gateway;
pub use error::StoreError;
pub use images::{
    Grant, GrantOutcome, GrantProof, Image, ImageAlias, ImageLayer, ImageRecords, NewGrant,
    ProvenVersion, Publication, Python,
};
pub use objects::{Object, ObjectRecords};
pub use shares::{Recipient, Share, ShareRecords};
pub use sql::SqlStore;
pub use store::{ControlStore, Durability, StoreFuture};
pub use stubs::{Definition, Stub, StubRecords};
pub use tasks::{
    Accepted, AfterAttempt, Attempt, IdempotencyKey, NewTask, PayloadFormat, Task, TaskEnd,
    TaskFilter, TaskOutcome, TaskRecords, TaskState,
};
pub use tokens::{ApiToken, NewToken, ParseTokenScopeError, TokenHash, TokenRecords, TokenScope};
pub use workers::{Capacity, Joined, KeyFingerprint, NewWorker, Worker, WorkerRecords};
pub use workspaces::{RegistrySettings, Workspace, WorkspaceRecords};
