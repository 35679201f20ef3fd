//! Why a call has no result: what a function raised, or what Holdfast has to say.

use control_store::{TaskEnd, TaskOutcome};

/// Longest texts of an exception that are kept: those of a runner's message. Together, and however
/// they are escaped, they are less than what the store takes for a failure.
const NAME_LIMIT_BYTES: usize = 256;
const MESSAGE_LIMIT_BYTES: usize = 8 << 10;
const TRACEBACK_LIMIT_BYTES: usize = 64 << 10;

/// Why there is no result, as it is kept: an exception, or what Holdfast has to say.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub(crate) struct Failure {
    #[serde(rename = "type")]
    pub(crate) type_name: String,
    pub(crate) module: String,
    pub(crate) message: String,
    pub(crate) traceback: String,
}

impl Failure {
    pub(super) fn ours(outcome: TaskOutcome, message: &str) -> Self {
        Self {
            type_name: outcome.name().to_owned(),
            module: "holdfast".to_owned(),
            message: cut(message.to_owned(), MESSAGE_LIMIT_BYTES),
            traceback: String::new(),
        }
    }
}

impl From<worker_protocol::Exception> for Failure {
    fn from(exception: worker_protocol::Exception) -> Self {
        Self {
            type_name: cut(exception.r#type, NAME_LIMIT_BYTES),
            module: cut(exception.module, NAME_LIMIT_BYTES),
            message: cut(exception.message, MESSAGE_LIMIT_BYTES),
            traceback: cut_front(exception.traceback, TRACEBACK_LIMIT_BYTES),
        }
    }
}

/// The end of a task that Holdfast ended, or that had none of its own.
pub(super) fn end_without_result(outcome: TaskOutcome, message: &str) -> TaskEnd {
    end_with_failure(outcome, &Failure::ours(outcome, message))
}

pub(super) fn end_with_failure(outcome: TaskOutcome, failure: &Failure) -> TaskEnd {
    TaskEnd {
        outcome,
        payload: None,
        failure: Some(serde_json::to_string(failure).expect("texts serialise")),
    }
}

pub(super) fn cancelled() -> TaskEnd {
    end_without_result(TaskOutcome::Cancelled, "the call was cancelled")
}

pub(super) fn not_started(message: &str) -> TaskEnd {
    end_without_result(TaskOutcome::NotStarted, message)
}

pub(super) fn expired() -> TaskEnd {
    end_without_result(
        TaskOutcome::Expired,
        "no container had a place for the call in time",
    )
}

/// The beginning of a text that is too long, to the character.
pub(super) fn cut(mut text: String, limit_bytes: usize) -> String {
    if text.len() > limit_bytes {
        text.truncate(text.floor_char_boundary(limit_bytes));
    }
    text
}

/// The end of a text that is too long: a traceback says last where it was raised.
fn cut_front(text: String, limit_bytes: usize) -> String {
    let start = text.len().saturating_sub(limit_bytes);
    let start = text.ceil_char_boundary(start);
    if start == 0 {
        text
    } else {
        text[start..].to_owned()
    }
}
