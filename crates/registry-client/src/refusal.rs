//! A registry's answer that is not the thing asked for: what it says of the auth, and its words,
//! fit to be shown.

use std::time::Duration;

use credential::ExposeSecret;
use credential::auth::{AuthScheme, RegistryAuth};
use dial::Response;
use dial::header::WWW_AUTHENTICATE;

use crate::challenge;
use crate::follow;

/// Of an error's text, this much is shown.
const MAX_ERROR_TEXT: usize = 200;

/// A refusal's challenges are passed on up to this many and this long.
const MAX_PASSED_CHALLENGES: usize = 16;
const MAX_PASSED_CHALLENGE_BYTES: usize = 8 * 1024;

/// An answer that is not the thing asked for.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) challenges: Vec<String>,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) text: String,
    pub(crate) foreign: bool,
}

impl Refusal {
    /// Whether the auth itself may be at fault. Some registries know no 401 for "expired": ECR
    /// answers 403 without a challenge, its public twin 400.
    pub(crate) fn is_about(&self, auth: &RegistryAuth) -> bool {
        if self.foreign {
            return false;
        }
        let sent = !matches!(auth.scheme, AuthScheme::Anonymous);
        let expired = self.says_expired();
        match self.status {
            401 => true,
            403 => sent && (self.challenges.is_empty() || expired),
            400 => sent && (expired || self.text.starts_with("DENIED")),
            _ => false,
        }
    }

    pub(crate) fn says_expired(&self) -> bool {
        self.text.to_ascii_lowercase().contains("expired")
    }

    pub(crate) fn says(&self, error: &str) -> bool {
        challenge::parse(self.challenges.iter().map(String::as_str))
            .iter()
            .any(|challenge| challenge.param("error") == Some(error))
    }

    pub(crate) fn message(&self, otherwise: &str) -> String {
        if self.text.is_empty() {
            otherwise.to_owned()
        } else {
            self.text.clone()
        }
    }
}

/// The challenges of a reply as they came, bounded.
pub(crate) fn challenges(response: &Response) -> Vec<String> {
    response
        .headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .filter(|value| value.len() <= MAX_PASSED_CHALLENGE_BYTES)
        .take(MAX_PASSED_CHALLENGES)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect()
}

/// What a body says in words, without what was sent.
pub(crate) fn shown_text(body: &[u8], scheme: &AuthScheme) -> String {
    let text = error_message(body).unwrap_or_else(|| String::from_utf8_lossy(body).into());
    dial::quoted(without_secrets(text, scheme).as_bytes(), MAX_ERROR_TEXT)
}

/// Code and message of the first error in a registry's own format.
fn error_message(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let first = value.get("errors")?.get(0)?;
    let code = first
        .get("code")
        .and_then(serde_json::Value::as_str)
        .unwrap_or_default();
    let message = first
        .get("message")
        .and_then(serde_json::Value::as_str)
        .unwrap_or_default();
    Some(format!("{code}: {message}"))
}

/// A registry may send back what it was sent. That must not become an error's text.
fn without_secrets(text: String, scheme: &AuthScheme) -> String {
    let secret = match scheme {
        AuthScheme::Anonymous => return text,
        AuthScheme::Basic { password, .. } => password.expose_secret(),
        AuthScheme::Bearer(token) => token.expose_secret(),
    };
    let header = follow::authorization("", scheme).ok().flatten();
    let encoded = header
        .as_ref()
        .and_then(|value| value.to_str().ok()?.split(' ').nth(1));
    let mut text = text;
    for known in [Some(secret), encoded]
        .into_iter()
        .flatten()
        .filter(|known| known.len() >= 4)
    {
        text = text.replace(known, "[redacted]");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_do_not_repeat_what_was_sent() {
        let password = "hunter2-canary".to_owned().into();
        let scheme = AuthScheme::Basic {
            username: "u".to_owned(),
            password,
        };
        let echoed = "you sent dTpodW50ZXIyLWNhbmFyeQ== that is u:hunter2-canary".to_owned();
        let text = without_secrets(echoed, &scheme);
        assert_eq!(text, "you sent [redacted] that is u:[redacted]");
    }
}
