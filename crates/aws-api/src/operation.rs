//! One request to a service, asked once, or twice where the clocks differ.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use dial::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use dial::{HttpClient, Method, Request, Url};
use jiff::Timestamp;

use crate::error::AwsError;
use crate::keys::Keys;
use crate::refusal::Refusal;
use crate::signature;

/// Longest reply that is read. A token of ECR is below 4 KiB.
const MAX_REPLY_BYTES: usize = 64 * 1024;

const TARGET: HeaderName = HeaderName::from_static("x-amz-target");
const JSON: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.1");
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// Longest life that is believed. A session's is at most half of it, and a token's of ECR too.
const MAX_LIFE: Duration = Duration::from_hours(24);

/// An operation of a service.
#[derive(Debug)]
pub struct Operation<'a> {
    /// From a table.
    pub host: String,
    pub service: &'static str,
    pub region: &'a str,
    pub input: Input,
    /// What proves who asks, as a refusal calls it.
    pub shown: &'static str,
    /// What a principal must be allowed, as policies call it.
    pub permission: &'static str,
}

/// What a service is asked, which may hold secrets.
pub enum Input {
    /// In the words of services that speak JSON.
    Json { target: &'static str, body: Bytes },
    /// In those of services that speak the query protocol.
    Form(Bytes),
}

/// A service's answer, which may hold secrets.
pub struct Answer {
    pub body: Bytes,
    /// By our clock, when its request was sent.
    pub sent: Timestamp,
    /// By the service's clock, when it was answered, where it says so.
    pub answered: Option<Timestamp>,
}

/// Our clock.
pub type Clock<'a> = &'a (dyn Fn() -> Timestamp + Sync);

impl Operation<'_> {
    /// Asks with these keys; without any, unsigned, where the input itself proves who asks. Where
    /// the service says that our clock is wrong, once more by its own.
    pub async fn ask(
        &self,
        http: &HttpClient,
        clock: Clock<'_>,
        keys: Option<&Keys>,
    ) -> Result<Answer, AwsError> {
        let now = clock();
        let refusal = match self.ask_at(http, clock, keys, now).await? {
            Ok(answer) => return Ok(answer),
            Err(refusal) => refusal,
        };
        let Some(theirs) = refusal.clock_of_theirs(now) else {
            return Err(refusal.told(self));
        };
        tracing::warn!(%theirs, ours = %now, "AWS has another time than this machine");
        match self.ask_at(http, clock, keys, theirs).await? {
            Ok(answer) => Ok(answer),
            Err(refusal) => Err(refusal.told(self)),
        }
    }

    async fn ask_at(
        &self,
        http: &HttpClient,
        clock: Clock<'_>,
        keys: Option<&Keys>,
        now: Timestamp,
    ) -> Result<Result<Answer, Refusal>, AwsError> {
        let sent = clock();
        let request = match keys {
            Some(keys) => signature::sign(self.request()?, keys, self, now)?,
            None => self.request()?,
        };
        let response = http.send(request).await?;
        let status = response.status.as_u16();
        let answered = response.date();
        let retry_after = response.retry_after();
        let body = response.read_bounded(MAX_REPLY_BYTES).await?;
        if status == 200 {
            return Ok(Ok(Answer {
                body,
                sent,
                answered,
            }));
        }
        Ok(Err(Refusal::read(status, &body, answered, retry_after)))
    }

    pub(crate) fn request(&self) -> Result<Request, AwsError> {
        let url = Url::parse(&format!("https://{}/", self.host));
        let url = url.map_err(|_| AwsError::NoRequest)?;
        let request = Request::new(Method::POST, url);
        let (mut request, body) = match &self.input {
            Input::Json { target, body } => {
                let target = HeaderValue::from_static(target);
                (
                    request.header(CONTENT_TYPE, JSON).header(TARGET, target),
                    body,
                )
            }
            Input::Form(body) => (request.header(CONTENT_TYPE, FORM), body),
        };
        request.body = body.clone();
        Ok(request)
    }
}

impl Answer {
    /// The end by our clock of what ends then by theirs. `None` for what has ended.
    pub fn end_of(&self, stated_seconds: f64) -> Option<Timestamp> {
        let now = self.answered.unwrap_or(self.sent);
        let left = stated_seconds - now.as_duration().as_secs_f64();
        if left.is_nan() || left <= 0.0 {
            return None;
        }
        let left = Duration::from_secs_f64(left.min(MAX_LIFE.as_secs_f64()));
        self.sent.checked_add(left).ok()
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Input(redacted)")
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Answer(redacted)")
    }
}
