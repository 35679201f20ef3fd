//! One attempt at a call: told to a container, and waited for as long as it may take.
//!
//! It answers with its nonce. Whether another one follows, `life` decides.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use control_store::{PayloadFormat, TaskEnd, TaskOutcome};
use jiff::Timestamp;
use tokio::sync::oneshot;
use worker_protocol::call_result::Outcome;
use worker_protocol::ended::Cause;
use worker_protocol::{Call, CallResult, Format};

use super::container::{Gone, GoneCause};
use super::failure::{Failure, end_with_failure, end_without_result, not_started};
use super::life::{FIRST, Life};
use super::persist::persist;
use super::pool::Place;
use super::start;

/// How long a call that was cancelled, or took too long, has to end by itself.
const CANCEL_GRACE: Duration = Duration::from_secs(5);
const NONCE_BYTES: usize = 16;

/// How an attempt went.
pub(super) struct AttemptEnd {
    pub(super) end: TaskEnd,
    /// Another one may go better.
    pub(super) may_retry: bool,
}

impl Life {
    /// Makes an attempt. `input` is what the caller gave, where it is at hand.
    pub(super) async fn attempt(
        &self,
        place: &Place,
        number: u32,
        input: Option<Bytes>,
    ) -> AttemptEnd {
        if number == FIRST {
            self.has_waited();
        }
        let begun = Instant::now();
        let end = self.make_attempt(place, number, input).await;
        self.gateway.metrics().attempt_took(begun.elapsed());
        end
    }

    /// Notes that the first attempt begins.
    fn has_waited(&self) {
        let waited = Timestamp::now().duration_since(self.task.created_at());
        // Clocks are set back.
        let waited = Duration::try_from(waited).unwrap_or_default();
        self.gateway.metrics().call_waited(waited);
    }

    async fn make_attempt(&self, place: &Place, number: u32, input: Option<Bytes>) -> AttemptEnd {
        let attempt = format!("{}/{number}", self.task.id);
        let Some(call) = self.call(&attempt, input).await else {
            return AttemptEnd {
                end: not_started("the call's input is gone"),
                may_retry: false,
            };
        };
        let Ok(result) = place.container.call(call, Arc::clone(&self.task)).await else {
            return of_gone(&Gone::worker_lost());
        };
        let end = self.result(place, &attempt, result).await;
        place.container.forget(&attempt);
        end
    }

    /// What is told to the container.
    async fn call(&self, attempt: &str, input: Option<Bytes>) -> Option<Call> {
        let (store, task) = (self.gateway.store(), self.task.task());
        let payload = match input {
            Some(input) => input,
            None => persist(|| store.task_input(task.id)).await.ok()??.into(),
        };
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).expect("the system gives random bytes once it has begun to");
        let format = match task.format {
            PayloadFormat::Pickle => Format::Pickle,
            PayloadFormat::Json => Format::Json,
        };
        Some(Call {
            container: task.container?.to_string(),
            attempt: attempt.to_owned(),
            nonce: Bytes::copy_from_slice(&nonce),
            task: task.id.to_string(),
            format: format.into(),
            python_version: task.python.unwrap_or_default(),
            payload,
        })
    }

    /// Waits for the result, as long as the call may take.
    async fn result(
        &self,
        place: &Place,
        attempt: &str,
        mut result: oneshot::Receiver<CallResult>,
    ) -> AttemptEnd {
        let timeout = Duration::from_millis(self.pool.stub.definition.timeout_ms);
        let (outcome, message) = tokio::select! {
            answered = &mut result => return match answered {
                Ok(result) => of_result(result),
                Err(_) => of_gone(place.container.gone().await),
            },
            () = tokio::time::sleep(timeout) => {
                (TaskOutcome::TimedOut, format!("the call took longer than {timeout:?}"))
            }
            () = self.task.cancelling.cancelled() => {
                (TaskOutcome::Cancelled, "the call was cancelled".to_owned())
            }
        };
        end_call(place, attempt, result).await;
        AttemptEnd {
            end: end_without_result(outcome, &message),
            may_retry: false,
        }
    }
}

/// Ends a call that nobody waits for; with its container, when it does not end by itself.
async fn end_call(place: &Place, attempt: &str, result: oneshot::Receiver<CallResult>) {
    if place.container.cancel(attempt.to_owned()).await.is_err() {
        return;
    }
    if tokio::time::timeout(CANCEL_GRACE, result).await.is_err() {
        start::end(&place.container, Duration::ZERO).await;
    }
}

fn of_result(result: CallResult) -> AttemptEnd {
    let outcome = match result.outcome() {
        Outcome::Returned => TaskOutcome::Returned,
        Outcome::Cancelled => TaskOutcome::Cancelled,
        Outcome::Raised | Outcome::Unknown => TaskOutcome::Raised,
    };
    if result.payload.len() > worker_protocol::MAX_PAYLOAD_BYTES {
        return AttemptEnd {
            end: end_without_result(TaskOutcome::Raised, "the result is longer than it may be"),
            may_retry: false,
        };
    }
    let payload = (!result.payload.is_empty()).then(|| result.payload.to_vec());
    let failure = result.exception.map(Failure::from);
    let failure = failure.map(|failure| end_with_failure(outcome, &failure).failure);
    AttemptEnd {
        end: TaskEnd {
            outcome,
            payload,
            failure: failure.flatten(),
        },
        may_retry: false,
    }
}

fn of_gone(gone: &Gone) -> AttemptEnd {
    let outcome = match gone.cause {
        GoneCause::WorkerLost => TaskOutcome::Lost,
        GoneCause::CalledOff | GoneCause::Said(_) => TaskOutcome::Died,
    };
    let message = match gone.cause {
        GoneCause::Said(Cause::Stopped) => "the container was stopped",
        _ => gone.reason.as_str(),
    };
    AttemptEnd {
        end: end_without_result(outcome, message),
        // Another container could not read the image either.
        may_retry: gone.cause != GoneCause::CalledOff,
    }
}
