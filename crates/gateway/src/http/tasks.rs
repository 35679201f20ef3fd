//! Calls of functions, and their events.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use control_store::{PayloadFormat, Task, TaskEnd, TaskFilter, TaskState};
use frames::hex;
use futures::{Stream, StreamExt};
use ids::{StubId, TaskId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Answer;
use super::answer::Failed;
use super::body::{Body, Id, Params};
use super::events;
use crate::caller::Caller;
use crate::dispatch::{Failure, Follower, Stream as Printed, TaskEvent};
use crate::gateway::Gateway;
use crate::operations::tasks::{NewCall, PAYLOAD_LIMIT_BYTES};
use crate::problem::Problem;

/// Largest body of a call: the longest payload in base64, and what stands beside it.
pub(super) const CALL_LIMIT_BYTES: usize = PAYLOAD_LIMIT_BYTES.div_ceil(3) * 4 + (64 << 10);
/// How long a request may wait for the end of a task: shorter than proxies wait.
const LONGEST_WAIT_MS: u64 = 60_000;
const DEFAULT_LIMIT: u32 = 100;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CallBody {
    format: Format,
    /// Base64 of a pickled `{"args": (…), "kwargs": {…}}`, or of the same as JSON
    payload: String,
    /// The caller's Python, as `3.11`; to another one a pickle is refused unread
    #[serde(default)]
    python: Option<String>,
    /// Goes on when the caller goes away; others are cancelled some minutes after
    #[serde(default)]
    headless: bool,
    /// 32 hexadecimal digits; the same again gives the same task
    #[serde(default)]
    idempotency_key: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Format {
    Pickle,
    Json,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShownTask {
    id: String,
    stub: String,
    /// `pending`, `running` or `ended`
    state: &'static str,
    /// Attempts that have begun
    attempts: u32,
    container: Option<String>,
    created_at: String,
    started_at: Option<String>,
    ended_at: Option<String>,
    end: Option<ShownEnd>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShownEnd {
    /// `returned`, `raised`, `cancelled`, `timed-out`, `expired`, `died`, `lost` or `not-started`
    outcome: &'static str,
    format: Format,
    /// Base64 of the result, or of the pickled exception; lists leave it out
    payload: Option<String>,
    /// There unless it returned; lists leave it out
    failure: Option<Failure>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Tasks {
    tasks: Vec<ShownTask>,
    /// For `before`, when there may be more
    next: Option<String>,
}

#[derive(Debug, Serialize)]
struct ShownOutput {
    stream: &'static str,
    text: String,
    offset: u64,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wait {
    /// Answers when the task has ended, or after so many milliseconds, at most 60000
    #[serde(default)]
    wait_ms: u64,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Resume {
    /// Bytes of output that were seen already
    #[serde(default)]
    offset: u64,
    /// Until the end of the task; without, until all is told that has come by now
    #[serde(default = "yes")]
    #[param(default = true)]
    follow: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    stub: Option<String>,
    /// `pending`, `running` or `ended`
    state: Option<String>,
    /// Only those made before this task
    before: Option<String>,
    limit: Option<u32>,
}

/// Call a function
///
/// Answers 202 with the task at once, 200 with its end when it came within `wait_ms`, or, to
/// `Accept: text/event-stream`, the events of `GET /v1/tasks/{id}/events`.
#[utoipa::path(
    post,
    path = "/v1/stubs/{id}/tasks",
    params(("id" = String, Path), Wait),
    request_body = CallBody,
    responses(
        (status = 200, body = ShownTask),
        (status = 202, body = ShownTask),
        (status = "default", body = Failed)
    )
)]
pub(super) async fn call(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(stub): Id<StubId>,
    Params(wait): Params<Wait>,
    headers: HeaderMap,
    Body(body): Body<CallBody>,
) -> Answer<Response> {
    let mut follower = gateway.call(&caller, stub, new_call(body)?).await?;
    if events::are_accepted(&headers) {
        return Ok(events::answer(events_of(follower)));
    }
    let task = shown_after(&mut follower, wait).await;
    let status = if task.end.is_some() {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    Ok((status, Json(task)).into_response())
}

/// The tasks of the workspace, newest first
#[utoipa::path(
    get,
    path = "/v1/tasks",
    params(Filter),
    responses((status = 200, body = Tasks), (status = "default", body = Failed))
)]
pub(super) async fn list(
    State(gateway): State<Gateway>,
    caller: Caller,
    Params(filter): Params<Filter>,
) -> Answer<Json<Tasks>> {
    let filter = read_filter(&filter)?;
    let tasks = gateway.tasks(&caller, &filter).await?;
    let is_full = tasks.len() == filter.limit as usize;
    let next = tasks
        .last()
        .filter(|_| is_full)
        .map(|task| task.id.to_string());
    let tasks = tasks.iter().map(|task| shown(task, None)).collect();
    Ok(Json(Tasks { tasks, next }))
}

/// A task, and its end when it has come
#[utoipa::path(
    get,
    path = "/v1/tasks/{id}",
    params(("id" = String, Path), Wait),
    responses((status = 200, body = ShownTask), (status = "default", body = Failed))
)]
pub(super) async fn get(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<TaskId>,
    Params(wait): Params<Wait>,
) -> Answer<Json<ShownTask>> {
    let mut follower = gateway.follow(&caller, id, 0).await?;
    Ok(Json(shown_after(&mut follower, wait).await))
}

/// What a task prints and how it ends, as it happens
///
/// Server-sent events: `gone` where nothing is kept of what it printed, should it have printed
/// anything; `task` at once and at each change; `output` with `stream`, `text` and the `offset`
/// after it, of which the earliest may be gone; last `end`, the end of a task.
#[utoipa::path(
    get,
    path = "/v1/tasks/{id}/events",
    params(("id" = String, Path), Resume),
    responses(
        (status = 200, content_type = "text/event-stream", body = String),
        (status = "default", body = Failed)
    )
)]
pub(super) async fn events(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<TaskId>,
    Params(resume): Params<Resume>,
) -> Answer<Response> {
    let follower = gateway.follow(&caller, id, resume.offset).await?;
    if resume.follow {
        return Ok(events::answer(events_of(follower)));
    }
    Ok(events::answer(events_by_now(follower)))
}

/// Ask for the end of a task
#[utoipa::path(
    post,
    path = "/v1/tasks/{id}/cancel",
    params(("id" = String, Path), Wait),
    responses((status = 200, body = ShownTask), (status = "default", body = Failed))
)]
pub(super) async fn cancel(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<TaskId>,
    Params(wait): Params<Wait>,
) -> Answer<Json<ShownTask>> {
    let mut follower = gateway.cancel(&caller, id).await?;
    Ok(Json(shown_after(&mut follower, wait).await))
}

fn new_call(body: CallBody) -> Result<NewCall, Problem> {
    let payload = STANDARD.decode(body.payload);
    let payload = payload.map_err(|_| Problem::invalid("payload is no base64"))?;
    let key = body.idempotency_key.map(|text| {
        let mut key = [0; 16];
        let is_key = hex::decode_into(&text, &mut key);
        is_key
            .then_some(key)
            .ok_or_else(|| Problem::invalid("idempotency_key is not 32 hexadecimal digits"))
    });
    Ok(NewCall {
        format: match body.format {
            Format::Pickle => PayloadFormat::Pickle,
            Format::Json => PayloadFormat::Json,
        },
        payload: payload.into(),
        python: body.python,
        is_headless: body.headless,
        key: key.transpose()?,
    })
}

fn read_filter(filter: &Filter) -> Result<TaskFilter, Problem> {
    let unknown = || Problem::invalid("state is pending, running or ended");
    let state = filter.state.as_deref();
    let state = state.map(|name| TaskState::parse(name).ok_or_else(unknown));
    let stub = filter.stub.as_deref().map(str::parse).transpose();
    let before = filter.before.as_deref().map(str::parse).transpose();
    Ok(TaskFilter {
        stub: stub.map_err(Problem::invalid)?,
        state: state.transpose()?,
        before: before.map_err(Problem::invalid)?,
        limit: filter.limit.unwrap_or(DEFAULT_LIMIT),
    })
}

async fn shown_after(follower: &mut Follower, wait: Wait) -> ShownTask {
    let time = Duration::from_millis(wait.wait_ms.min(LONGEST_WAIT_MS));
    // Looked at once more all the same, so that an end which comes just now is shown whole.
    let _ = tokio::time::timeout(time, follower.end()).await;
    match follower.task().as_ended() {
        Some((task, end)) => shown(&task, Some(&end)),
        None => shown(&follower.task().task(), None),
    }
}

fn events_of(follower: Follower) -> impl Stream<Item = Result<Event, Infallible>> {
    let gone = futures::stream::iter(gone(&follower));
    gone.chain(futures::stream::unfold(follower, async |mut follower| {
        let event = follower.next().await?;
        Some((Ok(event_of(event)), follower))
    }))
}

fn events_by_now(mut follower: Follower) -> impl Stream<Item = Result<Event, Infallible>> {
    let gone = gone(&follower);
    let events = std::iter::from_fn(move || follower.next_by_now());
    let events = events.map(|event| Ok(event_of(event)));
    futures::stream::iter(gone.into_iter().chain(events))
}

fn gone(follower: &Follower) -> Option<Result<Event, Infallible>> {
    let is_gone = follower.task().is_output_gone();
    is_gone.then(|| Ok(events::event("gone", &serde_json::json!({}))))
}

fn event_of(event: TaskEvent) -> Event {
    match event {
        TaskEvent::Task(task) => {
            let task = ShownTask {
                end: None,
                ..shown(&task, None)
            };
            events::event("task", &task)
        }
        TaskEvent::Output(piece) => {
            let output = ShownOutput {
                stream: match piece.stream {
                    Printed::Stdout => "stdout",
                    Printed::Stderr => "stderr",
                },
                text: piece.text,
                offset: piece.offset,
            };
            events::event("output", &output)
        }
        TaskEvent::End(task, end) => events::event("end", &shown_end(task.format, &end)),
    }
}

fn shown(task: &Task, end: Option<&TaskEnd>) -> ShownTask {
    let without_result = || {
        task.outcome.map(|outcome| ShownEnd {
            outcome: outcome.name(),
            format: task.format.into(),
            payload: None,
            failure: None,
        })
    };
    ShownTask {
        id: task.id.to_string(),
        stub: task.stub.to_string(),
        state: task.state.name(),
        attempts: task.attempts,
        container: task.container.map(|id| id.to_string()),
        created_at: task.created_at.to_string(),
        started_at: task.started_at.map(|at| at.to_string()),
        ended_at: task.ended_at.map(|at| at.to_string()),
        end: end.map_or_else(without_result, |end| Some(shown_end(task.format, end))),
    }
}

fn shown_end(format: PayloadFormat, end: &TaskEnd) -> ShownEnd {
    let failure = end.failure.as_deref().map(serde_json::from_str);
    ShownEnd {
        outcome: end.outcome.name(),
        format: format.into(),
        payload: end.payload.as_ref().map(|payload| STANDARD.encode(payload)),
        failure: failure.and_then(Result::ok),
    }
}

impl From<PayloadFormat> for Format {
    fn from(format: PayloadFormat) -> Self {
        match format {
            PayloadFormat::Pickle => Self::Pickle,
            PayloadFormat::Json => Self::Json,
        }
    }
}
