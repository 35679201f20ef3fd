//! The port that workers on other machines come to.
//!
//! ```text
//!   connection ─▶ TLS, by keys ─▶ is the key a worker's? ─ no ─▶ Join, and nothing else
//!                                            └─ yes ─▶ Attach, then all of the worker protocol
//! ```
//!
//! Whoever is not attached has one of few places, for a short time, and can have us hold little;
//! those who are attached are no more than have joined. What is done to records elsewhere (a worker
//! removed, or draining) is looked for often, and takes effect then.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use jiff::Timestamp;
use peer_identity::{Acceptor, Fingerprint, KeyPair, PeerStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::connection::{Connection, Peer};
use super::join;
use super::worker::WorkerLink;
use crate::gateway::Gateway;
use crate::listening::{ServeError, accept, connection_builder};

/// Connections that are not attached, at once: a descriptor and some kilobytes each. A fleet that
/// comes back after a restart does so within seconds all the same.
const STRANGERS_LIMIT: usize = 64;
/// How long a connection may take from its handshake to being attached.
const STRANGER_TIMEOUT: Duration = Duration::from_secs(20);
/// What a machine that is no worker may have under way.
const STRANGER_STREAMS: u32 = 4;
const STRANGER_WINDOW_BYTES: u32 = 64 << 10;
const STRANGER_HEADERS_BYTES: u32 = 8 << 10;
/// How often the records are looked at: a worker that is removed is cut off so soon.
const REVIEW_EVERY: Duration = Duration::from_secs(1);
/// How often it is noted that a worker is there: for people.
const NOTE_EVERY: Duration = Duration::from_mins(1);

/// A port that is listened on, where nobody is answered yet.
#[derive(Debug)]
pub struct BoundWorkers {
    listener: TcpListener,
    address: SocketAddr,
    gateway: Gateway,
    acceptor: Acceptor,
}

impl BoundWorkers {
    /// Listens as the machine that has this key.
    pub async fn bind(
        gateway: Gateway,
        address: SocketAddr,
        key: &KeyPair,
    ) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            address,
            gateway,
            acceptor: Acceptor::new(key),
        })
    }

    /// Where it listens, with the port that was found where none was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves workers until the shutdown, and then until they have cleared away.
    pub async fn run(self, shutdown: CancellationToken) {
        let strangers = Arc::new(Semaphore::new(STRANGERS_LIMIT));
        let mut connections = JoinSet::new();
        let reviewing = tokio::spawn(review(self.gateway.clone(), shutdown.clone()));
        loop {
            let (stream, place) = tokio::select! {
                accepted = accept(&self.listener, &strangers) => accepted,
                Some(_) = connections.join_next() => continue,
                () = shutdown.cancelled() => break,
            };
            let (gateway, acceptor) = (self.gateway.clone(), self.acceptor.clone());
            let shutdown = shutdown.clone();
            connections.spawn(async move {
                if let Some((stream, key)) = greet(&acceptor, stream).await {
                    gateway.serve_peer(stream, key, place, shutdown).await;
                }
            });
        }
        drop(self.listener);
        while connections.join_next().await.is_some() {}
        // It ends by the shutdown, and a panic of its own is in the log.
        let _ = reviewing.await;
    }
}

async fn greet(
    acceptor: &Acceptor,
    stream: TcpStream,
) -> Option<(PeerStream<TcpStream>, Fingerprint)> {
    let from = stream.peer_addr().ok();
    // Answers are small and waited for.
    let _ = stream.set_nodelay(true);
    match acceptor.accept(stream).await {
        Ok(greeted) => Some(greeted),
        Err(error) => {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                ?from,
                "no worker came"
            );
            None
        }
    }
}

impl Gateway {
    /// Serves whoever holds this key. The place is free again once it is attached.
    async fn serve_peer(
        &self,
        stream: PeerStream<TcpStream>,
        key: Fingerprint,
        place: OwnedSemaphorePermit,
        shutdown: CancellationToken,
    ) {
        let known = match self.store().worker_of_key(key.bytes()).await {
            Ok(known) => known,
            Err(error) => {
                tracing::error!(%error, "who a worker is cannot be read");
                return;
            }
        };
        let connection = Connection::new(self.clone(), Peer::Key(key), shutdown);
        let joining = join::router(self.clone(), key);
        let (router, builder) = if known.is_some() {
            let router = connection.router().merge(joining);
            let not_served = async || Status::unimplemented("not served").into_http::<Body>();
            (router.fallback(not_served), known_builder())
        } else {
            let gateway = self.clone();
            let refuse = async move || gateway.refuse_stranger(key).await.into_http::<Body>();
            (joining.fallback(refuse), stranger_builder())
        };
        let attached = connection.clone();
        let waiting = async {
            let attaching = tokio::time::timeout(STRANGER_TIMEOUT, attached.until_attached());
            if attaching.await.is_ok() {
                drop(place);
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = connection.serve(stream, router, &builder) => {}
            () = waiting => tracing::debug!(%key, "a connection was not attached in time"),
        }
    }

    /// Notes that a worker is there.
    pub(super) async fn note_seen(&self, link: &WorkerLink) {
        let (store, capacity) = (self.store(), link.capacity());
        if let Err(error) = store
            .note_worker(link.id, &capacity, Timestamp::now())
            .await
        {
            tracing::warn!(%error, worker = %link.id, "it cannot be noted that a worker is there");
        }
    }
}

fn known_builder() -> Builder<TokioExecutor> {
    connection_builder().http2_only()
}

fn stranger_builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new()).http2_only();
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STRANGER_STREAMS)
        .initial_stream_window_size(STRANGER_WINDOW_BYTES)
        .initial_connection_window_size(STRANGER_WINDOW_BYTES)
        .max_header_list_size(STRANGER_HEADERS_BYTES);
    builder
}

/// Has what people do to the records take effect, until the shutdown.
async fn review(gateway: Gateway, shutdown: CancellationToken) {
    let mut noted_at = Instant::now();
    let mut looks = tokio::time::interval(REVIEW_EVERY);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = shutdown.cancelled() => return,
        }
        gateway.review_workers().await;
        if noted_at.elapsed() >= NOTE_EVERY {
            noted_at = Instant::now();
            for link in gateway.dispatch().workers.joined() {
                gateway.note_seen(&link).await;
            }
        }
    }
}

impl Gateway {
    /// Cuts off those that were removed, and gives no more to those that drain.
    async fn review_workers(&self) {
        let workers = &self.dispatch().workers;
        // Taken first: who joins while the records are read is not missed in them.
        let links = workers.joined();
        if links.is_empty() {
            return;
        }
        let records = match self.store().workers().await {
            Ok(records) => records,
            Err(error) => {
                tracing::warn!(%error, "the records of workers cannot be read");
                return;
            }
        };
        for link in workers.review(links, &records) {
            tracing::warn!(worker = %link.id, "a worker was removed");
            self.dispatch().lost(&link);
            self.denials().forget_worker(link.id);
            // What it was given between its removal and now.
            if let Err(error) = self.broker().evict(link.id, "gateway").await {
                tracing::warn!(%error, "leases of a worker lapse by themselves");
            }
        }
    }
}
