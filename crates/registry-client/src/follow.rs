//! Redirects, by our own rules.
//!
//! `Authorization` goes to the registry's origin (scheme, host and port). Once a redirect has left
//! it, nothing is authorised any more, not even back home: who sends us around decides where the
//! reply comes from. Never from https to http; never with a user name in the URL.

use credential::ExposeSecret;
use credential::auth::AuthScheme;
use dial::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
use dial::{HttpClient, Method, Request, Response, StatusCode, Url};

use crate::error::RegistryError;
use crate::stats::Counters;

/// Redirects followed for one request. Real registries use one, with a CDN two.
const MAX_HOPS: usize = 5;

/// A redirect's own body is read up to this, so that its connection can be used again.
const MAX_DRAINED_BYTES: usize = 8 * 1024;

/// What a request came to.
#[derive(Debug)]
pub(crate) struct Landed {
    pub(crate) response: Response,
    pub(crate) url: Url,
    /// Whether a redirect led away from the origin that was asked.
    pub(crate) foreign: bool,
}

/// One request, before it is sent anywhere.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing<'a> {
    pub(crate) registry: &'a str,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: &'a HeaderMap,
    /// Sent to `url`'s origin only; nothing when `None`.
    pub(crate) authorization: Option<HeaderValue>,
}

/// Where a request leads.
#[derive(Debug)]
pub(crate) enum Lead {
    /// The registry answers it itself.
    Here(Box<Landed>),
    /// Somewhere else, which was not asked.
    Elsewhere(Url),
}

/// One request's answer.
enum Hop {
    Answer(Box<Response>),
    To(Url),
}

/// Sends a request and follows where it is sent.
pub(crate) async fn follow(
    http: &HttpClient,
    counters: &Counters,
    outgoing: Outgoing<'_>,
) -> Result<Landed, RegistryError> {
    let mut url = outgoing.url.clone();
    let mut foreign = false;
    for _ in 0..=MAX_HOPS {
        match hop(http, counters, &outgoing, &url, foreign).await? {
            Hop::Answer(response) => {
                return Ok(Landed {
                    response: *response,
                    url,
                    foreign,
                });
            }
            Hop::To(next) => {
                foreign |= next.origin() != outgoing.url.origin();
                url = next;
            }
        }
    }
    Err(protocol(outgoing.registry, "it redirects in circles"))
}

/// Sends a request and follows it as far as the registry's own origin goes.
pub(crate) async fn lead(
    http: &HttpClient,
    counters: &Counters,
    outgoing: Outgoing<'_>,
) -> Result<Lead, RegistryError> {
    let mut url = outgoing.url.clone();
    for _ in 0..=MAX_HOPS {
        match hop(http, counters, &outgoing, &url, false).await? {
            Hop::Answer(response) => {
                return Ok(Lead::Here(Box::new(Landed {
                    response: *response,
                    url,
                    foreign: false,
                })));
            }
            Hop::To(next) if next.origin() != outgoing.url.origin() => {
                return Ok(Lead::Elsewhere(next));
            }
            Hop::To(next) => url = next,
        }
    }
    Err(protocol(outgoing.registry, "it redirects in circles"))
}

async fn hop(
    http: &HttpClient,
    counters: &Counters,
    outgoing: &Outgoing<'_>,
    url: &Url,
    foreign: bool,
) -> Result<Hop, RegistryError> {
    let mut request = Request::new(outgoing.method.clone(), url.clone());
    request.headers = outgoing.headers.clone();
    if let Some(value) = outgoing.authorization.as_ref().filter(|_| !foreign) {
        request.headers.insert(AUTHORIZATION, value.clone());
    }
    counters.count_request();
    let response = http
        .send(request)
        .await
        .map_err(|error| RegistryError::from_dial(outgoing.registry, &error))?;
    if !is_redirect(response.status) {
        return Ok(Hop::Answer(Box::new(response)));
    }
    let next = next_url(outgoing.registry, url, &response)?;
    drain(response).await;
    Ok(Hop::To(next))
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn next_url(registry: &str, from: &Url, response: &Response) -> Result<Url, RegistryError> {
    let location = response
        .header(&LOCATION)
        .ok_or_else(|| protocol(registry, "a redirect without a readable location"))?;
    let mut next = from
        .join(location)
        .map_err(|_| protocol(registry, "a redirect to no valid URL"))?;
    next.set_fragment(None);
    check_target(registry, from, &next)?;
    Ok(next)
}

/// Whether a reader may be sent there from here.
pub(crate) fn check_target(registry: &str, from: &Url, next: &Url) -> Result<(), RegistryError> {
    if !matches!(next.scheme(), "http" | "https") || next.host_str().is_none() {
        return Err(protocol(
            registry,
            "a redirect to something that is not http",
        ));
    }
    if !next.username().is_empty() || next.password().is_some() {
        return Err(protocol(
            registry,
            "a redirect to a URL with a user name or password",
        ));
    }
    if from.scheme() == "https" && next.scheme() == "http" {
        let host = dial::quoted(next.host_str().unwrap_or_default().as_bytes(), 100);
        let message = format!("{registry} redirects from https to plain http at {host}");
        return Err(RegistryError::Refused {
            message,
            hint: None,
        });
    }
    Ok(())
}

async fn drain(response: Response) {
    let short = response
        .content_length()
        .is_some_and(|length| length <= MAX_DRAINED_BYTES as u64);
    if short {
        // Only a connection is at stake: an error here is that connection's end.
        let _ = response.read_bounded(MAX_DRAINED_BYTES).await;
    }
}

fn protocol(registry: &str, message: &str) -> RegistryError {
    RegistryError::Protocol {
        registry: registry.to_owned(),
        message: message.to_owned(),
    }
}

/// The header value for an auth scheme, marked so that no `Debug` shows it.
pub(crate) fn authorization(
    registry: &str,
    scheme: &AuthScheme,
) -> Result<Option<HeaderValue>, RegistryError> {
    let text = match scheme {
        AuthScheme::Anonymous => return Ok(None),
        AuthScheme::Basic { username, password } => {
            let pair = zeroize::Zeroizing::new(format!("{username}:{}", password.expose_secret()));
            format!(
                "Basic {}",
                base64::Engine::encode(&base64::prelude::BASE64_STANDARD, pair.as_bytes())
            )
        }
        AuthScheme::Bearer(token) => format!("Bearer {}", token.expose_secret()),
    };
    let text = zeroize::Zeroizing::new(text);
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_| protocol(registry, "its token cannot be sent in a header"))?;
    value.set_sensitive(true);
    Ok(Some(value))
}
