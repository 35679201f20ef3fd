//! Workers that have joined, for whoever runs the gateway: over the operators' socket alone.

use std::convert::Infallible;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use broker::CredentialChoice;
use credential::RegistryScope;
use futures::{Stream, stream};
use reference::Reference;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Answer;
use super::answer::{Failed, Failure};
use super::body::{Body, Id};
use super::events::{self, event};
use crate::caller::Caller;
use crate::gateway::Gateway;
use crate::operations::images::{WarmEvent, WarmRequest, Warmed, Warming};
use crate::problem::Problem;

/// What stands for no credential.
const NONE: &str = "none";

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewWarming {
    /// `registry/repository:tag`
    image: String,
    /// A scope of the workspace's credentials, or `none`; without, the one for the image
    #[serde(default)]
    credential: Option<String>,
}

impl NewWarming {
    fn parse(self, worker: String) -> Answer<WarmRequest> {
        let image = Reference::parse(&self.image).map_err(|error| {
            let hint = error.hint().map(str::to_owned);
            Problem::invalid(format!("image: {error}")).hint_if(hint)
        })?;
        let scope = |text: &str| {
            let scope = RegistryScope::parse(text);
            scope.map_err(|error| Problem::invalid(format!("credential: {error}")))
        };
        let credential = match self.credential.as_deref() {
            None => CredentialChoice::Auto,
            Some(NONE) => CredentialChoice::None,
            Some(text) => CredentialChoice::Scope(scope(text)?),
        };
        Ok(WarmRequest {
            worker,
            image,
            credential,
        })
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShownWarmed {
    worker: String,
    /// As a pull names it
    image: String,
    manifest_digest: String,
    /// Of all layers
    compressed_bytes: u64,
    /// What of it the worker had to fetch
    bytes_fetched: u64,
    spans: u64,
}

impl From<Warmed> for ShownWarmed {
    fn from(warmed: Warmed) -> Self {
        Self {
            worker: warmed.worker,
            image: warmed.image,
            manifest_digest: warmed.manifest_digest,
            compressed_bytes: warmed.compressed_bytes,
            bytes_fetched: warmed.reached.bytes_fetched,
            spans: warmed.reached.spans,
        }
    }
}

#[derive(Debug, Serialize)]
struct Progress {
    message: String,
}

#[derive(Debug, Serialize)]
struct ShownReached {
    spans: u64,
    spans_present: u64,
    bytes_fetched: u64,
}

/// Bring an image into a worker's cache
///
/// For whoever runs the gateway, over its own socket: no token is for this. The registry is asked
/// with what the workspace has for the image, and the worker reads with no more than a container's
/// mount would. It ends when whoever asked hangs up; what has come is kept. Who accepts
/// `text/event-stream` is sent events: `progress` with a `message`, `reached` with `spans`,
/// `spans_present` and `bytes_fetched`, and at the end `warmed`, or `error` with `kind`, `message`
/// and `hint`.
#[utoipa::path(
    post,
    path = "/v1/workers/{worker}/warm",
    params(("worker" = String, Path, description = "Name or id of a worker that has joined")),
    request_body = NewWarming,
    responses(
        (
            status = 200,
            content((ShownWarmed = "application/json"), (String = "text/event-stream"))
        ),
        (status = "default", body = Failed)
    )
)]
pub(super) async fn warm(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(worker): Id<String>,
    headers: HeaderMap,
    Body(new): Body<NewWarming>,
) -> Answer<Response> {
    let mut warming = gateway.warm_image(&caller, new.parse(worker)?).await?;
    if events::are_accepted(&headers) {
        return Ok(events::answer(events_of(warming)));
    }
    let warmed = warming.end().await?;
    Ok(Json(ShownWarmed::from(warmed)).into_response())
}

/// The events of a warming, which ends with the stream.
fn events_of(warming: Warming) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(Some(warming), async |warming| {
        let mut warming = warming?;
        let (event, warming) = match warming.next().await {
            WarmEvent::Progress(message) => {
                (event("progress", &Progress { message }), Some(warming))
            }
            WarmEvent::Reached(reached) => {
                let shown = ShownReached {
                    spans: reached.spans,
                    spans_present: reached.spans_present,
                    bytes_fetched: reached.bytes_fetched,
                };
                (event("reached", &shown), Some(warming))
            }
            WarmEvent::Ended(ended) => {
                let last = match *ended {
                    Ok(warmed) => event("warmed", &ShownWarmed::from(warmed)),
                    Err(problem) => event("error", &Failure::from(problem)),
                };
                (last, None)
            }
        };
        Some((Ok(event), warming))
    })
}
