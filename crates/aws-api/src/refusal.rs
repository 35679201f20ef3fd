//! What AWS says when it refuses: the name of an error, and a message of which little is repeated.
//! One about a signature quotes the whole request, session token included.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::error::AwsError;
use crate::exchange::Asked;
use crate::xml;

/// AWS takes dates that are off by five minutes; from somewhat less on, ours may be at fault.
const SKEW: SignedDuration = SignedDuration::from_mins(4);
const SHOWN_NAME_BYTES: usize = 80;
const SHOWN_MESSAGE_BYTES: usize = 300;

/// A reply that is no answer. What it says may repeat what was sent.
pub(crate) struct Refusal {
    status: u16,
    name: String,
    message: String,
    answered: Option<Timestamp>,
    retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn read(
        status: u16,
        body: &[u8],
        answered: Option<Timestamp>,
        retry_after: Option<Duration>,
    ) -> Self {
        let (name, message) = read_json(body).unwrap_or_else(|| {
            let text = |field| xml::text(body, field).unwrap_or_default();
            (text("Code"), text("Message"))
        });
        Self {
            status,
            name,
            message,
            answered,
            retry_after,
        }
    }

    /// Of a HEAD, whose answer has no body to say it in.
    pub(crate) fn of_head(
        status: u16,
        answered: Option<Timestamp>,
        retry_after: Option<Duration>,
    ) -> Self {
        let name = match status {
            403 => "AccessDenied",
            404 => "NoSuchKey",
            _ => "",
        };
        Self {
            status,
            name: name.to_owned(),
            message: String::new(),
            answered,
            retry_after,
        }
    }

    /// What the service's clock shows, when the request was refused for showing another time.
    pub(crate) fn clock_of_theirs(&self, ours: Timestamp) -> Option<Timestamp> {
        let theirs = self.answered.filter(|_| self.is_about_signature())?;
        (theirs.duration_since(ours).abs() > SKEW).then_some(theirs)
    }

    fn is_about_signature(&self) -> bool {
        matches!(
            self.name.as_str(),
            "InvalidSignatureException"
                | "SignatureDoesNotMatch"
                | "RequestExpired"
                | "RequestTimeTooSkewed"
        )
    }

    /// As an error, without what the request held.
    pub(crate) fn told(&self, asked: Asked<'_>) -> AwsError {
        let Asked { host, shown, .. } = asked;
        let bad = |what: &str| AwsError::BadKeys {
            message: format!("{host} refused {shown}: {what}"),
        };
        match self.name.as_str() {
            "ExpiredTokenException" | "ExpiredToken" => bad("the session or token has expired"),
            "UnrecognizedClientException" | "InvalidClientTokenId" | "InvalidAccessKeyId" => {
                bad("no such access key, or not with this session token")
            }
            "InvalidIdentityToken" | "IDPRejectedClaim" => {
                bad("the role's account does not know it")
            }
            "IDPCommunicationError" => AwsError::Unavailable {
                message: format!("{host} cannot fetch the keys of the token's issuer"),
            },
            _ if self.is_about_signature() => {
                bad("the secret access key does not belong to the access key")
            }
            "NoSuchKey" | "NoSuchUpload" => AwsError::NotFound {
                message: format!("{host} has no such object"),
            },
            "AccessDeniedException" | "AccessDenied" => AwsError::NotAllowed {
                message: format!(
                    "AWS does not allow {shown} {}: {}",
                    asked.permission,
                    dial::quoted(self.message.as_bytes(), SHOWN_MESSAGE_BYTES)
                ),
            },
            "ThrottlingException" | "Throttling" | "TooManyRequestsException" | "SlowDown" => {
                self.limited(host)
            }
            _ => self.told_by_status(host),
        }
    }

    fn told_by_status(&self, host: &str) -> AwsError {
        let status = self.status;
        match status {
            429 => self.limited(host),
            408 | 500.. => AwsError::Unavailable {
                message: format!("{host} answered with status {status}"),
            },
            _ => AwsError::Refused {
                name: dial::quoted(self.name.as_bytes(), SHOWN_NAME_BYTES),
                message: format!(
                    "{host} refused the request (status {status}, {})",
                    dial::quoted(self.name.as_bytes(), SHOWN_NAME_BYTES)
                ),
            },
        }
    }

    fn limited(&self, host: &str) -> AwsError {
        AwsError::RateLimited {
            retry_after: self.retry_after,
            message: format!("{host} is limiting requests"),
        }
    }
}

/// Name and message, as services say them that speak JSON.
fn read_json(body: &[u8]) -> Option<(String, String)> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let text = |field: &str| body.get(field).and_then(Value::as_str).unwrap_or_default();
    // With the name of the service's model in front, or without.
    let name = text("__type").rsplit('#').next().unwrap_or_default();
    let message = Some(text("message")).filter(|message| !message.is_empty());
    let message = message.unwrap_or_else(|| text("Message"));
    Some((name.to_owned(), message.to_owned()))
}
