//! The gateway that a command asks: the one that serves this data directory, over its own socket,
//! or another, with a token. Which it is, `contexts` decides.
//!
//! Answers are bounded before they are read; what a gateway refuses is the failure that the same
//! would be here.

use std::error::Error;
use std::future::ready;
use std::io;
use std::iter::successors;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use credential::{ExposeSecret, SecretString};
use futures::{Stream, StreamExt, TryStreamExt};
use gateway::{Kind as ProblemKind, Problem, WORKSPACE_HEADER};
use ids::WorkspaceName;
use reqwest::header::ACCEPT;
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Method, RequestBuilder, Response};
use rustls::CertificateError;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sse_stream::{Sse, SseByteStream};

use crate::app::App;
use crate::args::GatewayArg;
use crate::authority;
use crate::contexts::{self, Asked, Connection, Contexts, OwnGateway};
use crate::failure::{Failure, Kind, Result, chain};
use crate::gateway_url::GatewayUrl;
use crate::settings::Settings;

/// Below the data directory, while it is served.
pub(crate) const SOCKET_FILE: &str = "serve.sock";
/// A task is shown with its result, which is as long as a gateway lets one be, in base64.
const ANSWER_LIMIT_BYTES: usize = 64 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const EVENTS: &str = "text/event-stream";
/// A gateway that lives says something every fifteen seconds.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(45);

pub(crate) struct GatewayClient {
    http: Client,
    base: GatewayUrl,
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
pub(crate) struct RefusalText {
    kind: String,
    message: String,
    hint: Option<String>,
}

impl GatewayClient {
    pub(crate) fn new(app: &App, named: &GatewayArg) -> Result<Self> {
        let settings = &app.settings;
        let contexts = || Contexts::read(contexts::path()?);
        match contexts::choose(named, || own_gateway(settings), contexts)? {
            Asked::Own => Self::of_operator(settings),
            Asked::Named(connection) => Self::of_holder(connection),
        }
    }

    /// The gateway of the data directory, asked as who runs it.
    pub(crate) fn own(app: &App) -> Result<Self> {
        Self::of_operator(&app.settings)
    }

    fn of_operator(settings: &Settings) -> Result<Self> {
        let socket = settings.data_dir.join(SOCKET_FILE);
        let asking = Asking::Operator {
            workspace: settings.workspace.clone(),
            data_dir: settings.data_dir.clone(),
        };
        // Nobody is looked up: connections go to the socket whatever the name.
        let base = GatewayUrl::parse("http://operator")?;
        Self::build(builder().no_proxy().unix_socket(socket), base, asking)
    }

    fn of_holder(connection: Connection) -> Result<Self> {
        let Connection {
            gateway,
            token,
            ca_file,
        } = connection;
        let mut http = builder();
        // What is on this machine, or in the clear, is nothing for a proxy.
        if gateway.is_clear() || gateway.is_on_this_machine() {
            http = http.no_proxy();
        }
        if let Some(file) = &ca_file {
            http = http.tls_certs_merge(authority::read(file)?);
        }
        Self::build(http, gateway, Asking::Holder(token))
    }

    fn build(http: ClientBuilder, base: GatewayUrl, asking: Asking) -> Result<Self> {
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
        self.stream(self.request(Method::GET, path)).await
    }

    /// The events of what is asked for so.
    pub(crate) async fn events_of<Body: Serialize>(
        &self,
        path: &str,
        body: &Body,
    ) -> Result<impl Stream<Item = Result<Sse>> + Unpin + use<Body>> {
        let request = self.request(Method::POST, path).json(body);
        self.stream(request.header(ACCEPT, EVENTS)).await
    }

    async fn stream(
        &self,
        request: RequestBuilder,
    ) -> Result<impl Stream<Item = Result<Sse>> + Unpin + use<>> {
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
        let request = self.http.request(method, self.base.join(path));
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
                Failure::new(Kind::Unreachable, message).hint(
                    "`holdfast serve` starts one; --gateway, or `holdfast context add`, names \
                           one that is elsewhere",
                )
            }
            Asking::Operator { .. } => Failure::of(Kind::Unreachable, error),
            Asking::Holder(_) => match tls_error(error) {
                Some(refused) => distrusted(&self.base, refused),
                None => away(&self.base, error),
            },
        }
    }
}

fn builder() -> ClientBuilder {
    Client::builder()
        // A gateway leads nowhere else.
        .redirect(Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(SILENCE_TIMEOUT)
}

/// What the socket of the data directory is good for.
fn own_gateway(settings: &Settings) -> OwnGateway {
    if UnixStream::connect(settings.data_dir.join(SOCKET_FILE)).is_ok() {
        OwnGateway::Answers
    } else if settings.is_data_dir_named {
        OwnGateway::IsMeant
    } else {
        OwnGateway::DoesNotAnswer
    }
}

/// Why a connection is not encrypted.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut causes = successors(Some(error), |error| inner(*error));
    causes.find_map(|cause| cause.downcast_ref())
}

/// What is inside an error. An I/O error names as its source what its content has as one.
fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let content = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    match content {
        Some(content) => Some(content),
        None => error.source(),
    }
}

fn distrusted(gateway: &GatewayUrl, error: &rustls::Error) -> Failure {
    let rustls::Error::InvalidCertificate(reason) = error else {
        let hint = match error {
            rustls::Error::InvalidMessage(_) => "what answers there may speak no TLS: http://",
            _ => "another program or a proxy may answer there",
        };
        let message = format!("no TLS with {gateway}: {}", chain(error));
        return Failure::new(Kind::Unreachable, message).hint(hint);
    };
    let hint = match reason {
        CertificateError::UnknownIssuer => {
            "where its authority is your own, --ca-file names it (PEM), and `holdfast context add \
             --ca-file` keeps it"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "name the gateway as its certificate does"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "whoever runs the gateway renews it; is the clock of this machine right?"
        }
        _ => "whoever runs the gateway can say what it should be",
    };
    let message = format!("the certificate of {gateway} is not trusted: {reason}");
    Failure::new(Kind::Unreachable, message).hint(hint)
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

/// A gateway that is not reached, or no longer. Which library found out is nothing to its user.
fn away(gateway: &GatewayUrl, error: &reqwest::Error) -> Failure {
    let first: &(dyn Error + 'static) = error;
    let innermost = successors(Some(first), |error| inner(*error)).last();
    let why = innermost.map(ToString::to_string).unwrap_or_default();
    if !error.is_connect() {
        let message = format!("the connection to the gateway at {gateway} broke: {why}");
        return Failure::new(Kind::Unreachable, message);
    }
    let message = format!("no connection to the gateway at {gateway}: {why}");
    let hint = "does `holdfast serve` or `holdfast gateway` run there? `holdfast context list` \
                shows which gateways are known here";
    Failure::new(Kind::Unreachable, message).hint(hint)
}

fn is_forbidden(error: &(dyn Error + 'static)) -> bool {
    let mut causes = successors(Some(error), |error| (*error).source());
    causes.any(|cause| {
        let cause = cause.downcast_ref::<io::Error>();
        cause.is_some_and(|cause| cause.kind() == io::ErrorKind::PermissionDenied)
    })
}

/// What an event says.
pub(crate) fn read_event<'a, T: Deserialize<'a>>(data: &'a str) -> Result<T> {
    let malformed = |error: serde_json::Error| Failure::of(Kind::Unreachable, &error);
    serde_json::from_str(data).map_err(malformed)
}

fn not_a_gateway() -> Failure {
    Failure::new(
        Kind::Unreachable,
        "what answers there is no gateway of this version",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_gateway_refuses_keeps_its_kind() {
        let body = r#"{"error":{"kind":"not_found","message":"no task","hint":"look"}}"#;
        let refusal: Refusal = serde_json::from_str(body).expect("JSON");
        let failure = Failure::from(refusal.error);
        assert_eq!(failure.kind, Kind::NotFound);
        assert_eq!(failure.hint.as_deref(), Some("look"));
    }
}
