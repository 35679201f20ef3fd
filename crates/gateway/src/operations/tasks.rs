//! Calls of functions: made, followed, listed and cancelled.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use control_store::{
    IdempotencyKey, NewTask, PayloadFormat, Stub, Task, TaskFilter, TaskState, TokenScope,
};
use ids::{StubId, TaskId};
use jiff::{SignedDuration, Timestamp};

use crate::caller::Caller;
use crate::dispatch::{Acceptance, Follower, Full, Life, LiveTask};
use crate::gateway::Gateway;
use crate::problem::{Kind, Problem};

/// Longest payload of a call: what a message to a worker carries.
pub(crate) const PAYLOAD_LIMIT_BYTES: usize = worker_protocol::MAX_PAYLOAD_BYTES;
/// How long a call may wait until it begins: a worker that is away comes back, or somebody notices.
const WAIT_LIMIT: SignedDuration = SignedDuration::from_hours(24);
/// Longest name of a Python version, as `3.11`.
const PYTHON_LIMIT: usize = 16;
/// Looks for a task that is neither under way nor ended, and the pause between them: between its
/// acceptance and its life lies a moment.
const LOOKS: u32 = 20;
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// Tasks in one list.
pub(crate) const LIST_LIMIT: u32 = 1000;

/// A call that somebody makes.
#[derive(Debug)]
pub(crate) struct NewCall {
    pub(crate) format: PayloadFormat,
    pub(crate) payload: Bytes,
    /// The caller's Python, as `3.11`.
    pub(crate) python: Option<String>,
    /// Goes on when its caller goes away.
    pub(crate) is_headless: bool,
    /// Makes a call that is sent again the same call.
    pub(crate) key: Option<IdempotencyKey>,
}

impl Gateway {
    /// Accepts a call: when this answers, it is on disk and will have one outcome.
    pub(crate) async fn call(
        &self,
        caller: &Caller,
        stub: StubId,
        call: NewCall,
    ) -> Result<Follower, Problem> {
        caller.must(TokenScope::Call)?;
        check(&call)?;
        let workspace = caller.workspace();
        let pool = self.pool(workspace, stub).await?;
        let (task, new) = call.to_task(&pool.stub);
        let claim = call
            .key
            .map(|key| self.dispatch().claims.claim((stub, key), &task));
        let claim = match claim.transpose() {
            Ok(claim) => claim,
            Err(first) => return self.accepted(first.follow(0)).await,
        };
        let secrets = self.current_secrets(&pool.stub).await?;
        let admission = match pool.admit(&secrets) {
            Ok(admission) => admission,
            Err(Full) => return self.made_before(&pool.stub, call.key).await,
        };
        let life = Life {
            gateway: self.clone(),
            pool,
            task: Arc::clone(&task),
            input: Some(call.payload),
            _claim: claim,
        };
        // A task of its own, since whoever calls may hang up at any moment.
        let follower = task.follow(0);
        tokio::spawn(life.run(admission, new));
        self.accepted(follower).await
    }

    /// Waits until the task that is followed is on disk, or an earlier one of the same call.
    async fn accepted(&self, follower: Follower) -> Result<Follower, Problem> {
        match follower.task().acceptance().await? {
            Acceptance::Here => Ok(follower),
            Acceptance::Before(first) => self.follower(*first, 0).await,
        }
    }

    /// The call of this key where it was made before, since there is no room for another one.
    async fn made_before(
        &self,
        stub: &Stub,
        key: Option<IdempotencyKey>,
    ) -> Result<Follower, Problem> {
        let Some(key) = key else {
            return Err(full(stub));
        };
        let before = self.store().task_of_key(stub.id, key).await?;
        self.follower(before.ok_or_else(|| full(stub))?, 0).await
    }

    /// Follows a task of the caller's workspace from this offset of its output on.
    pub(crate) async fn follow(
        &self,
        caller: &Caller,
        id: TaskId,
        offset: u64,
    ) -> Result<Follower, Problem> {
        let task = self.task(caller, id).await?;
        self.follower(task, offset).await
    }

    pub(crate) async fn task(&self, caller: &Caller, id: TaskId) -> Result<Task, Problem> {
        caller.must(TokenScope::Read)?;
        self.own_task(caller, id).await
    }

    async fn own_task(&self, caller: &Caller, id: TaskId) -> Result<Task, Problem> {
        let found = self.store().task(caller.workspace(), id).await?;
        found.ok_or_else(|| Problem::not_own(format!("no task {id} in this workspace")))
    }

    pub(crate) async fn tasks(
        &self,
        caller: &Caller,
        filter: &TaskFilter,
    ) -> Result<Vec<Task>, Problem> {
        caller.must(TokenScope::Read)?;
        if filter.limit == 0 || filter.limit > LIST_LIMIT {
            return Err(Problem::invalid(format!("limit is 1 to {LIST_LIMIT}")));
        }
        Ok(self.store().tasks(caller.workspace(), filter).await?)
    }

    /// Asks for the end of a task; one that has ended stays as it is.
    pub(crate) async fn cancel(&self, caller: &Caller, id: TaskId) -> Result<Follower, Problem> {
        caller.must(TokenScope::Call)?;
        let task = self.own_task(caller, id).await?;
        let follower = self.follower(task, 0).await?;
        follower.task().cancel();
        Ok(follower)
    }

    async fn follower(&self, task: Task, offset: u64) -> Result<Follower, Problem> {
        let (store, id) = (self.store(), task.id);
        for _ in 0..LOOKS {
            if let Some(live) = self.dispatch().task(id) {
                return Ok(live.follow(offset));
            }
            // What is not under way has ended, or was accepted at this moment.
            if let Some(end) = store.task_end(task.workspace, id).await?
                && let Some(task) = store.task(task.workspace, id).await?
            {
                return Ok(LiveTask::ended_before(task, end).follow(offset));
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        Err(Problem::not_found(format!("task {id} is forgotten")))
    }
}

impl NewCall {
    /// A task that waits, and what is to be recorded of it.
    fn to_task(&self, stub: &Stub) -> (Arc<LiveTask>, NewTask) {
        let now = Timestamp::now();
        let new = NewTask {
            id: TaskId::new(),
            stub: stub.id,
            key: self.key,
            format: self.format,
            python: self.python.clone(),
            input: self.payload.to_vec(),
            is_headless: self.is_headless,
            retries: stub.definition.retries,
            expires_at: now + WAIT_LIMIT,
            container: None,
        };
        let task = Task {
            id: new.id,
            workspace: stub.workspace,
            stub: stub.id,
            state: TaskState::Pending,
            format: new.format,
            python: new.python.clone(),
            is_headless: new.is_headless,
            retries: new.retries,
            attempts: 0,
            container: None,
            created_at: now,
            available_at: now,
            expires_at: new.expires_at,
            started_at: None,
            ended_at: None,
            outcome: None,
        };
        (LiveTask::new(task), new)
    }
}

fn check(call: &NewCall) -> Result<(), Problem> {
    let length = call.payload.len();
    if length > PAYLOAD_LIMIT_BYTES {
        let message =
            format!("the arguments are {length} bytes long and may be {PAYLOAD_LIMIT_BYTES}");
        return Err(Problem::new(Kind::TooLarge, message));
    }
    let is_version = |text: &str| {
        text.len() <= PYTHON_LIMIT
            && text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'.')
    };
    if call.python.as_deref().is_some_and(|text| !is_version(text)) {
        return Err(Problem::invalid("a Python version is of the form 3.11"));
    }
    Ok(())
}

fn full(stub: &Stub) -> Problem {
    let limit = stub.definition.max_pending;
    let message = format!("{limit} calls of {} wait already", stub.name);
    Problem::new(Kind::Busy, message).hint("call again later, or define it with a larger limit")
}
