//! Tasks and their attempts.

use ids::{ContainerId, StubId, TaskId, WorkspaceId};
use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::{SqliteStore, check_length, damaged, now_ms, parsed, timestamp};
use crate::database::Durability;
use crate::error::{Doing, StoreError};
use crate::store::StoreFuture;
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

/// What an attempt that runs has left in its task.
type Running = (Option<String>, Option<i64>);

impl TaskRecords for SqliteStore {
    fn accept_task(&self, workspace: WorkspaceId, task: NewTask) -> StoreFuture<'_, Accepted> {
        Box::pin(self.accept_now(workspace, task))
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

impl SqliteStore {
    async fn accept_now(
        &self,
        workspace: WorkspaceId,
        new: NewTask,
    ) -> Result<Accepted, StoreError> {
        check_length("input of a task", new.input.len(), PAYLOAD_LIMIT)?;
        let now = now_ms();
        let task = accepted(workspace, &new, timestamp(now));
        let (key, input) = (new.key, new.input);
        let change = self.database.change(Durability::Disk, move |connection| {
            Box::pin(async move {
                if let Some(before) = insert_new(connection, &task, key).await? {
                    return Ok(Accepted::Before(before));
                }
                sqlx::query("INSERT INTO task_input (task_id, payload) VALUES (?1, ?2)")
                    .bind(task.id.to_string())
                    .bind(input)
                    .execute(connection)
                    .await
                    .doing("keeping the input of a task")?;
                Ok(Accepted::New(task))
            })
        });
        change.await
    }

    async fn record_call_now(
        &self,
        workspace: WorkspaceId,
        new: NewTask,
        end: TaskEnd,
    ) -> Result<Accepted, StoreError> {
        check_end(&end)?;
        let now = now_ms();
        let task = accepted(workspace, &new, timestamp(now));
        let change = self.database.change(Durability::Disk, move |connection| {
            Box::pin(async move {
                if let Some(before) = insert_new(connection, &task, new.key).await? {
                    return Ok(Accepted::Before(before));
                }
                let running = (task.container.map(|id| id.to_string()), Some(now));
                keep_attempt(connection, task.id, 1, running, end.outcome, now).await?;
                keep_end(connection, task.id, end, now).await?;
                Ok(Accepted::New(task))
            })
        });
        change.await
    }

    async fn of_key_now(
        &self,
        stub: StubId,
        key: IdempotencyKey,
    ) -> Result<Option<Task>, StoreError> {
        let reader = self.database.reader().acquire().await;
        of_key(&mut *reader.doing("looking for the same call")?, stub, key).await
    }

    async fn begin_now(
        &self,
        id: TaskId,
        container: ContainerId,
    ) -> Result<Option<u32>, StoreError> {
        let now = now_ms();
        let change = self.database.change(Durability::Disk, move |connection| {
            Box::pin(async move {
                sqlx::query_scalar(
                    "UPDATE task SET state = 'running', attempts = attempts + 1,
                                     container_id = ?2, started_at = ?3
                     WHERE task_id = ?1 AND state = 'pending'
                       AND available_at <= ?3 AND expires_at > ?3
                     RETURNING attempts",
                )
                .bind(id.to_string())
                .bind(container.to_string())
                .bind(now)
                .fetch_optional(connection)
                .await
                .doing("beginning an attempt")
            })
        });
        change.await
    }

    async fn end_attempt_now(
        &self,
        id: TaskId,
        number: u32,
        then: AfterAttempt,
    ) -> Result<bool, StoreError> {
        if let AfterAttempt::End(end) = &then {
            check_end(end)?;
        }
        let now = now_ms();
        let change = self.database.change(Durability::Disk, move |connection| {
            Box::pin(async move {
                let running: Option<Running> = sqlx::query_as(
                    "SELECT container_id, started_at FROM task
                     WHERE task_id = ?1 AND state = 'running' AND attempts = ?2",
                )
                .bind(id.to_string())
                .bind(number)
                .fetch_optional(&mut *connection)
                .await
                .doing("ending an attempt")?;
                let Some(running) = running else {
                    return Ok(false);
                };
                match then {
                    AfterAttempt::End(end) => {
                        keep_attempt(connection, id, number, running, end.outcome, now).await?;
                        keep_end(connection, id, end, now).await?;
                    }
                    AfterAttempt::TryAgain {
                        outcome,
                        available_at,
                    } => {
                        keep_attempt(connection, id, number, running, outcome, now).await?;
                        put_back(connection, id, available_at).await?;
                    }
                }
                Ok(true)
            })
        });
        change.await
    }

    async fn finish_now(&self, id: TaskId, end: TaskEnd) -> Result<bool, StoreError> {
        check_end(&end)?;
        let now = now_ms();
        let change = self.database.change(Durability::Disk, move |connection| {
            Box::pin(async move {
                let open: Option<(String, u32, Option<String>, Option<i64>)> = sqlx::query_as(
                    "SELECT state, attempts, container_id, started_at FROM task
                     WHERE task_id = ?1 AND state <> 'ended'",
                )
                .bind(id.to_string())
                .fetch_optional(&mut *connection)
                .await
                .doing("finishing a task")?;
                let Some((state, number, container, started_at)) = open else {
                    return Ok(false);
                };
                if state == "running" {
                    let running = (container, started_at);
                    keep_attempt(connection, id, number, running, end.outcome, now).await?;
                }
                keep_end(connection, id, end, now).await?;
                Ok(true)
            })
        });
        change.await
    }

    async fn task_now(
        &self,
        workspace: WorkspaceId,
        id: TaskId,
    ) -> Result<Option<Task>, StoreError> {
        let row: Option<Row> =
            sqlx::query_as(select_tasks!("WHERE workspace_id = ?1 AND task_id = ?2"))
                .bind(workspace.to_string())
                .bind(id.to_string())
                .fetch_optional(self.database.reader())
                .await
                .doing("finding a task")?;
        row.as_ref().map(task).transpose()
    }

    async fn tasks_now(
        &self,
        workspace: WorkspaceId,
        filter: &TaskFilter,
    ) -> Result<Vec<Task>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(select_tasks!(
            "WHERE workspace_id = ?1 AND (?2 IS NULL OR stub_id = ?2)
               AND (?3 IS NULL OR state = ?3) AND (?4 IS NULL OR task_id < ?4)
             ORDER BY task_id DESC LIMIT ?5"
        ))
        .bind(workspace.to_string())
        .bind(filter.stub.map(|id| id.to_string()))
        .bind(filter.state.map(TaskState::name))
        .bind(filter.before.map(|id| id.to_string()))
        .bind(filter.limit)
        .fetch_all(self.database.reader())
        .await
        .doing("listing tasks")?;
        rows.iter().map(task).collect()
    }

    async fn open_tasks_now(
        &self,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<Vec<Task>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(select_tasks!(
            "WHERE state <> 'ended' AND task_id > ?1 ORDER BY task_id LIMIT ?2"
        ))
        .bind(after.map(|id| id.to_string()).unwrap_or_default())
        .bind(limit)
        .fetch_all(self.database.reader())
        .await
        .doing("listing open tasks")?;
        rows.iter().map(task).collect()
    }

    async fn attempts_now(
        &self,
        workspace: WorkspaceId,
        id: TaskId,
    ) -> Result<Vec<Attempt>, StoreError> {
        let rows: Vec<(u32, String, i64, i64, String)> = sqlx::query_as(
            "SELECT number, container_id, started_at, ended_at, outcome FROM task_attempt
             WHERE task_id = (SELECT task_id FROM task WHERE workspace_id = ?1 AND task_id = ?2)
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
        sqlx::query_scalar("SELECT payload FROM task_input WHERE task_id = ?1")
            .bind(id.to_string())
            .fetch_optional(self.database.reader())
            .await
            .doing("reading the input of a task")
    }

    async fn end_now(
        &self,
        workspace: WorkspaceId,
        id: TaskId,
    ) -> Result<Option<TaskEnd>, StoreError> {
        let row: Option<(String, Option<Vec<u8>>, Option<String>)> = sqlx::query_as(
            "SELECT outcome, payload, failure FROM task LEFT JOIN task_result USING (task_id)
             WHERE workspace_id = ?1 AND task_id = ?2 AND state = 'ended'",
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
        let change = self
            .database
            .change(Durability::Process, move |connection| {
                Box::pin(async move {
                    let forgotten = sqlx::query(
                        "DELETE FROM task WHERE task_id IN
                     (SELECT task_id FROM task WHERE state = 'ended' AND ended_at < ?1 LIMIT ?2)",
                    )
                    .bind(ended_before.as_millisecond())
                    .bind(limit)
                    .execute(connection)
                    .await
                    .doing("forgetting tasks")?;
                    Ok(forgotten.rows_affected())
                })
            });
        change.await
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

async fn of_key(
    connection: &mut SqliteConnection,
    stub: StubId,
    key: IdempotencyKey,
) -> Result<Option<Task>, StoreError> {
    let row: Option<Row> =
        sqlx::query_as(select_tasks!("WHERE stub_id = ?1 AND idempotency_key = ?2"))
            .bind(stub.to_string())
            .bind(key.as_slice())
            .fetch_optional(connection)
            .await
            .doing("looking for the same call")?;
    row.as_ref().map(task).transpose()
}

/// Writes a task, unless its stub has one of this key; then answers that one.
async fn insert_new(
    connection: &mut SqliteConnection,
    task: &Task,
    key: Option<IdempotencyKey>,
) -> Result<Option<Task>, StoreError> {
    if let Some(key) = key
        && let Some(before) = of_key(connection, task.stub, key).await?
    {
        return Ok(Some(before));
    }
    sqlx::query(
        "INSERT INTO task (task_id, workspace_id, stub_id, state, format, retries, attempts,
                           container_id, created_at, available_at, expires_at, started_at,
                           idempotency_key, python, is_headless)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, ?10, ?11, ?12, ?13, ?14)",
    )
    .bind(task.id.to_string())
    .bind(task.workspace.to_string())
    .bind(task.stub.to_string())
    .bind(task.state.name())
    .bind(format_name(task.format))
    .bind(task.retries)
    .bind(task.attempts)
    .bind(task.container.map(|id| id.to_string()))
    .bind(task.created_at.as_millisecond())
    .bind(task.expires_at.as_millisecond())
    .bind(task.started_at.map(Timestamp::as_millisecond))
    .bind(key.as_ref().map(IdempotencyKey::as_slice))
    .bind(task.python.as_deref())
    .bind(task.is_headless)
    .execute(connection)
    .await
    .doing("accepting a task")?;
    Ok(None)
}

async fn keep_attempt(
    connection: &mut SqliteConnection,
    id: TaskId,
    number: u32,
    (container, started_at): Running,
    outcome: TaskOutcome,
    now: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO task_attempt (task_id, number, container_id, started_at, ended_at, outcome)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )
    .bind(id.to_string())
    .bind(number)
    .bind(container)
    .bind(started_at)
    .bind(now)
    .bind(outcome.name())
    .execute(connection)
    .await
    .doing("keeping an attempt")?;
    Ok(())
}

async fn keep_end(
    connection: &mut SqliteConnection,
    id: TaskId,
    end: TaskEnd,
    now: i64,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE task SET state = 'ended', ended_at = ?2, outcome = ?3 WHERE task_id = ?1")
        .bind(id.to_string())
        .bind(now)
        .bind(end.outcome.name())
        .execute(&mut *connection)
        .await
        .doing("ending a task")?;
    sqlx::query("INSERT INTO task_result (task_id, payload, failure) VALUES (?1, ?2, ?3)")
        .bind(id.to_string())
        .bind(end.payload)
        .bind(end.failure)
        .execute(&mut *connection)
        .await
        .doing("keeping the result of a task")?;
    sqlx::query("DELETE FROM task_input WHERE task_id = ?1")
        .bind(id.to_string())
        .execute(connection)
        .await
        .doing("forgetting the input of a task")?;
    Ok(())
}

async fn put_back(
    connection: &mut SqliteConnection,
    id: TaskId,
    available_at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE task SET state = 'pending', available_at = ?2 WHERE task_id = ?1")
        .bind(id.to_string())
        .bind(available_at.as_millisecond())
        .execute(connection)
        .await
        .doing("putting a task back")?;
    Ok(())
}

fn check_end(end: &TaskEnd) -> Result<(), StoreError> {
    let payload = end.payload.as_ref().map_or(0, Vec::len);
    check_length("result of a task", payload, PAYLOAD_LIMIT)?;
    let failure = end.failure.as_ref().map_or(0, String::len);
    check_length("failure of a task", failure, FAILURE_LIMIT)
}

fn task(row: &Row) -> Result<Task, StoreError> {
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
