//! What is the same of all ports: how a connection is taken, and what it may cost before it has
//! said anything.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a connection may take to say what it wants, and how long its first request may take to
/// come.
pub(crate) const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
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
    #[error("cannot listen on {path:?}")]
    OperatorsSocket { path: PathBuf, source: io::Error },
}

/// What connections come from.
pub(crate) trait Listens: Sync {
    type Stream;

    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listens for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// The next connection, as soon as there is a place for it.
pub(crate) async fn accept<L: Listens>(
    listener: &L,
    connections: &Arc<Semaphore>,
) -> (L::Stream, OwnedSemaphorePermit) {
    let permit = Arc::clone(connections).acquire_owned().await;
    let permit = permit.expect("the semaphore is never closed");
    loop {
        match listener.next().await {
            Ok(stream) => return (stream, permit),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
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
