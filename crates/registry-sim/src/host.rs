//! One listening host: its address, its counters, its life.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;
use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::authority::Authority;
use crate::counters::{HostCounter, KnownSecrets};
use crate::listener::{Ripcord, SimListener};

/// Request bodies are read whole, to look for secrets in them.
const MAX_REQUEST_BODY_BYTES: usize = 64 * 1024 * 1024;

/// A request as a handler gets it.
pub(crate) struct Arrived {
    pub(crate) parts: axum::http::request::Parts,
    pub(crate) body: Bytes,
    pub(crate) ripcord: Ripcord,
}

impl Arrived {
    /// The fields of a body that is a form.
    pub(crate) fn form(&self) -> Vec<(String, String)> {
        url::form_urlencoded::parse(&self.body)
            .into_owned()
            .collect()
    }
}

/// The value of a form's field; nothing is the empty one.
pub(crate) fn find<'a>(form: &'a [(String, String)], wanted: &str) -> &'a str {
    let found = form.iter().find(|(name, _)| name == wanted);
    found.map_or("", |(_, value)| value)
}

pub(crate) type Handler = Arc<dyn Fn(Arrived) -> BoxFuture<'static, Response> + Send + Sync>;

/// A running host. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Host {
    /// `name:port`, as it stands in URLs.
    pub(crate) authority: String,
    pub(crate) scheme: &'static str,
    pub(crate) counter: HostCounter,
    outage: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

/// A port that is taken, on which nobody answers yet: other hosts can already name it.
pub(crate) struct Reserved {
    listener: TcpListener,
    authority: String,
    tls: Option<tokio_rustls::TlsAcceptor>,
    counter: HostCounter,
    outage: Arc<AtomicBool>,
}

#[derive(Clone)]
struct Served {
    handler: Handler,
    counter: HostCounter,
    secrets: KnownSecrets,
    outage: Arc<AtomicBool>,
}

impl Reserved {
    /// Takes a free loopback port. URLs will call the host `name`.
    pub(crate) async fn new(name: &str, tls: Option<&Authority>) -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .await
            .expect("a free loopback port");
        let port = listener.local_addr().expect("a bound address").port();
        Self {
            listener,
            authority: format!("{name}:{port}"),
            tls: tls.map(Authority::acceptor),
            counter: HostCounter::new(),
            outage: Arc::default(),
        }
    }

    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    pub(crate) fn serve(self, secrets: &KnownSecrets, handler: Handler) -> Host {
        let scheme = self.scheme();
        let served = Served {
            handler,
            counter: self.counter.clone(),
            secrets: secrets.clone(),
            outage: Arc::clone(&self.outage),
        };
        let listener = SimListener {
            tcp: self.listener,
            tls: self.tls,
            outage: Arc::clone(&self.outage),
        };
        let service = Router::new()
            .fallback(answer)
            .with_state(served)
            .into_make_service_with_connect_info::<Ripcord>();
        let task = tokio::spawn(async move {
            // The listener retries for ever; serving ends when the task is aborted.
            let _ = axum::serve(listener, service).await;
        });
        Host {
            authority: self.authority,
            scheme,
            counter: self.counter,
            outage: self.outage,
            task,
        }
    }
}

impl Host {
    /// From now on, connections are reset, or no longer.
    pub(crate) fn set_outage(&self, outage: bool) {
        self.outage.store(outage, Ordering::SeqCst);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    State(served): State<Served>,
    ConnectInfo(ripcord): ConnectInfo<Ripcord>,
    request: Request,
) -> Response {
    if served.outage.load(Ordering::SeqCst) {
        ripcord.pull();
        return Response::new(Body::empty());
    }
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_REQUEST_BODY_BYTES)
        .await
        .unwrap_or_default();
    served.counter.record(&parts, &body, &served.secrets);
    (served.handler)(Arrived {
        parts,
        body,
        ripcord,
    })
    .await
}
