//! Building replies, right ones and broken ones.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::faults::Faults;
use crate::host::Arrived;
use crate::listener::Ripcord;

/// A body is sent in pieces of this size, so that it can break in between.
const PIECE_BYTES: usize = 16 * 1024;

pub(crate) fn json_reply(status: u16, value: &Value) -> Response {
    reply(status, "application/json", Bytes::from(value.to_string()))
}

pub(crate) fn error_reply(status: u16, code: &str, message: &str) -> Response {
    json_reply(
        status,
        &json!({ "errors": [{ "code": code, "message": message, "detail": null }] }),
    )
}

pub(crate) fn reply(status: u16, content_type: &str, bytes: Bytes) -> Response {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, content_type)
        .body(Body::from(bytes))
        .expect("a valid reply")
}

pub(crate) fn with_header(mut response: Response, name: &'static str, value: &str) -> Response {
    let value = HeaderValue::from_str(value).expect("a valid header value");
    response.headers_mut().append(name, value);
    response
}

pub(crate) fn too_many_requests(faults: &Faults) -> Response {
    let response = error_reply(429, "TOOMANYREQUESTS", "slow down");
    match &faults.retry_after {
        Some(value) => with_header(response, "retry-after", value),
        None => response,
    }
}

/// A blob or the asked part of it, with whatever is wrong at the moment. What goes out is added to
/// `sent_bytes`.
pub(crate) fn blob_reply(
    bytes: &Bytes,
    arrived: &Arrived,
    faults: &mut Faults,
    sent_bytes: &Arc<AtomicU64>,
) -> Response {
    let total = bytes.len() as u64;
    let asked = arrived
        .parts
        .headers
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok());
    let range = asked
        .filter(|_| !faults.ignore_range)
        .map(|text| parse_range(text, total));
    let (status, first, end) = match range {
        None => (StatusCode::OK, 0, total),
        Some(Some((first, end))) => (StatusCode::PARTIAL_CONTENT, first, end),
        Some(None) => return error_reply(416, "RANGE_INVALID", "no such range"),
    };
    let first = (first + faults.shift_range).min(end);
    let part = bytes.slice(usize(first)..usize(end));
    let part = if faults.wrong_bytes {
        invert(&part)
    } else {
        part
    };
    let claimed = part.len().saturating_add_signed(
        isize::try_from(faults.length_lie).expect("a lie of a sensible size"),
    );
    let mut builder = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::CONTENT_LENGTH, claimed);
    if status == StatusCode::PARTIAL_CONTENT {
        let value = format!("bytes {first}-{}/{total}", end.saturating_sub(1));
        builder = builder.header(header::CONTENT_RANGE, value);
    }
    let body = if arrived.parts.method == axum::http::Method::HEAD {
        Body::empty()
    } else {
        body(
            part,
            arrived.ripcord.clone(),
            faults,
            Arc::clone(sent_bytes),
        )
    };
    builder.body(body).expect("a valid reply")
}

/// First byte and the one after the last, for `bytes=a-b` and `bytes=a-`.
fn parse_range(text: &str, total: u64) -> Option<(u64, u64)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let first: u64 = first.parse().ok()?;
    let end = if last.is_empty() {
        total
    } else {
        last.parse::<u64>().ok()? + 1
    };
    (first < total && first < end).then_some((first, end.min(total)))
}

fn invert(bytes: &Bytes) -> Bytes {
    bytes.iter().map(|byte| !byte).collect()
}

struct Sending {
    rest: Bytes,
    /// Bytes until the break, and whether it is a reset.
    break_in: Option<(u64, bool)>,
    faults: Faults,
    ripcord: Ripcord,
    sent_bytes: Arc<AtomicU64>,
}

fn body(bytes: Bytes, ripcord: Ripcord, faults: &mut Faults, sent_bytes: Arc<AtomicU64>) -> Body {
    let break_in = faults.take_break();
    let sending = Sending {
        rest: bytes,
        break_in,
        faults: faults.clone(),
        ripcord,
        sent_bytes,
    };
    Body::from_stream(stream::unfold(sending, next_piece))
}

async fn next_piece(mut sending: Sending) -> Option<(io::Result<Bytes>, Sending)> {
    if let Some((0, reset)) = sending.break_in {
        // Let what was written before go out first.
        tokio::task::yield_now().await;
        if reset {
            sending.ripcord.pull();
        }
        return Some((Err(io::ErrorKind::BrokenPipe.into()), sending));
    }
    if sending.rest.is_empty() {
        // A body shorter than was claimed ends its connection; the head shall be out by then.
        tokio::task::yield_now().await;
        return None;
    }
    let mut length = sending.rest.len().min(PIECE_BYTES);
    if let Some((left, _)) = &mut sending.break_in {
        length = length.min(usize(*left));
        *left -= length as u64;
    }
    if let Some(pause) = sending.faults.pause_for(length) {
        tokio::time::sleep(pause).await;
    }
    let piece = sending.rest.split_to(length);
    sending
        .sent_bytes
        .fetch_add(length as u64, Ordering::SeqCst);
    Some((Ok(piece), sending))
}

fn usize(number: u64) -> usize {
    usize::try_from(number).expect("within a blob in memory")
}
