//! One request to a service of a cloud that gives out tokens, and what every such service's refusal
//! means. What it says beside is read for known words and shown to nobody.

use std::time::Duration;

use bytes::Bytes;
use credential::auth::AuthError;
use dial::header::{CONTENT_TYPE, HeaderValue};
use dial::{Method, Request, Response, Url};
use jiff::Timestamp;
use serde_json::Value;

use crate::reply::{self, Times, Token};
use crate::wire;

/// Longest reply that is read. A token of Azure for a member of many groups is below 20 KiB.
const MAX_REPLY_BYTES: usize = 64 * 1024;
const SHOWN_NAME_BYTES: usize = 80;

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// What a service answered.
pub(super) struct Reply {
    /// Who answered, as a user would name it.
    pub(super) host: String,
    pub(super) status: u16,
    pub(super) body: Bytes,
    pub(super) times: Times,
    retry_after: Option<Duration>,
}

/// Why there is no token, in the service's own words, which may repeat what was sent.
#[derive(Default)]
pub(super) struct Refusal {
    /// From the list of OAuth, or the service's own.
    pub(super) error: String,
    pub(super) description: String,
    pub(super) subtype: String,
}

/// The refusals of RFC 6749 and RFC 8693.
const OAUTH_ERRORS: [&str; 8] = [
    "access_denied",
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "invalid_target",
    "unauthorized_client",
    "unsupported_grant_type",
];

impl Refusal {
    fn is_of_oauth(&self) -> bool {
        OAUTH_ERRORS.contains(&self.error.as_str())
    }
}

/// A form to be sent to a service.
pub(super) fn post(url: Url, fields: &[(&str, &str)]) -> Request {
    let mut form = dial::form();
    form.extend_pairs(fields);
    let mut request = Request::new(Method::POST, url).header(CONTENT_TYPE, FORM);
    request.body = Bytes::from(form.finish());
    request
}

impl Reply {
    /// Reads a reply to what was sent then: one of success, or one that says what is wrong with
    /// what was sent. Others are an error.
    pub(super) async fn read(
        host: &str,
        sent: Timestamp,
        response: Response,
    ) -> Result<Self, AuthError> {
        let status = response.status.as_u16();
        let answered = response.date();
        let retry_after = response.retry_after();
        let body = response.read_bounded(MAX_REPLY_BYTES).await;
        let reply = Self {
            host: host.to_owned(),
            status,
            body: body.map_err(|error| wire::from_dial(&error))?,
            times: Times { sent, answered },
            retry_after,
        };
        match reply.fault() {
            Some(error) => Err(error),
            None => Ok(reply),
        }
    }

    /// What is wrong with the service rather than with what was sent.
    fn fault(&self) -> Option<AuthError> {
        let (host, status) = (&self.host, self.status);
        match status {
            429 => Some(AuthError::RateLimited {
                retry_after: self.retry_after,
                message: format!("{host} is limiting requests"),
            }),
            408 | 500.. => Some(AuthError::Unreachable {
                message: format!("{host} answered with status {status}"),
            }),
            300..=399 => Some(AuthError::Refused {
                message: format!("{host} redirects; a credential does not follow"),
            }),
            _ => None,
        }
    }

    pub(super) fn is_success(&self) -> bool {
        self.status == 200
    }

    /// The access token of a reply of success.
    pub(super) fn token(&self) -> Result<Token, AuthError> {
        reply::read(&self.body, self.times).ok_or_else(|| self.unusable())
    }

    pub(super) fn unusable(&self) -> AuthError {
        AuthError::Unreachable {
            message: format!("{} answered without a usable token", self.host),
        }
    }

    pub(super) fn refusal(&self) -> Refusal {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let text = |field: &str| {
            let text = body.get(field).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        Refusal {
            error: text("error"),
            description: text("error_description"),
            subtype: text("error_subtype"),
        }
    }

    /// The credential was refused, for what is known or else for what the service calls it.
    pub(super) fn refused(&self, what: &str, known: Option<&str>, refusal: &Refusal) -> AuthError {
        let host = &self.host;
        let status = self.status;
        let name = || dial::quoted(refusal.error.as_bytes(), SHOWN_NAME_BYTES);
        let why = known.map_or_else(|| format!("status {status}, {}", name()), str::to_owned);
        let message = format!("{host} refused {what}: {why}");
        // What is not in the words of OAuth may be of somebody between.
        if known.is_some() || refusal.is_of_oauth() {
            AuthError::BadCredential { message }
        } else {
            AuthError::Refused { message }
        }
    }
}
