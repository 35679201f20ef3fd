//! One request to a service of AWS: signed, sent, and its refusal told.

mod refusal;
mod signature;

use bytes::Bytes;
use credential::AwsFields;
use credential::auth::AuthError;
use dial::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use dial::{Method, Request, Url};
use jiff::Timestamp;

use crate::clouds::Clouds;
use crate::reply::Times;
use crate::wire;
use refusal::Refusal;

/// Longest reply that is read. A token of ECR is below 4 KiB.
const MAX_REPLY_BYTES: usize = 64 * 1024;

const TARGET: HeaderName = HeaderName::from_static("x-amz-target");
const JSON: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.1");

/// An operation of a service that speaks JSON, without input.
#[derive(Debug)]
pub(super) struct Operation<'a> {
    /// From a table.
    pub(super) host: String,
    pub(super) service: &'static str,
    pub(super) region: &'a str,
    pub(super) target: &'static str,
    /// What a principal must be allowed, as policies call it.
    pub(super) permission: &'static str,
}

/// A service's answer, which may hold secrets.
pub(super) struct Answer {
    pub(super) body: Bytes,
    pub(super) times: Times,
}

impl Operation<'_> {
    /// Asks with these keys. Where the service says that our clock is wrong, once more by its own.
    pub(super) async fn ask(&self, clouds: &Clouds, keys: &AwsFields) -> Result<Answer, AuthError> {
        let now = clouds.now();
        let refusal = match self.ask_at(clouds, keys, now).await? {
            Ok(answer) => return Ok(answer),
            Err(refusal) => refusal,
        };
        let Some(theirs) = refusal.clock_of_theirs(now) else {
            return Err(refusal.told(self));
        };
        tracing::warn!(%theirs, ours = %now, "AWS has another time than this machine");
        match self.ask_at(clouds, keys, theirs).await? {
            Ok(answer) => Ok(answer),
            Err(refusal) => Err(refusal.told(self)),
        }
    }

    async fn ask_at(
        &self,
        clouds: &Clouds,
        keys: &AwsFields,
        now: Timestamp,
    ) -> Result<Result<Answer, Refusal>, AuthError> {
        let sent = clouds.now();
        let request = signature::sign(self.request()?, keys, self, now)?;
        let response = clouds.send(request).await?;
        let status = response.status.as_u16();
        let answered = response.date();
        let retry_after = response.retry_after();
        let body = response.read_bounded(MAX_REPLY_BYTES).await;
        let body = body.map_err(|error| wire::from_dial(&error))?;
        if status == 200 {
            let times = Times { sent, answered };
            return Ok(Ok(Answer { body, times }));
        }
        Ok(Err(Refusal::read(status, &body, answered, retry_after)))
    }

    fn request(&self) -> Result<Request, AuthError> {
        let url = Url::parse(&format!("https://{}/", self.host)).map_err(|_| no_request())?;
        let mut request = Request::new(Method::POST, url)
            .header(CONTENT_TYPE, JSON)
            .header(TARGET, HeaderValue::from_static(self.target));
        request.body = Bytes::from_static(b"{}");
        Ok(request)
    }
}

fn no_request() -> AuthError {
    AuthError::Internal {
        message: "the AWS keys make no request".to_owned(),
    }
}
