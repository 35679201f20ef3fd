//! A token of another issuer becomes an access token: by the workload identity pool that believes
//! the issuer, and then, where one is named, by the service account that its identity may speak
//! for.

use bytes::Bytes;
use credential::auth::AuthError;
use credential::{ExposeSecret, GcpFederation, SecretString};
use dial::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use dial::{Method, Request};
use jiff::Timestamp;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{ACCOUNTS_HOST, ACCOUNTS_URL, EXCHANGE_HOST, EXCHANGE_URL, READ_SCOPE, url};
use crate::clouds::Clouds;
use crate::provider::oauth::{self, Refusal, Reply};
use crate::reply::{self, Times, Token};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// What is needed to speak for a service account, and for nothing else.
const IAM_SCOPE: &str = "https://www.googleapis.com/auth/iam";
/// The longest that needs no exception from an organisation's policy.
const LIFETIME: &str = "3600s";

/// Asks with this token, wherever it is from.
pub(super) async fn exchange(
    clouds: &Clouds,
    federation: &GcpFederation,
    subject_token: &SecretString,
) -> Result<Token, AuthError> {
    match &federation.service_account {
        None => federated(clouds, federation, subject_token, READ_SCOPE).await,
        Some(account) => {
            let identity = federated(clouds, federation, subject_token, IAM_SCOPE).await?;
            speak_for(clouds, account, &identity.secret).await
        }
    }
}

async fn federated(
    clouds: &Clouds,
    federation: &GcpFederation,
    subject_token: &SecretString,
    scope: &str,
) -> Result<Token, AuthError> {
    let fields = [
        ("grant_type", GRANT),
        ("audience", &federation.audience),
        ("scope", scope),
        ("requested_token_type", ACCESS_TOKEN),
        ("subject_token_type", &federation.subject_token_type),
        ("subject_token", subject_token.expose_secret()),
    ];
    let request = oauth::post(url(EXCHANGE_URL)?, &fields);
    let sent = clouds.now();
    let response = clouds.send(request).await?;
    let reply = Reply::read(EXCHANGE_HOST, sent, response).await?;
    if reply.is_success() {
        return reply.token();
    }
    let refusal = reply.refusal();
    Err(reply.refused("the subject token", known(&refusal), &refusal))
}

fn known(refusal: &Refusal) -> Option<&'static str> {
    match refusal.error.as_str() {
        "invalid_grant" => Some(
            "it may have expired, be for another audience, or be of an issuer that the workload \
             identity pool does not believe",
        ),
        "invalid_target" => Some("there is no such provider of a workload identity pool"),
        "unauthorized_client" => Some("the pool's condition on attributes does not let it in"),
        _ => None,
    }
}

async fn speak_for(
    clouds: &Clouds,
    account: &str,
    identity: &SecretString,
) -> Result<Token, AuthError> {
    let request = request_to_speak(account, identity)?;
    let sent = clouds.now();
    let response = clouds.send(request).await?;
    let reply = Reply::read(ACCOUNTS_HOST, sent, response).await?;
    match reply.status {
        200 => generated(&reply.body, reply.times).ok_or_else(|| reply.unusable()),
        401 => Err(AuthError::BadCredential {
            message: format!("{ACCOUNTS_HOST} refused the federated identity"),
        }),
        // One that is not there is told in the same way.
        403 | 404 => Err(AuthError::NoPermission {
            message: format!(
                "Google does not let the federated identity speak for {account}; it needs \
                 roles/iam.workloadIdentityUser there"
            ),
        }),
        status => Err(AuthError::Refused {
            message: format!("{ACCOUNTS_HOST} refused the request (status {status})"),
        }),
    }
}

fn request_to_speak(account: &str, identity: &SecretString) -> Result<Request, AuthError> {
    let url = url(&format!("{ACCOUNTS_URL}{account}:generateAccessToken"))?;
    let text = Zeroizing::new(format!("Bearer {}", identity.expose_secret()));
    let bearer = HeaderValue::from_str(&text).map_err(|_| AuthError::Internal {
        message: "the federated token makes no header".to_owned(),
    });
    let mut bearer = bearer?;
    bearer.set_sensitive(true);
    let mut request = Request::new(Method::POST, url)
        .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .header(AUTHORIZATION, bearer);
    let body = json!({ "scope": [READ_SCOPE], "lifetime": LIFETIME });
    request.body = Bytes::from(body.to_string());
    Ok(request)
}

/// Its end is told as a time of their clock.
fn generated(body: &[u8], times: Times) -> Option<Token> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let text = |field: &str| body.get(field).and_then(Value::as_str);
    let end: Timestamp = text("expireTime")?.parse().ok()?;
    Some(Token {
        secret: reply::usable(text("accessToken")?)?,
        not_after: reply::end_at(end, times)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_tokens_end_by_our_clock() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let times = Times {
            sent: at("2026-01-01T00:00:00Z"),
            // A service whose clock is five minutes ahead of ours.
            answered: Some(at("2026-01-01T00:05:00Z")),
        };
        let read = |token: &str, end: &str| {
            let body = json!({ "accessToken": token, "expireTime": end }).to_string();
            let token = generated(body.as_bytes(), times)?;
            Some(token.not_after.duration_since(times.sent).as_secs())
        };
        assert_eq!(read("t", "2026-01-01T01:05:00Z"), Some(3600));
        assert_eq!(read("t", "2026-01-01T00:05:01Z"), Some(1));
        assert_eq!(read("t", "9999-01-01T00:00:00Z"), Some(86_400));
        for (token, end) in [
            ("t", "2026-01-01T00:05:00Z"),
            ("t", "2026-01-01T00:00:00Z"),
            ("t", "1767225600"),
            ("", "2026-01-01T01:05:00Z"),
            ("a b", "2026-01-01T01:05:00Z"),
        ] {
            assert_eq!(read(token, end), None, "{token} {end}");
        }
        for body in ["", "[]", "{}", r#"{"accessToken":7,"expireTime":7}"#] {
            assert!(generated(body.as_bytes(), times).is_none(), "{body}");
        }
    }
}
