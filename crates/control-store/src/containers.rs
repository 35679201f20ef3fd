//! The containers of functions, and the queue of those that wait for a worker.
//!
//! ```text
//!   requested ──place──▶ placed ──acknowledge──▶ starting ──▶ ready ──▶ ended
//!                           │                        each may end at any time
//!                           └── not acknowledged in time: ended, and another one is asked for
//! ```
//!
//! Deliveries are numbered. What a worker says of a container names its delivery, and counts only
//! when it is the last one: two workers never both have a container. A row says which stub, and
//! never what a container is given to read with.

use ids::{ContainerId, StubId, WorkerId, WorkspaceId};
use jiff::Timestamp;

use crate::store::StoreFuture;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    /// Waits for a worker.
    Requested,
    /// Given to a worker that has not taken it yet.
    Placed,
    Starting,
    /// Takes calls.
    Ready,
    Ended,
}

impl ContainerState {
    pub const ALL: [Self; 5] = [
        Self::Requested,
        Self::Placed,
        Self::Starting,
        Self::Ready,
        Self::Ended,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Placed => "placed",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Ended => "ended",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// A container of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRecord {
    pub id: ContainerId,
    pub workspace: WorkspaceId,
    pub stub: StubId,
    pub state: ContainerState,
    pub worker: Option<WorkerId>,
    /// How often it was given to a worker.
    pub delivery: u32,
    pub requested_at: Timestamp,
    pub ready_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// Why it ended.
    pub reason: Option<String>,
}

/// Who says something of a container: the worker that it was given to, that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    pub worker: WorkerId,
    pub number: u32,
}

/// Where containers are kept.
pub trait ContainerRecords {
    /// Asks for a container, durably.
    fn request_container(
        &self,
        workspace: WorkspaceId,
        id: ContainerId,
        stub: StubId,
    ) -> StoreFuture<'_, ContainerRecord>;

    /// Gives a requested container to a worker; nothing when it is not waiting.
    fn place_container(
        &self,
        id: ContainerId,
        worker: WorkerId,
    ) -> StoreFuture<'_, Option<Delivery>>;

    /// The worker has taken it; answers whether it was still to take.
    fn acknowledge_container(&self, id: ContainerId, by: Delivery) -> StoreFuture<'_, bool>;

    /// Notes that the container takes calls; answers whether it was starting.
    fn note_container_ready(&self, id: ContainerId, by: Delivery) -> StoreFuture<'_, bool>;

    /// The container has ended, or never will begin; answers whether it was open. Without a
    /// delivery it is the control plane that says so.
    fn end_container<'a>(
        &'a self,
        id: ContainerId,
        by: Option<Delivery>,
        reason: &'a str,
    ) -> StoreFuture<'a, bool>;

    fn container(
        &self,
        workspace: WorkspaceId,
        id: ContainerId,
    ) -> StoreFuture<'_, Option<ContainerRecord>>;

    /// The containers of a workspace that have not ended, oldest first.
    fn containers(&self, workspace: WorkspaceId) -> StoreFuture<'_, Vec<ContainerRecord>>;

    /// The containers of all workspaces that have not ended, oldest first.
    fn open_containers(&self) -> StoreFuture<'_, Vec<ContainerRecord>>;

    /// Forgets containers that ended before this; answers how many.
    fn forget_containers(&self, ended_before: Timestamp) -> StoreFuture<'_, u64>;
}
