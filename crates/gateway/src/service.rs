//! The listening sockets: connections in, each with its limits, and an end in order.
//!
//! One port speaks HTTP/1 and HTTP/2, in TLS where there is a certificate, and has both faces.
//! Beside it there may be a Unix socket for whoever runs the gateway: it has the HTTP face, and
//! asks for no token of those whom the kernel says to be root or who we are. What a connection may
//! cost before it has said anything is bounded in `listening`; what a request may cost, where it is
//! read.

mod asked;
mod identity;
mod tls;

use std::fs::Permissions;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::middleware;
use axum::{Extension, Router};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::beta9;
use crate::credential_health::look_after_credentials;
use crate::gateway::Gateway;
use crate::http::{self, OperatorsSocket};
use crate::issuer_keys::look_after_issuer_key;
use crate::listening::{HEADER_TIMEOUT, Listens, ServeError, accept, connection_builder};

use asked::Asked;
pub use identity::{TlsError, TlsFiles};
pub use tls::ServerTls;

/// Connections at once: a descriptor each, of the 1024 that a process has where nobody gave more.
const CONNECTIONS_LIMIT: usize = 768;
/// How long requests that are being answered may take when the service ends.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// A gateway that listens and does not answer yet.
#[derive(Debug)]
pub struct BoundService {
    sockets: Sockets,
    address: SocketAddr,
    gateway: Gateway,
    tls: Option<ServerTls>,
}

impl BoundService {
    pub async fn bind(gateway: Gateway, address: SocketAddr) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Listen { address, source };
        let port = TcpListener::bind(address).await.map_err(failed)?;
        let address = port.local_addr().map_err(failed)?;
        let operators = None;
        Ok(Self {
            sockets: Sockets { port, operators },
            address,
            gateway,
            tls: None,
        })
    }

    /// Speaks TLS on the port, and nothing else. The operators' socket does without: it leaves no
    /// machine.
    pub fn with_tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Takes requests of whoever runs the gateway, too. What is left of an earlier socket goes: the
    /// caller knows that nobody listens there.
    pub fn with_operators_socket(mut self, path: &Path) -> Result<Self, ServeError> {
        let bound = bind_for_operators(path);
        let failed = |source| ServeError::OperatorsSocket {
            path: path.to_owned(),
            source,
        };
        self.sockets.operators = Some(bound.map_err(failed)?);
        Ok(self)
    }

    /// Where it listens, with the port that was found where none was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until it is told to end, and then what it has begun.
    pub async fn run(self, shutdown: CancellationToken) {
        let faces = faces(self.gateway.clone());
        let gateway = self.gateway.clone();
        let operators_face = http::router(self.gateway).layer(Extension(OperatorsSocket));
        let connections = Arc::new(Semaphore::new(CONNECTIONS_LIMIT));
        let graceful = GracefulShutdown::new();
        let renewing = self.tls.clone().map(ServerTls::keep_renewed);
        let _renewing = renewing.map(|renewing| AbortOnDropHandle::new(tokio::spawn(renewing)));
        let looking = look_after_credentials(gateway.clone());
        let _looking = AbortOnDropHandle::new(tokio::spawn(looking));
        let looking = look_after_issuer_key(gateway);
        let _looking_at_keys = AbortOnDropHandle::new(tokio::spawn(looking));
        loop {
            let (stream, permit) = tokio::select! {
                accepted = accept(&self.sockets, &connections) => accepted,
                () = shutdown.cancelled() => break,
            };
            let watcher = graceful.watcher();
            let (faces, operators_face) = (faces.clone(), operators_face.clone());
            let tls = self.tls.clone();
            tokio::spawn(async move {
                match stream {
                    Stream::Tcp(stream) => serve_caller(stream, tls, faces, watcher).await,
                    Stream::Unix(stream) => serve_operator(stream, operators_face, watcher).await,
                }
                drop(permit);
            });
        }
        drop(self.sockets);
        if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown())
            .await
            .is_err()
        {
            tracing::warn!("requests that take too long were given up");
        }
    }
}

/// The port, and the socket for operators where there is one.
#[derive(Debug)]
struct Sockets {
    port: TcpListener,
    operators: Option<UnixListener>,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listens for Sockets {
    type Stream = Stream;

    async fn next(&self) -> io::Result<Stream> {
        let operator = async {
            match &self.operators {
                Some(operators) => operators.accept().await,
                None => pending().await,
            }
        };
        tokio::select! {
            stream = self.port.next() => stream.map(Stream::Tcp),
            accepted = operator => accepted.map(|(stream, _)| Stream::Unix(stream)),
        }
    }
}

/// Both faces, told apart by what a request says that it is.
fn faces(gateway: Gateway) -> Router {
    let beta9 = beta9::router(gateway.clone());
    http::router(gateway).layer(middleware::from_fn_with_state(beta9, beta9::take))
}

fn bind_for_operators(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn serve_caller(stream: TcpStream, tls: Option<ServerTls>, router: Router, watcher: Watcher) {
    // Answers are small and waited for.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return serve(stream, router, watcher).await;
    };
    if let Some(stream) = tls.accept(stream).await {
        serve(stream, router, watcher).await;
    }
}

async fn serve_operator(stream: UnixStream, router: Router, watcher: Watcher) {
    let peer = stream.peer_cred();
    let is_operator = peer.is_ok_and(|peer| {
        let own = rustix::process::geteuid();
        [0, own.as_raw()].contains(&peer.uid())
    });
    if is_operator {
        serve(stream, router, watcher).await;
    }
}

async fn serve<S>(stream: S, router: Router, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let builder = connection_builder();
    let (router, asking) = Asked::new(router);
    let service = TowerToHyperService::new(router);
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::select! {
        ended = watcher.watch(serving.into_owned()) => if let Err(error) = ended {
            tracing::debug!(error, "a connection ended");
        },
        () = asking.says_nothing(HEADER_TIMEOUT) => {
            tracing::debug!("a connection did not ask for anything in time");
        }
    }
}
