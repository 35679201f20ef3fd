//! One request and its reply, asked once, or twice where the clocks differ.

use bytes::Bytes;
use dial::header::HeaderMap;
use dial::{HttpClient, Method, Request};
use jiff::Timestamp;

use crate::error::AwsError;
use crate::keys::Keys;
use crate::refusal::Refusal;
use crate::signature::{self, Scope};

/// Longest reply that is read. A token of ECR is below 4 KiB.
const MAX_REPLY_BYTES: usize = 64 * 1024;

/// Our clock.
pub type Clock<'a> = &'a (dyn Fn() -> Timestamp + Sync);

/// Who is asked for what, as a refusal tells it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) host: &'a str,
    /// What proves who asks.
    pub(crate) shown: &'a str,
    /// What a principal must be allowed, as policies call it.
    pub(crate) permission: &'a str,
}

/// What was answered with success.
pub(crate) struct Replied {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// By our clock, when the request was sent.
    pub(crate) sent: Timestamp,
    /// By their clock, when it was answered, where they say so.
    pub(crate) answered: Option<Timestamp>,
}

/// Asks, signed if there is something to sign with. Where the service says that our clock is wrong,
/// once more by its own.
pub(crate) async fn ask(
    way: (&HttpClient, Clock<'_>),
    signed: Option<(&Keys, Scope<'_>)>,
    asked: Asked<'_>,
    request: Request,
) -> Result<Replied, AwsError> {
    let now = way.1();
    let refusal = match ask_at(way, signed, request.clone(), now).await? {
        Ok(replied) => return Ok(replied),
        Err(refusal) => refusal,
    };
    let Some(theirs) = refusal.clock_of_theirs(now) else {
        return Err(refusal.told(asked));
    };
    tracing::warn!(%theirs, ours = %now, "AWS has another time than this machine");
    match ask_at(way, signed, request, theirs).await? {
        Ok(replied) => Ok(replied),
        Err(refusal) => Err(refusal.told(asked)),
    }
}

async fn ask_at(
    (http, clock): (&HttpClient, Clock<'_>),
    signed: Option<(&Keys, Scope<'_>)>,
    request: Request,
    now: Timestamp,
) -> Result<Result<Replied, Refusal>, AwsError> {
    let sent = clock();
    let is_head = request.method == Method::HEAD;
    let request = match signed {
        Some((keys, scope)) => signature::sign(request, keys, scope, now)?,
        None => request,
    };
    let response = http.send(request).await?;
    let status = response.status;
    let answered = response.date();
    let retry_after = response.retry_after();
    let headers = response.headers.clone();
    // A HEAD is answered with the length of what is left out.
    let body = if is_head {
        Bytes::new()
    } else {
        response.read_bounded(MAX_REPLY_BYTES).await?
    };
    if status.is_success() {
        return Ok(Ok(Replied {
            headers,
            body,
            sent,
            answered,
        }));
    }
    let status = status.as_u16();
    Ok(Err(if is_head {
        Refusal::of_head(status, answered, retry_after)
    } else {
        Refusal::read(status, &body, answered, retry_after)
    }))
}
