//! Tasks: each call of a function, from acceptance to its one outcome.
//!
//! ```text
//!   accept_task ──▶ pending ──begin_attempt──▶ running ──end_attempt──▶ ended
//!                      ▲                          │
//!                      └────── another try ───────┘        finish_task: from either, to ended
//! ```
//!
//! Attempts are numbered from 1. Every change says what it was based on, and is refused when the
//! task has moved on: an attempt that comes back late changes nothing, and what has ended never
//! changes again. What has ended is on disk when the answer comes.

use ids::{ContainerId, StubId, TaskId, WorkspaceId};
use jiff::Timestamp;

use crate::store::{Durability, StoreFuture};

/// How arguments and results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadFormat {
    /// By Python's pickle; bytes to us.
    Pickle,
    Json,
}

/// What makes a call that is sent again the same call.
pub type IdempotencyKey = [u8; 16];

/// A call that is to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    pub id: TaskId,
    pub stub: StubId,
    pub key: Option<IdempotencyKey>,
    pub format: PayloadFormat,
    /// The caller's Python, as `3.11`, where it is known.
    pub python: Option<String>,
    pub input: Vec<u8>,
    /// Goes on when its caller goes away.
    pub is_headless: bool,
    /// Attempts beyond the first.
    pub retries: u32,
    /// No attempt begins later.
    pub expires_at: Timestamp,
    /// The container that has a place for it now: its first attempt begins with its acceptance.
    pub container: Option<ContainerId>,
}

/// What became of a call that was to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    New(Task),
    /// It was recorded before, under this key; nothing was done now.
    Before(Task),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    /// Waits for an attempt.
    Pending,
    Running,
    Ended,
}

impl TaskState {
    pub const ALL: [Self; 3] = [Self::Pending, Self::Running, Self::Ended];

    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Ended => "ended",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// How a task or an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskOutcome {
    Returned,
    /// The function raised an exception.
    Raised,
    Cancelled,
    /// An attempt took longer than it may.
    TimedOut,
    /// No attempt could begin in time.
    Expired,
    /// Its container ended before it did.
    Died,
    /// Its worker was lost.
    Lost,
    /// No container could be started.
    NotStarted,
}

impl TaskOutcome {
    pub const ALL: [Self; 8] = [
        Self::Returned,
        Self::Raised,
        Self::Cancelled,
        Self::TimedOut,
        Self::Expired,
        Self::Died,
        Self::Lost,
        Self::NotStarted,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Returned => "returned",
            Self::Raised => "raised",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed-out",
            Self::Expired => "expired",
            Self::Died => "died",
            Self::Lost => "lost",
            Self::NotStarted => "not-started",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.name() == name)
    }
}

/// A task without its input and result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    pub id: TaskId,
    pub workspace: WorkspaceId,
    pub stub: StubId,
    pub state: TaskState,
    pub format: PayloadFormat,
    pub python: Option<String>,
    pub is_headless: bool,
    pub retries: u32,
    /// Attempts that have begun.
    pub attempts: u32,
    /// Where the last attempt runs or ran.
    pub container: Option<ContainerId>,
    pub created_at: Timestamp,
    /// The next attempt begins no earlier.
    pub available_at: Timestamp,
    pub expires_at: Timestamp,
    /// When the last attempt began.
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub outcome: Option<TaskOutcome>,
}

/// An attempt that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub number: u32,
    pub container: ContainerId,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
    pub outcome: TaskOutcome,
}

/// How a task ended, and what its caller gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskEnd {
    pub outcome: TaskOutcome,
    /// The result, or the exception where it could be written.
    pub payload: Option<Vec<u8>>,
    /// The exception as data, or why there is no result: a JSON object.
    pub failure: Option<String>,
}

/// What comes after an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AfterAttempt {
    /// The task has ended like its attempt.
    End(TaskEnd),
    /// The task waits for its next attempt.
    TryAgain {
        outcome: TaskOutcome,
        available_at: Timestamp,
    },
}

/// Which tasks are listed, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFilter {
    pub stub: Option<StubId>,
    pub state: Option<TaskState>,
    /// Only those made before this one.
    pub before: Option<TaskId>,
    pub limit: u32,
}

/// Where tasks are kept.
pub trait TaskRecords {
    /// Records a task, as durably as asked, unless its stub has one of the same key. With a
    /// container its first attempt has begun. Who asks again for the same task, having heard no
    /// answer, gets the one of the first time.
    fn accept_task(
        &self,
        workspace: WorkspaceId,
        task: NewTask,
        durability: Durability,
    ) -> StoreFuture<'_, Accepted>;

    /// Records, durably and at once, a call that was made in its container and has ended, unless
    /// its stub has one of the same key. Asked again, it answers as before.
    fn record_call(
        &self,
        workspace: WorkspaceId,
        task: NewTask,
        end: TaskEnd,
    ) -> StoreFuture<'_, Accepted>;

    /// The task of a stub that was accepted under this key.
    fn task_of_key(&self, stub: StubId, key: IdempotencyKey) -> StoreFuture<'_, Option<Task>>;

    /// Begins the next attempt, in this container; answers its number, and nothing when the task
    /// is not waiting for one now. Asked again in the same container, it answers the same.
    fn begin_attempt(&self, id: TaskId, container: ContainerId) -> StoreFuture<'_, Option<u32>>;

    /// Records, durably, how the attempt of this number ended; answers whether it was the one
    /// that runs.
    fn end_attempt(&self, id: TaskId, number: u32, then: AfterAttempt) -> StoreFuture<'_, bool>;

    /// Ends a task whatever it is doing, durably; answers whether it had not ended yet.
    fn finish_task(&self, id: TaskId, end: TaskEnd) -> StoreFuture<'_, bool>;

    fn task(&self, workspace: WorkspaceId, id: TaskId) -> StoreFuture<'_, Option<Task>>;

    fn tasks<'a>(
        &'a self,
        workspace: WorkspaceId,
        filter: &'a TaskFilter,
    ) -> StoreFuture<'a, Vec<Task>>;

    /// The attempts of a task that are over, in their order.
    fn attempts(&self, workspace: WorkspaceId, id: TaskId) -> StoreFuture<'_, Vec<Attempt>>;

    /// What the caller gave.
    fn task_input(&self, id: TaskId) -> StoreFuture<'_, Option<Vec<u8>>>;

    /// How a task ended; nothing before.
    fn task_end(&self, workspace: WorkspaceId, id: TaskId) -> StoreFuture<'_, Option<TaskEnd>>;

    /// Tasks of all workspaces that have not ended, oldest first, those after this one.
    fn open_tasks(&self, after: Option<TaskId>, limit: u32) -> StoreFuture<'_, Vec<Task>>;

    /// Forgets tasks that ended before this, some at a time; answers how many.
    fn forget_tasks(&self, ended_before: Timestamp, limit: u32) -> StoreFuture<'_, u64>;
}
