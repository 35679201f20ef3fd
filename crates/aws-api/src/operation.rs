//! An operation of a service that is asked by its own words at its root, and the answer.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use dial::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use dial::{HttpClient, Method, Request, Url};
use jiff::Timestamp;

use crate::error::AwsError;
use crate::exchange::{self, Asked, Clock};
use crate::keys::Keys;
use crate::signature::Scope;

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

impl Operation<'_> {
    /// Asks with these keys; without any, unsigned, where the input itself proves who asks.
    pub async fn ask(
        &self,
        http: &HttpClient,
        clock: Clock<'_>,
        keys: Option<&Keys>,
    ) -> Result<Answer, AwsError> {
        let asked = Asked {
            host: &self.host,
            shown: self.shown,
            permission: self.permission,
        };
        let signed = keys.map(|keys| (keys, self.scope()));
        let replied = exchange::ask((http, clock), signed, asked, self.request()?).await?;
        Ok(Answer {
            body: replied.body,
            sent: replied.sent,
            answered: replied.answered,
        })
    }

    pub(crate) fn scope(&self) -> Scope<'_> {
        Scope {
            service: self.service,
            region: self.region,
        }
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
