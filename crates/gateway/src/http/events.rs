//! Streams of server-sent events: who wants one, and how one that is silent shows that it lives.

use std::convert::Infallible;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use serde::Serialize;

const EVENTS: &str = "text/event-stream";
/// How often a silent stream shows that it lives: clients wait for three of them.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Whether whoever asks wants events in place of one answer.
pub(super) fn are_accepted(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).into_iter();
    let mut accepted = accepted.filter_map(|value| value.to_str().ok());
    accepted.any(|value| value.contains(EVENTS))
}

/// The answer that is a stream of events. It ends with the last.
pub(super) fn answer<S>(events: S) -> Response
where
    S: Stream<Item = Result<Event, Infallible>> + Send + 'static,
{
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE_INTERVAL);
    Sse::new(events).keep_alive(keep_alive).into_response()
}

pub(super) fn event(kind: &str, data: &impl Serialize) -> Event {
    let event = Event::default().event(kind).json_data(data);
    event.expect("texts serialise, on one line")
}
