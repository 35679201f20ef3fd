//! The gateway that a command asks: the one that serves this data directory, over its own socket,
//! or one that was named, with a token.
//!
//! Answers are bounded before they are read; what a gateway refuses is the failure that the same
//! would be here.

use std::error::Error;
use std::future::ready;
use std::io;
use std::iter::successors;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use credential::{ExposeSecret, SecretString};
use futures::{Stream, StreamExt, TryStreamExt};
use gateway::{Kind as ProblemKind, Problem, WORKSPACE_HEADER};
use ids::WorkspaceName;
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sse_stream::{Sse, SseByteStream};

use crate::app::App;
use crate::args::GatewayArg;
use crate::failure::{Failure, Kind, Result};

/// Below the data directory, while it is served.
pub(crate) const SOCKET_FILE: &str = "serve.sock";
const TOKEN_VARIABLE: &str = "HOLDFAST_TOKEN";

/// A task is shown with its result, which is as long as a gateway lets one be, in base64.
const ANSWER_LIMIT_BYTES: usize = 64 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A gateway that lives says something every fifteen seconds.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(45);

pub(crate) struct GatewayClient {
    http: Client,
    base: Url,
    asking: Asking,
}

/// As whom.
enum Asking {
    /// As who runs the gateway of this data directory.
    Operator {
        workspace: WorkspaceName,
        data_dir: PathBuf,
    },
    Holder(SecretString),
}

/// How a gateway refuses.
#[derive(Deserialize)]
struct Refusal {
    error: RefusalText,
}

#[derive(Deserialize)]
struct RefusalText {
    kind: String,
    message: String,
    hint: Option<String>,
}

impl GatewayClient {
    pub(crate) fn new(app: &App, named: &GatewayArg) -> Result<Self> {
        let http = Client::builder()
            // A gateway leads nowhere else.
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE_TIMEOUT);
        let (http, base, asking) = if let Some(url) = &named.gateway {
            let base = parse_url(url)?;
            let is_clear = base.scheme() == "http";
            // What is not encrypted stays on this machine.
            let http = if is_clear { http.no_proxy() } else { http };
            (http, base, Asking::Holder(own_token()?))
        } else {
            let asking = Asking::Operator {
                workspace: app.settings.workspace.clone(),
                data_dir: app.settings.data_dir.clone(),
            };
            let socket = app.settings.data_dir.join(SOCKET_FILE);
            // Nobody is looked up: connections go to the socket whatever the name.
            let base = Url::parse("http://operator").expect("a URL");
            (http.no_proxy().unix_socket(socket), base, asking)
        };
        let http = http.build();
        Ok(Self {
            http: http.map_err(|error| Failure::of(Kind::Internal, &error))?,
            base,
            asking,
        })
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.ask(Method::GET, path).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.ask(Method::POST, path).await
    }

    /// The events of this path; a connection that breaks is an error of the last one.
    pub(crate) async fn events(
        &self,
        path: &str,
    ) -> Result<impl Stream<Item = Result<Sse>> + Unpin + use<>> {
        let request = self.request(Method::GET, path);
        let response = self.send(request).await?;
        let unread = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&unread);
        let bytes = response.bytes_stream().map_err(io::Error::other);
        let bytes = bytes.and_then(move |piece| {
            let unread_bytes = counted.fetch_add(piece.len(), Ordering::Relaxed) + piece.len();
            let is_event = unread_bytes <= ANSWER_LIMIT_BYTES;
            let too_long = || io::Error::other("it sends an event without an end");
            ready(is_event.then_some(piece).ok_or_else(too_long))
        });
        let events = SseByteStream::new(bytes.boxed());
        let events = events.inspect_ok(move |_| unread.store(0, Ordering::Relaxed));
        Ok(events.map_err(|error| Failure::of(Kind::Unreachable, &error)))
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T> {
        let response = self.send(self.request(method, path)).await?;
        let body = self.body(response).await?;
        serde_json::from_slice(&body).map_err(|_| not_a_gateway())
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = self.base.join(path).expect("paths are our own");
        let request = self.http.request(method, url);
        match &self.asking {
            Asking::Operator { workspace, .. } => {
                request.header(WORKSPACE_HEADER, workspace.as_str())
            }
            Asking::Holder(token) => request.bearer_auth(token.expose_secret()),
        }
    }

    /// The answer to a request, unless it is a refusal.
    async fn send(&self, request: RequestBuilder) -> Result<Response> {
        let response = request.send().await.map_err(|error| self.silent(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let body = self.body(response).await?;
        let refusal: Refusal = serde_json::from_slice(&body).map_err(|_| not_a_gateway())?;
        Err(refusal.error.into())
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(piece) = response
            .chunk()
            .await
            .map_err(|error| self.silent(&error))?
        {
            if body.len() + piece.len() > ANSWER_LIMIT_BYTES {
                return Err(not_a_gateway());
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    fn silent(&self, error: &reqwest::Error) -> Failure {
        match &self.asking {
            Asking::Operator { data_dir, .. } if is_forbidden(error) => {
                let message = format!("only root and who serves {} may", data_dir.display());
                Failure::new(Kind::Machine, message).hint("run it as root")
            }
            Asking::Operator { data_dir, .. } if error.is_connect() => {
                let message = format!("no gateway serves {}", data_dir.display());
                Failure::new(Kind::Unreachable, message)
                    .hint("`holdfast serve` starts one; --gateway names one that is elsewhere")
            }
            _ => Failure::of(Kind::Unreachable, error),
        }
    }
}

impl From<RefusalText> for Failure {
    fn from(refusal: RefusalText) -> Self {
        let kind = ProblemKind::ALL
            .into_iter()
            .find(|kind| kind.name() == refusal.kind);
        let kind = kind.unwrap_or(ProblemKind::Internal);
        Problem {
            hint: refusal.hint,
            ..Problem::new(kind, refusal.message)
        }
        .into()
    }
}

fn is_forbidden(error: &(dyn Error + 'static)) -> bool {
    let mut causes = successors(Some(error), |error| (*error).source());
    causes.any(|cause| {
        let cause = cause.downcast_ref::<io::Error>();
        cause.is_some_and(|cause| cause.kind() == io::ErrorKind::PermissionDenied)
    })
}

fn not_a_gateway() -> Failure {
    Failure::new(
        Kind::Unreachable,
        "what answers there is no gateway of this version",
    )
}

/// A token goes over the network encrypted or not at all.
fn parse_url(text: &str) -> Result<Url> {
    let url = Url::parse(text).map_err(|error| Failure::invalid(format!("{text:?}: {error}")))?;
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let is_here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_here => Ok(url),
        "http" => Err(
            Failure::invalid(format!("the token would go to {host} in the clear"))
                .hint("name the gateway by https://"),
        ),
        _ => Err(Failure::invalid(format!(
            "{text:?} is no http:// or https:// URL"
        ))),
    }
}

fn own_token() -> Result<SecretString> {
    let token = std::env::var(TOKEN_VARIABLE).map_err(|_| {
        Failure::invalid(format!("{TOKEN_VARIABLE} holds no token for the gateway"))
            .hint("`holdfast tokens create NAME`, where the gateway runs, makes one")
    })?;
    Ok(token.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_nowhere_in_the_clear() {
        let table = [
            ("https://gateway.example", true),
            ("http://127.0.0.1:7230", true),
            ("http://localhost:7230", true),
            ("http://[::1]:7230", true),
            ("http://gateway.example", false),
            ("http://10.0.0.1:7230", false),
            ("http://127.0.0.1.example", false),
            ("ftp://127.0.0.1", false),
            ("127.0.0.1:7230", false),
            ("", false),
        ];
        for (url, is_good) in table {
            assert_eq!(parse_url(url).is_ok(), is_good, "{url}");
        }
    }

    #[test]
    fn what_a_gateway_refuses_keeps_its_kind() {
        let body = r#"{"error":{"kind":"not_found","message":"no task","hint":"look"}}"#;
        let refusal: Refusal = serde_json::from_str(body).expect("JSON");
        let failure = Failure::from(refusal.error);
        assert_eq!(failure.kind, Kind::NotFound);
        assert_eq!(failure.hint.as_deref(), Some("look"));
    }
}
