//! The listening socket: connections in, each with its limits, and an end in order.
//!
//! One port speaks HTTP/1 and HTTP/2, and has both faces. What a connection may cost before it has
//! said anything is bounded here; what a request may cost, where it is read.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::beta9;
use crate::gateway::Gateway;
use crate::http;

/// Connections at once: a descriptor each, of the 1024 that a process has where nobody gave more.
const CONNECTIONS_LIMIT: usize = 768;
/// How long a connection may take to say what it wants.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// Requests of one connection at once: `map` of the beta9 client opens a stream for each input.
const STREAMS_LIMIT: u32 = 256;
/// How often a silent HTTP/2 connection is asked whether it lives: proxies forget sooner than in a
/// minute.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// What may be under way to us in one stream. The protocol's own 64 KiB make 1 MB/s of a round
/// trip of 64 ms.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// How long requests that are being answered may take when the service ends.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a connection could not be taken, as when there are no descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
}

/// A gateway that listens and does not answer yet.
#[derive(Debug)]
pub struct BoundService {
    listener: TcpListener,
    address: SocketAddr,
    gateway: Gateway,
}

impl BoundService {
    pub async fn bind(gateway: Gateway, address: SocketAddr) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            address,
            gateway,
        })
    }

    /// Where it listens, with the port that was found where none was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until it is told to end, and then what it has begun.
    pub async fn run(self, shutdown: CancellationToken) {
        let router = faces(self.gateway);
        let connections = Arc::new(Semaphore::new(CONNECTIONS_LIMIT));
        let graceful = GracefulShutdown::new();
        loop {
            let accepting = accept(&self.listener, &connections);
            let (stream, permit) = tokio::select! {
                accepted = accepting => accepted,
                () = shutdown.cancelled() => break,
            };
            let connection = Connection {
                stream,
                router: router.clone(),
                watcher: graceful.watcher(),
            };
            tokio::spawn(async move {
                connection.serve().await;
                drop(permit);
            });
        }
        drop(self.listener);
        if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown())
            .await
            .is_err()
        {
            tracing::warn!("requests that take too long were given up");
        }
    }
}

/// Both faces, told apart by what a request says that it is.
fn faces(gateway: Gateway) -> Router {
    let beta9 = beta9::router(gateway.clone());
    http::router(gateway).layer(middleware::from_fn_with_state(beta9, beta9::take))
}

/// The next connection, as soon as there is a place for it.
pub(crate) async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    let permit = Arc::clone(connections).acquire_owned().await;
    let permit = permit.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

struct Connection {
    stream: TcpStream,
    router: Router,
    watcher: hyper_util::server::graceful::Watcher,
}

impl Connection {
    async fn serve(self) {
        // Answers are small and waited for.
        let _ = self.stream.set_nodelay(true);
        // Which protocol it is shows in the first bytes, for which nothing else would not wait.
        let first = tokio::time::timeout(HEADER_TIMEOUT, self.stream.readable()).await;
        if !matches!(first, Ok(Ok(()))) {
            return;
        }
        let builder = connection_builder();
        let service = TowerToHyperService::new(self.router);
        let serving = builder.serve_connection_with_upgrades(TokioIo::new(self.stream), service);
        if let Err(error) = self.watcher.watch(serving.into_owned()).await {
            tracing::debug!(error, "a connection ended");
        }
    }
}

/// What any connection may cost before it has said anything, and how it is kept alive.
pub(crate) fn connection_builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_LIMIT)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    builder
}
