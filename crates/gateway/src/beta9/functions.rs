//! Calls of functions, as streams of what they print that end with their result.
//!
//! ```text
//!   task id ─▶ output … ─▶ last: result, or exit code and why
//! ```
//!
//! A client that can come back to a call (0.1.291) says so by a metadata key, which is empty in its
//! first attempt: with a task in it the call goes on, from an offset of its output, and is never
//! made again. For a client that cannot, its stream is the call: when one breaks, so does the
//! other, unless it was made to go on alone.

mod resumption;

use beta9_protocol::MAX_MESSAGE_BYTES;
use beta9_protocol::function::function_service_server::FunctionService;
use beta9_protocol::function::{
    FunctionInvokeRequest, FunctionInvokeResponse, FunctionScheduleRequest,
    FunctionScheduleResponse,
};
use bytes::Bytes;
use control_store::{PayloadFormat, TaskEnd, TaskOutcome};
use futures::stream;
use ids::{StubId, TaskId};
use tonic::codegen::BoxStream;
use tonic::{Request, Response};

use self::resumption::Resumption;
use super::refusal::{not_served, status, transient};
use super::{Answer, Beta9, KEEP_ALIVE_INTERVAL, called, parse_id};
use crate::caller::Caller;
use crate::dispatch::{Failure, Follower, TaskEvent};
use crate::gateway::Gateway;
use crate::operations::tasks::NewCall;
use crate::problem::Problem;

/// Longest result, with room for what stands beside it in its message.
const RESULT_LIMIT_BYTES: usize = MAX_MESSAGE_BYTES - (64 << 10);

#[tonic::async_trait]
impl FunctionService for Beta9 {
    type FunctionInvokeStream = BoxStream<FunctionInvokeResponse>;

    async fn function_invoke(
        &self,
        request: Request<FunctionInvokeRequest>,
    ) -> Answer<Self::FunctionInvokeStream> {
        let resumption = Resumption::of(request.metadata()).map_err(status)?;
        let (caller, request) = called(request)?;
        let ends_with_stream = resumption == Resumption::Never && !request.headless;
        let follower = match resumption {
            Resumption::Never | Resumption::Possible => call(&self.gateway, &caller, request)
                .await
                .map_err(status)?,
            Resumption::Of { task, offset } => {
                let going_on = go_on(&self.gateway, &caller, &request.stub_id, task, offset).await;
                going_on.map_err(transient)?
            }
        };
        let replies = Replies {
            task_id: follower.task().id.uuid().to_string(),
            follower,
            is_announced: false,
            ends_with_stream,
        };
        let replies = stream::unfold(replies, async |mut replies| {
            let reply = replies.next().await?;
            Some((Ok(reply), replies))
        });
        Ok(Response::new(Box::pin(replies)))
    }

    async fn function_schedule(
        &self,
        _request: Request<FunctionScheduleRequest>,
    ) -> Answer<FunctionScheduleResponse> {
        Err(not_served("timetables of functions are not supported"))
    }
}

async fn call(
    gateway: &Gateway,
    caller: &Caller,
    request: FunctionInvokeRequest,
) -> Result<Follower, Problem> {
    let call = NewCall {
        format: PayloadFormat::Pickle,
        payload: request.args,
        // No client says it.
        python: None,
        is_headless: request.headless,
        key: None,
    };
    gateway
        .call(caller, parse_stub(&request.stub_id)?, call)
        .await
}

/// Follows a call that was made before, of this function and with this client's sort of result.
async fn go_on(
    gateway: &Gateway,
    caller: &Caller,
    stub: &str,
    id: TaskId,
    offset: u64,
) -> Result<Follower, Problem> {
    let stub = parse_stub(stub)?;
    let follower = gateway.follow(caller, id, offset).await?;
    let task = follower.task().task();
    if task.stub == stub && task.format == PayloadFormat::Pickle {
        return Ok(follower);
    }
    let message = format!("task {} is none of this function", id.uuid());
    Err(Problem::not_own(message))
}

fn parse_stub(text: &str) -> Result<StubId, Problem> {
    let missing = "the function is not known here";
    let parsed = parse_id(text, StubId::parse_uuid, missing);
    parsed.map_err(|problem| problem.hint("start the program again: it defines it then"))
}

/// What is said of a call, up to its end.
struct Replies {
    follower: Follower,
    task_id: String,
    /// The task's id was sent, alone, by which the client knows that it can come back.
    is_announced: bool,
    /// Nobody comes back to it, so that it ends with the stream.
    ends_with_stream: bool,
}

impl Replies {
    async fn next(&mut self) -> Option<FunctionInvokeResponse> {
        if !self.is_announced {
            self.is_announced = true;
            return Some(self.reply());
        }
        loop {
            let event = tokio::time::timeout(KEEP_ALIVE_INTERVAL, self.follower.next()).await;
            let Ok(event) = event else {
                return Some(FunctionInvokeResponse::default());
            };
            match event? {
                TaskEvent::Task(_) => {}
                TaskEvent::Output(piece) => {
                    return Some(FunctionInvokeResponse {
                        output: piece.text,
                        ..self.reply()
                    });
                }
                TaskEvent::End(_, end) => return Some(self.last(&end)),
            }
        }
    }

    /// The end in one message, so that nothing of it is told twice to a client that comes back. To
    /// callers a failure is text: the message has no place for an exception.
    fn last(&self, end: &TaskEnd) -> FunctionInvokeResponse {
        let last = FunctionInvokeResponse {
            done: true,
            ..self.reply()
        };
        let failed = |exit_code, output| FunctionInvokeResponse {
            exit_code,
            output,
            ..last.clone()
        };
        match (end.outcome, &end.payload) {
            (TaskOutcome::Returned, Some(result)) if result.len() <= RESULT_LIMIT_BYTES => {
                FunctionInvokeResponse {
                    result: Bytes::copy_from_slice(result),
                    ..last
                }
            }
            (TaskOutcome::Returned, result) => {
                let length = result.as_ref().map_or(0, Vec::len);
                let text = format!(
                    "the result is {length} bytes long and may be 1 to {RESULT_LIMIT_BYTES}\n"
                );
                failed(exit_code(TaskOutcome::Raised), text)
            }
            (outcome, _) => failed(exit_code(outcome), why(end)),
        }
    }

    fn reply(&self) -> FunctionInvokeResponse {
        FunctionInvokeResponse {
            task_id: self.task_id.clone(),
            ..Default::default()
        }
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        if self.ends_with_stream {
            self.follower.task().cancel();
        }
    }
}

/// The traceback, or what Holdfast has to say, as the last lines that the call prints.
fn why(end: &TaskEnd) -> String {
    let failure = end.failure.as_deref().map(serde_json::from_str::<Failure>);
    let Some(Ok(failure)) = failure else {
        return format!("the call ended: {}\n", end.outcome.name());
    };
    if failure.traceback.is_empty() {
        return format!("{}\n", failure.message);
    }
    failure.traceback
}

/// Those of the client's own runner, of which it only looks whether they are zero.
fn exit_code(outcome: TaskOutcome) -> i32 {
    match outcome {
        TaskOutcome::Returned => 0,
        TaskOutcome::Raised | TaskOutcome::Died => 1,
        TaskOutcome::NotStarted => 2,
        TaskOutcome::Cancelled => 3,
        TaskOutcome::TimedOut | TaskOutcome::Expired => 4,
        TaskOutcome::Lost => 5,
    }
}
