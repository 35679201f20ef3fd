//! One request to a service, asked once, or twice where the clocks differ.

use std::fmt;

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

/// An operation of a service that speaks JSON, without input.
#[derive(Debug)]
pub struct Operation<'a> {
    /// From a table.
    pub host: String,
    pub service: &'static str,
    pub region: &'a str,
    pub target: &'static str,
    /// What a principal must be allowed, as policies call it.
    pub permission: &'static str,
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
    /// Asks with these keys. Where the service says that our clock is wrong, once more by its own.
    pub async fn ask(
        &self,
        http: &HttpClient,
        clock: Clock<'_>,
        keys: &Keys,
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
        keys: &Keys,
        now: Timestamp,
    ) -> Result<Result<Answer, Refusal>, AwsError> {
        let sent = clock();
        let request = signature::sign(self.request()?, keys, self, now)?;
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
        let mut request = Request::new(Method::POST, url)
            .header(CONTENT_TYPE, JSON)
            .header(TARGET, HeaderValue::from_static(self.target));
        request.body = Bytes::from_static(b"{}");
        Ok(request)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Answer(redacted)")
    }
}
