//! What a request says, read or refused in our own words: axum's would repeat what was sent.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::gateway::Gateway;
use crate::problem::{Kind, Problem};

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Gateway> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, gateway: &Gateway) -> Result<Self, Problem> {
        let read = Json::from_request(request, gateway).await;
        let Json(body) = read.map_err(|rejection| explain(&rejection))?;
        Ok(Self(body))
    }
}

fn explain(rejection: &JsonRejection) -> Problem {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return Problem::new(
            Kind::TooLarge,
            "the body is longer than this request may have",
        );
    }
    match rejection {
        JsonRejection::JsonDataError(_) => Problem::invalid("the body has not the fields of this")
            .hint("/openapi.json says which there are"),
        JsonRejection::JsonSyntaxError(_) => Problem::invalid("the body is no JSON"),
        JsonRejection::MissingJsonContentType(_) => {
            Problem::invalid("the body is not said to be JSON")
                .hint("send `Content-Type: application/json`")
        }
        _ => Problem::invalid("the body cannot be read"),
    }
}

/// An id in the path.
pub(super) struct Id<T>(pub(super) T);

impl<T> FromRequestParts<Gateway> for Id<T>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, Problem> {
        let text = Path::<String>::from_request_parts(parts, gateway).await;
        let Path(text) = text.map_err(|_| Problem::invalid("the path cannot be read"))?;
        let id = text
            .parse()
            .map_err(|error: T::Err| Problem::invalid(error))?;
        Ok(Self(id))
    }
}

/// What stands after the `?`.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Gateway> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, Problem> {
        let read = Query::<T>::from_request_parts(parts, gateway).await;
        let Query(params) = read.map_err(|_| {
            Problem::invalid("the query has not the parameters of this")
                .hint("/openapi.json says which there are")
        })?;
        Ok(Self(params))
    }
}
