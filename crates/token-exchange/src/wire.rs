//! The request for a token, built and sent.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use credential::auth::AuthError;
use credential::{ExposeSecret, SecretString};
use dial::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use dial::{DialError, HttpClient, Method, Request, Response, Url};
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::asker::Pass;
use crate::demand::TokenDemand;
use crate::realm::authority;
use crate::reply::{self, Times, Token};

/// Longest reply of a token service; a token with many claims is below 32 KiB.
const MAX_REPLY_BYTES: usize = 128 * 1024;

/// How we call ourselves where a name is required.
const CLIENT_ID: &str = "holdfast";

/// Asks the token service at `realm` for a token.
pub(crate) async fn ask(
    http: &HttpClient,
    realm: &Url,
    demand: &TokenDemand,
    scope: Option<&str>,
    pass: &Pass,
    now: Timestamp,
) -> Result<Token, AuthError> {
    let request = match pass {
        Pass::IdentityToken(token) => post(realm, demand, scope, token),
        _ => get(realm, demand, scope, pass)?,
    };
    let service = authority(realm);
    let response = http
        .send(request)
        .await
        .map_err(|error| unanswered(&error))?;
    let times = Times {
        sent: now,
        answered: response.date(),
    };
    if response.status.as_u16() != 200 {
        return Err(refusal(&response, &service, pass, scope));
    }
    let body = response
        .read_bounded(MAX_REPLY_BYTES)
        .await
        .map_err(|error| from_dial(&error))?;
    reply::read(&body, times).ok_or_else(|| AuthError::Unreachable {
        message: format!("token service {service} answered without a usable token"),
    })
}

fn get(
    realm: &Url,
    demand: &TokenDemand,
    scope: Option<&str>,
    pass: &Pass,
) -> Result<Request, AuthError> {
    let mut url = realm.clone();
    {
        // The realm's own query stays in front.
        let mut query = url.query_pairs_mut();
        if let Some(service) = &demand.service {
            query.append_pair("service", service);
        }
        if let Some(scope) = scope {
            query.append_pair("scope", scope);
        }
        if let Pass::Password { username, .. } = pass
            && !username.is_empty()
        {
            query.append_pair("account", username);
        }
    }
    if url.query() == Some("") {
        url.set_query(None);
    }
    let request = Request::get(url);
    match pass {
        Pass::Password { username, password } => {
            Ok(request.header(AUTHORIZATION, basic(username, password)?))
        }
        _ => Ok(request),
    }
}

fn post(realm: &Url, demand: &TokenDemand, scope: Option<&str>, token: &SecretString) -> Request {
    let mut form = dial::form();
    form.append_pair("grant_type", "refresh_token");
    form.append_pair("client_id", CLIENT_ID);
    form.append_pair("service", demand.service.as_deref().unwrap_or_default());
    if let Some(scope) = scope {
        form.append_pair("scope", scope);
    }
    form.append_pair("refresh_token", token.expose_secret());
    let mut request = Request::new(Method::POST, realm.clone()).header(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    );
    request.body = Bytes::from(form.finish());
    request
}

fn basic(username: &str, password: &SecretString) -> Result<HeaderValue, AuthError> {
    let pair = Zeroizing::new(format!("{username}:{}", password.expose_secret()));
    let text = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes())));
    let mut value = HeaderValue::from_str(&text).map_err(|_| AuthError::Internal {
        message: "the credential makes no header".to_owned(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// What a status of a token service means. The body is not read: it has been seen to hold tokens.
fn refusal(response: &Response, service: &str, pass: &Pass, scope: Option<&str>) -> AuthError {
    let status = response.status.as_u16();
    match (status, pass) {
        (401 | 403, Pass::Nothing) => AuthError::NoPermission {
            message: format!("token service {service} gives no anonymous token; a login is needed"),
        },
        // It is about the repository: GitHub's service says so of one that the credential may not
        // read. A credential that is wrong is found so where it is checked, without a repository.
        (403, _) if let Some(scope) = scope => AuthError::NoPermission {
            message: format!("token service {service} gives the credential no token for {scope}"),
        },
        (400, _) if let Some(scope) = scope => AuthError::Refused {
            message: format!("token service {service} makes nothing of the question for {scope}"),
        },
        (400 | 401 | 403, _) => AuthError::BadCredential {
            message: format!("token service {service} refused the credential (status {status})"),
        },
        (404 | 405, Pass::IdentityToken(_)) => AuthError::Refused {
            message: format!("token service {service} does not take identity tokens"),
        },
        (300..=399, _) => AuthError::Refused {
            message: format!("token service {service} redirects; a credential does not follow"),
        },
        (429, _) => AuthError::RateLimited {
            retry_after: response.retry_after(),
            message: format!("token service {service} is limiting requests"),
        },
        (408 | 500.., _) => AuthError::Unreachable {
            message: format!("token service {service} answered with status {status}"),
        },
        _ => AuthError::Refused {
            message: format!("token service {service} does not serve tokens (status {status})"),
        },
    }
}

/// An error on the way to a token service. Where that is the registry's own host, its name alone
/// would not say which of the two is away.
fn unanswered(error: &DialError) -> AuthError {
    match from_dial(error) {
        AuthError::Unreachable { message } => AuthError::Unreachable {
            message: format!("no answer of the token service: {message}"),
        },
        other => other,
    }
}

/// An error on the way, told as one of auth.
pub(crate) fn from_dial(error: &DialError) -> AuthError {
    let message = match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    };
    match error {
        DialError::Denied { .. }
        | DialError::PlainHttp { .. }
        | DialError::Configuration { .. } => AuthError::Refused { message },
        DialError::Tls { .. } | DialError::NotTls { .. } => AuthError::Tls { message },
        DialError::Unreachable { .. }
        | DialError::Interrupted { .. }
        | DialError::TooLarge { .. }
        | DialError::Protocol { .. } => AuthError::Unreachable { message },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(service: Option<&str>) -> TokenDemand {
        let service = service.map(str::to_owned);
        TokenDemand {
            realm: String::new(),
            service,
            scope: None,
        }
    }

    #[test]
    fn queries_keep_the_realms_own_and_escape_ours() {
        let password = SecretString::from("p".to_owned());
        let user = Pass::Password {
            username: "org+robot".to_owned(),
            password,
        };
        let scope = Some("repository:a/b:pull");
        let cases = [
            ("https://a/t", None, None, Pass::Nothing, "https://a/t"),
            ("https://a/t?", None, None, Pass::Nothing, "https://a/t"),
            (
                "https://a/t?x=1",
                Some("s p"),
                scope,
                Pass::Nothing,
                "https://a/t?x=1&service=s+p&scope=repository%3Aa%2Fb%3Apull",
            ),
            (
                "https://a/t",
                Some("s"),
                scope,
                user,
                "https://a/t?service=s&scope=repository%3Aa%2Fb%3Apull&account=org%2Brobot",
            ),
        ];
        for (realm, service, scope, pass, expected) in cases {
            let realm = Url::parse(realm).expect("url");
            let request = get(&realm, &demand(service), scope, &pass).expect("request");
            assert_eq!(request.url.as_str(), expected);
        }
    }
}
