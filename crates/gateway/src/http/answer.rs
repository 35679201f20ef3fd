//! Problems as HTTP has them.

use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::problem::{Kind, Problem};
use crate::watch::Told;

/// Seconds after which a caller that came too early may ask again.
const RETRY_AFTER_SECONDS: &str = "1";

/// What every request that is refused is answered.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Failed {
    error: Failure,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Failure {
    /// `invalid`, `unauthenticated`, `denied`, `not_found`, `conflict`, `too_large`,
    /// `unsupported`, `busy`, `internal` or `unavailable`
    kind: &'static str,
    message: String,
    /// What a person can do about it
    hint: Option<String>,
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self {
            kind: problem.kind.name(),
            message: problem.message,
            hint: problem.hint,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let kind = self.kind;
        let told = Told(self.clone());
        let failed = Failed { error: self.into() };
        let mut response = (status(kind), Json(failed)).into_response();
        response.extensions_mut().insert(told);
        let header = match kind {
            Kind::Unauthenticated => Some((WWW_AUTHENTICATE, "Bearer")),
            Kind::Busy | Kind::Unavailable => Some((RETRY_AFTER, RETRY_AFTER_SECONDS)),
            _ => None,
        };
        if let Some((name, value)) = header {
            let value = HeaderValue::from_static(value);
            response.headers_mut().insert(name, value);
        }
        response
    }
}

fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Denied => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::Unsupported => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::Busy => StatusCode::TOO_MANY_REQUESTS,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}
