//! What goes wrong at a cloud's own services.

use axum::response::Response;
use jiff::Timestamp;
use serde_json::json;

use crate::answer::{json_reply, reply, with_header};

/// What a cloud's service answers instead of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloudFault {
    /// An error of OAuth, with status 400.
    Named {
        error: &'static str,
        description: &'static str,
    },
    /// A status with an empty object.
    Status(u16),
    /// Status 429, with this `Retry-After`.
    Limited(&'static str),
    /// These bytes, with status 200.
    Body(String),
}

impl CloudFault {
    pub(crate) fn answer(&self) -> Response {
        match self {
            Self::Named { error, description } => refusal(400, error, description),
            Self::Status(status) => json_reply(*status, &json!({})),
            Self::Limited(pause) => with_header(json_reply(429, &json!({})), "retry-after", pause),
            Self::Body(body) => reply(200, "application/json", body.clone().into()),
        }
    }
}

/// An error as OAuth words it.
pub(crate) fn refusal(status: u16, error: &str, description: &str) -> Response {
    json_reply(
        status,
        &json!({ "error": error, "error_description": description }),
    )
}

/// The reply with the date that the service's clock shows.
pub(crate) fn dated(reply: Response, now: Timestamp) -> Response {
    let date = now.strftime("%a, %d %b %Y %H:%M:%S GMT");
    with_header(reply, "date", &date.to_string())
}
