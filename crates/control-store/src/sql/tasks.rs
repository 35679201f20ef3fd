//! Tasks and their attempts.

use database::{FromRow, Statements, Value, query, statements};
use ids::{ContainerId, StubId, TaskId, WorkspaceId};
use jiff::Timestamp;

use super::{SqlStore, check_length, damaged, keepable, now_ms, parsed, timestamp};
use crate::error::{Doing, StoreError};
use crate::store::{Durability, StoreFuture};
use crate::tasks::{
    Accepted, AfterAttempt, Attempt, IdempotencyKey, NewTask, PayloadFormat, Task, TaskEnd,
    TaskFilter, TaskOutcome, TaskRecords, TaskState,
};

/// Largest input, and largest result: what the wire of either face carries at once.
const PAYLOAD_LIMIT: usize = 32 << 20;
/// Longest failure: the header of a runner's message, and what escaping makes of it.
const FAILURE_LIMIT: usize = 512 << 10;

type Row = (
    String,
    String,
    String,
    String,
    String,
    u32,
    u32,
    Option<String>,
    i64,
    i64,
    i64,
    Option<i64>,
    Option<i64>,
    Option<String>,
    Option<String>,
    bool,
);

/// The tasks of a condition, their columns in the order of [`Row`].
macro_rules! select_tasks {
    ($condition:literal) => {
        concat!(
            "SELECT task_id, workspace_id, stub_id, state, format, retries, attempts,
                    container_id, created_at, available_at, expires_at, started_at, ended_at,
                    outcome, python, is_headless
             FROM task ",
            $condition
        )
    };
}

/// A new task, unless it is there or its stub has one of its key: `$1` to `$17`, as [`values_of`]
/// has them.
macro_rules! insert_task {
    () => {
        "INSERT INTO task (task_id, workspace_id, stub_id, state, format, retries, attempts,
                           container_id, created_at, available_at, expires_at, started_at,
                           idempotency_key, python, is_headless, ended_at, outcome)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
         ON CONFLICT DO NOTHING"
    };
}

/// What was recorded before under the key of that task, or as that task: the answer to who recorded
/// it may have been lost, and then it is asked for again.
macro_rules! select_before {
    () => {
        select_tasks!(
            "WHERE (stub_id = $3 AND idempotency_key = $13 AND task_id <> $1)
                OR (task_id = $1 AND created_at <> $9)"
        )
    };
}

/// `$18` is the input.
static ACCEPT: Statements = statements!(
    insert_task!(),
    "INSERT INTO task_input (task_id, payload)
     SELECT task_id, $18 FROM task WHERE task_id = $1 AND state <> 'ended'
     ON CONFLICT (task_id) DO NOTHING",
    select_before!(),
);

/// `$18` and `$19` are the result and the failure.
static RECORD: Statements = statements!(
    insert_task!(),
    "INSERT INTO task_attempt (task_id, number, container_id, started_at, ended_at, outcome)
     SELECT task_id, attempts, container_id, started_at, ended_at, outcome
     FROM task WHERE task_id = $1
     ON CONFLICT (task_id, number) DO NOTHING",
    "INSERT INTO task_result (task_id, payload, failure)
     SELECT task_id, $18, $19 FROM task WHERE task_id = $1
     ON CONFLICT (task_id) DO NOTHING",
    select_before!(),
);

/// The attempt that ends at `$3` with the outcome `$4`, of a task that this condition finds.
macro_rules! keep_attempt {
    ($condition:literal) => {
        concat!(
            "INSERT INTO task_attempt
                 (task_id, number, container_id, started_at, ended_at, outcome)
             SELECT task_id, attempts, container_id, started_at, $3, $4
             FROM task WHERE state = 'running' AND ",
            $condition
        )
    };
}

/// The end of a task that this condition finds: `$1` is an id, `$2` the number of its attempt, `$5`
/// and `$6` are the result and the failure.
macro_rules! end {
    ($condition:literal) => {
        statements!(
            keep_attempt!($condition),
            concat!(
                "INSERT INTO task_result (task_id, payload, failure)
                 SELECT task_id, $5, $6 FROM task WHERE ",
                $condition
            ),
            concat!(
                "DELETE FROM task_input
                 WHERE task_id = (SELECT task_id FROM task WHERE ",
                $condition,
                ")"
            ),
            concat!(
                "UPDATE task SET state = 'ended', ended_at = $3, outcome = $4 WHERE ",
                $condition,
                " RETURNING task_id"
            ),
        )
    };
}

static END_ATTEMPT: Statements = end!("task_id = $1 AND attempts = $2 AND state = 'running'");
static FINISH: Statements =
    end!("task_id = $1 AND attempts = coalesce($2, attempts) AND state <> 'ended'");

/// The next attempt may begin at `$5`.
static TRY_AGAIN: Statements = statements!(
    keep_attempt!("task_id = $1 AND attempts = $2"),
    "UPDATE task SET state = 'pending', available_at = $5
     WHERE task_id = $1 AND attempts = $2 AND state = 'running' RETURNING task_id",
);

static BEGIN_ATTEMPT: Statements = statements!(
    "UPDATE task SET state = 'running', attempts = attempts + 1, container_id = $2, started_at = $3
     WHERE task_id = $1 AND state = 'pending' AND available_at <= $3 AND expires_at > $3
     RETURNING attempts",
    // Of this container it has begun, also where that was answered to nobody.
    "SELECT attempts FROM task WHERE task_id = $1 AND state = 'running' AND container_id = $2",
);

impl TaskRecords for SqlStore {
    fn accept_task(
        &self,
        workspace: WorkspaceId,
        task: NewTask,
        durability: Durability,
    ) -> StoreFuture<'_, Accepted> {
        Box::pin(self.accept_now(workspace, task, durability))
    }

    fn record_call(
        &self,
        workspace: WorkspaceId,
        task: NewTask,
        end: TaskEnd,
    ) -> StoreFuture<'_, Accepted> {
        Box::pin(self.record_call_now(workspace, task, end))
    }

    fn task_of_key(&self, stub: StubId, key: IdempotencyKey) -> StoreFuture<'_, Option<Task>> {
        Box::pin(self.of_key_now(stub, key))
    }

    fn begin_attempt(&self, id: TaskId, container: ContainerId) -> StoreFuture<'_, Option<u32>> {
        Box::pin(self.begin_now(id, container))
    }

    fn end_attempt(&self, id: TaskId, number: u32, then: AfterAttempt) -> StoreFuture<'_, bool> {
        Box::pin(self.end_attempt_now(id, number, then))
    }

    fn finish_task(&self, id: TaskId, end: TaskEnd) -> StoreFuture<'_, bool> {
        Box::pin(self.finish_now(id, end))
    }

    fn task(&self, workspace: WorkspaceId, id: TaskId) -> StoreFuture<'_, Option<Task>> {
        Box::pin(self.task_now(workspace, id))
    }

    fn tasks<'a>(
        &'a self,
        workspace: WorkspaceId,
        filter: &'a TaskFilter,
    ) -> StoreFuture<'a, Vec<Task>> {
        Box::pin(self.tasks_now(workspace, filter))
    }

    fn attempts(&self, workspace: WorkspaceId, id: TaskId) -> StoreFuture<'_, Vec<Attempt>> {
        Box::pin(self.attempts_now(workspace, id))
    }

    fn task_input(&self, id: TaskId) -> StoreFuture<'_, Option<Vec<u8>>> {
        Box::pin(self.input_now(id))
    }

    fn task_end(&self, workspace: WorkspaceId, id: TaskId) -> StoreFuture<'_, Option<TaskEnd>> {
        Box::pin(self.end_now(workspace, id))
    }

    fn open_tasks(&self, after: Option<TaskId>, limit: u32) -> StoreFuture<'_, Vec<Task>> {
        Box::pin(self.open_tasks_now(after, limit))
    }

    fn forget_tasks(&self, ended_before: Timestamp, limit: u32) -> StoreFuture<'_, u64> {
        Box::pin(self.forget_tasks_now(ended_before, limit))
    }
}

impl SqlStore {
    async fn accept_now(
        &self,
        workspace: WorkspaceId,
        new: NewTask,
        durability: Durability,
    ) -> Result<Accepted, StoreError> {
        check_length("input of a task", new.input.len(), PAYLOAD_LIMIT)?;
        let task = accepted(workspace, &new, timestamp(now_ms()));
        let mut values = values_of(&task, new.key);
        values.push(new.input.into());
        let doing = "accepting a task";
        self.insert(durability, &ACCEPT, task, doing, values).await
    }

    async fn record_call_now(
        &self,
        workspace: WorkspaceId,
        new: NewTask,
        end: TaskEnd,
    ) -> Result<Accepted, StoreError> {
        check_end(&end)?;
        let now = timestamp(now_ms());
        let task = Task {
            state: TaskState::Ended,
            ended_at: Some(now),
            outcome: Some(end.outcome),
            ..accepted(workspace, &new, now)
        };
        let mut values = values_of(&task, new.key);
        values.extend([
            end.payload.into(),
            end.failure.as_deref().map(keepable).into(),
        ]);
        let doing = "recording a call";
        self.insert(Durability::Disk, &RECORD, task, doing, values)
            .await
    }

    /// Inserts a task by statements that answer the one that was there before.
    async fn insert(
        &self,
        durability: Durability,
        statements: &'static Statements,
        task: Task,
        doing: &'static str,
        values: Vec<Value>,
    ) -> Result<Accepted, StoreError> {
        let run = self.database.run(durability, statements, doing, values);
        let Some(row) = run.await?.pop() else {
            return Ok(Accepted::New(task));
        };
        let before = task_of(&Row::from_row(row).doing(doing)?)?;
        if before.id != task.id {
            return Ok(Accepted::Before(before));
        }
        if (before.workspace, before.stub) != (task.workspace, task.stub) {
            return Err(damaged("task", format!("{} is another's", task.id)));
        }
        Ok(Accepted::New(before))
    }

    async fn of_key_now(
        &self,
        stub: StubId,
        key: IdempotencyKey,
    ) -> Result<Option<Task>, StoreError> {
        let row: Option<Row> = query(select_tasks!("WHERE stub_id = $1 AND idempotency_key = $2"))
            .bind(stub.to_string())
            .bind(key.to_vec())
            .fetch_optional(self.database.reader())
            .await
            .doing("looking for the same call")?;
        row.as_ref().map(task_of).transpose()
    }

    async fn begin_now(
        &self,
        id: TaskId,
        container: ContainerId,
    ) -> Result<Option<u32>, StoreError> {
        let doing = "beginning an attempt";
        let values = vec![
            id.to_string().into(),
            container.to_string().into(),
            now_ms().into(),
        ];
        let begun = self
            .database
            .run(Durability::Disk, &BEGIN_ATTEMPT, doing, values);
        let rows = begun.await?;
        let number = rows.first().map(|row| row.get(0).doing(doing));
        number.transpose()
    }

    async fn end_attempt_now(
        &self,
        id: TaskId,
        number: u32,
        then: AfterAttempt,
    ) -> Result<bool, StoreError> {
        match then {
            AfterAttempt::End(end) => self.end_by(&END_ATTEMPT, id, Some(number), end).await,
            AfterAttempt::TryAgain {
                outcome,
                available_at,
            } => {
                let values = vec![
                    id.to_string().into(),
                    number.into(),
                    now_ms().into(),
                    outcome.name().into(),
                    available_at.as_millisecond().into(),
                ];
                let doing = "putting a task back";
                let done = self
                    .database
                    .run(Durability::Disk, &TRY_AGAIN, doing, values);
                Ok(!done.await?.is_empty())
            }
        }
    }

    async fn finish_now(&self, id: TaskId, end: TaskEnd) -> Result<bool, StoreError> {
        self.end_by(&FINISH, id, None, end).await
    }

    async fn end_by(
        &self,
        statements: &'static Statements,
        id: TaskId,
        number: Option<u32>,
        end: TaskEnd,
    ) -> Result<bool, StoreError> {
        check_end(&end)?;
        let values = vec![
            id.to_string().into(),
            number.into(),
            now_ms().into(),
            end.outcome.name().into(),
            end.payload.into(),
            end.failure.as_deref().map(keepable).into(),
        ];
        let doing = "ending a task";
        let ended = self
            .database
            .run(Durability::Disk, statements, doing, values);
        Ok(!ended.await?.is_empty())
    }

    async fn task_now(
        &self,
        workspace: WorkspaceId,
        id: TaskId,
    ) -> Result<Option<Task>, StoreError> {
        let row: Option<Row> = query(select_tasks!("WHERE workspace_id = $1 AND task_id = $2"))
            .bind(workspace.to_string())
            .bind(id.to_string())
            .fetch_optional(self.database.reader())
            .await
            .doing("finding a task")?;
        row.as_ref().map(task_of).transpose()
    }

    async fn tasks_now(
        &self,
        workspace: WorkspaceId,
        filter: &TaskFilter,
    ) -> Result<Vec<Task>, StoreError> {
        let rows: Vec<Row> = query(select_tasks!(
            "WHERE workspace_id = $1 AND ($2 IS NULL OR stub_id = $2)
               AND ($3 IS NULL OR state = $3) AND ($4 IS NULL OR task_id < $4)
             ORDER BY task_id DESC LIMIT $5"
        ))
        .bind(workspace.to_string())
        .bind(filter.stub.map(|id| id.to_string()))
        .bind(filter.state.map(TaskState::name))
        .bind(filter.before.map(|id| id.to_string()))
        .bind(filter.limit)
        .fetch_all(self.database.reader())
        .await
        .doing("listing tasks")?;
        rows.iter().map(task_of).collect()
    }

    async fn open_tasks_now(
        &self,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<Vec<Task>, StoreError> {
        let rows: Vec<Row> = query(select_tasks!(
            "WHERE state <> 'ended' AND task_id > $1 ORDER BY task_id LIMIT $2"
        ))
        .bind(after.map(|id| id.to_string()).unwrap_or_default())
        .bind(limit)
        .fetch_all(self.database.reader())
        .await
        .doing("listing open tasks")?;
        rows.iter().map(task_of).collect()
    }

    async fn attempts_now(
        &self,
        workspace: WorkspaceId,
        id: TaskId,
    ) -> Result<Vec<Attempt>, StoreError> {
        let rows: Vec<(u32, String, i64, i64, String)> = query(
            "SELECT number, container_id, started_at, ended_at, outcome FROM task_attempt
             WHERE task_id = (SELECT task_id FROM task WHERE workspace_id = $1 AND task_id = $2)
             ORDER BY number",
        )
        .bind(workspace.to_string())
        .bind(id.to_string())
        .fetch_all(self.database.reader())
        .await
        .doing("listing attempts")?;
        rows.into_iter().map(attempt).collect()
    }

    async fn input_now(&self, id: TaskId) -> Result<Option<Vec<u8>>, StoreError> {
        let payload = query("SELECT payload FROM task_input WHERE task_id = $1")
            .bind(id.to_string())
            .fetch_optional(self.database.reader())
            .await
            .doing("reading the input of a task")?;
        Ok(payload.map(|(payload,)| payload))
    }

    async fn end_now(
        &self,
        workspace: WorkspaceId,
        id: TaskId,
    ) -> Result<Option<TaskEnd>, StoreError> {
        let row: Option<(String, Option<Vec<u8>>, Option<String>)> = query(
            "SELECT outcome, payload, failure FROM task LEFT JOIN task_result USING (task_id)
             WHERE workspace_id = $1 AND task_id = $2 AND state = 'ended'",
        )
        .bind(workspace.to_string())
        .bind(id.to_string())
        .fetch_optional(self.database.reader())
        .await
        .doing("reading the end of a task")?;
        row.map(|(name, payload, failure)| {
            Ok(TaskEnd {
                outcome: outcome("task", &name)?,
                payload,
                failure,
            })
        })
        .transpose()
    }

    async fn forget_tasks_now(
        &self,
        ended_before: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let change = query(
            "DELETE FROM task WHERE task_id IN
             (SELECT task_id FROM task WHERE state = 'ended' AND ended_at < $1 LIMIT $2)",
        )
        .bind(ended_before.as_millisecond())
        .bind(limit);
        self.database
            .execute(Durability::Process, "forgetting tasks", change)
            .await
    }
}

/// A task at the moment of its acceptance, its times as they are kept.
fn accepted(workspace: WorkspaceId, new: &NewTask, now: Timestamp) -> Task {
    let is_running = new.container.is_some();
    Task {
        id: new.id,
        workspace,
        stub: new.stub,
        state: if is_running {
            TaskState::Running
        } else {
            TaskState::Pending
        },
        format: new.format,
        python: new.python.clone(),
        is_headless: new.is_headless,
        retries: new.retries,
        attempts: u32::from(is_running),
        container: new.container,
        created_at: now,
        available_at: now,
        expires_at: timestamp(new.expires_at.as_millisecond()),
        started_at: is_running.then_some(now),
        ended_at: None,
        outcome: None,
    }
}

/// What [`insert_task`] says of a task.
fn values_of(task: &Task, key: Option<IdempotencyKey>) -> Vec<Value> {
    let time = |at: Option<Timestamp>| Value::from(at.map(Timestamp::as_millisecond));
    vec![
        task.id.to_string().into(),
        task.workspace.to_string().into(),
        task.stub.to_string().into(),
        task.state.name().into(),
        format_name(task.format).into(),
        task.retries.into(),
        task.attempts.into(),
        task.container.map(|id| id.to_string()).into(),
        task.created_at.as_millisecond().into(),
        task.available_at.as_millisecond().into(),
        task.expires_at.as_millisecond().into(),
        time(task.started_at),
        key.into(),
        task.python.clone().into(),
        task.is_headless.into(),
        time(task.ended_at),
        task.outcome.map(TaskOutcome::name).into(),
    ]
}

fn check_end(end: &TaskEnd) -> Result<(), StoreError> {
    let payload = end.payload.as_ref().map_or(0, Vec::len);
    check_length("result of a task", payload, PAYLOAD_LIMIT)?;
    let failure = end.failure.as_ref().map_or(0, String::len);
    check_length("failure of a task", failure, FAILURE_LIMIT)
}

fn task_of(row: &Row) -> Result<Task, StoreError> {
    let (id, workspace, stub, state, format, retries, attempts, container, ..) = row;
    let container = container.as_deref().map(|id| parsed("task", id));
    let ended = row.13.as_deref().map(|name| outcome("task", name));
    Ok(Task {
        id: parsed("task", id)?,
        workspace: parsed("task", workspace)?,
        stub: parsed("task", stub)?,
        state: parse_state(state)?,
        format: parse_format(format)?,
        python: row.14.clone(),
        is_headless: row.15,
        retries: *retries,
        attempts: *attempts,
        container: container.transpose()?,
        created_at: timestamp(row.8),
        available_at: timestamp(row.9),
        expires_at: timestamp(row.10),
        started_at: row.11.map(timestamp),
        ended_at: row.12.map(timestamp),
        outcome: ended.transpose()?,
    })
}

fn attempt(row: (u32, String, i64, i64, String)) -> Result<Attempt, StoreError> {
    let (number, container, started_at, ended_at, name) = row;
    Ok(Attempt {
        number,
        container: parsed("task_attempt", &container)?,
        started_at: timestamp(started_at),
        ended_at: timestamp(ended_at),
        outcome: outcome("task_attempt", &name)?,
    })
}

fn outcome(table: &'static str, name: &str) -> Result<TaskOutcome, StoreError> {
    TaskOutcome::parse(name).ok_or_else(|| damaged(table, format!("outcome {name:?}")))
}

fn parse_state(name: &str) -> Result<TaskState, StoreError> {
    TaskState::parse(name).ok_or_else(|| damaged("task", format!("state {name:?}")))
}

fn format_name(format: PayloadFormat) -> &'static str {
    match format {
        PayloadFormat::Pickle => "pickle",
        PayloadFormat::Json => "json",
    }
}

fn parse_format(name: &str) -> Result<PayloadFormat, StoreError> {
    match name {
        "pickle" => Ok(PayloadFormat::Pickle),
        "json" => Ok(PayloadFormat::Json),
        other => Err(damaged("task", format!("format {other:?}"))),
    }
}
