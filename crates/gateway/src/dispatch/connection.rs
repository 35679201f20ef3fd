//! The control plane's side of the worker protocol, one for each connection.
//!
//! What a worker says counts for the containers that were placed on it, by the number of their
//! delivery, and it is answered about no others: whoever speaks of others has it in the audit log.
//! Who a worker is says its connection, never what it sends.

use std::fs::File;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use futures::{Stream, StreamExt, TryStreamExt};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use ids::WorkerId;
use image_store::IndexKey;
use peer_identity::Fingerprint;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, async_trait};
use worker_protocol::worker_service_server::{WorkerService, WorkerServiceServer};
use worker_protocol::{
    AuthAnswer, AuthQuestion, CodePiece, CodeQuestion, Delivery, FromWorker, IndexPiece,
    IndexQuestion, LocationAnswer, LocationQuestion, ReadPiece, ReadQuestion, SharedAnswer,
    SharedQuestion, ToWorker,
};

use super::auth::NO_SUCH_LAYER;
use super::container::{Container, Reading};
use super::hearing::hello;
use super::pieces::{pieces, unreadable};
use super::worker::{Newcomer, QUEUE_LENGTH, WorkerLink};
use crate::denials::Denied;
use crate::foreign;
use crate::gateway::Gateway;
use crate::listening::connection_builder;

/// How long a worker that is told to end may take to clear its containers away.
const CLEAR_AWAY: Duration = Duration::from_secs(30);
/// For the last word to a worker that is cut off.
const FAREWELL: Duration = Duration::from_secs(1);
/// Where the service is served.
const PATH: &str = "/holdfast.worker.v1.WorkerService/{*method}";
/// The one method whose messages are long: they carry results and output.
const ATTACH: &str = "/holdfast.worker.v1.WorkerService/Attach";
/// Longest question: names, a digest, and what a registry said.
const QUESTION_LIMIT_BYTES: usize = 64 << 10;

pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Who is at the other end of a connection, as the connection itself shows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Peer {
    /// A process that this one has started.
    Child,
    /// Whoever holds this key.
    Key(Fingerprint),
}

/// One connection of a worker.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub(super) gateway: Gateway,
    peer: Peer,
    link: Arc<OnceLock<Arc<WorkerLink>>>,
    /// Said once: a second stream is refused before anything of it is read.
    wants_to_attach: Arc<AtomicBool>,
    /// Cancelled when there is a link.
    is_attached: CancellationToken,
    /// Ends the stream, by which the worker knows that it is to end what it runs.
    shutdown: CancellationToken,
}

impl Gateway {
    /// Serves the worker that this process has started, over a connection that nobody else has,
    /// until it hangs up. On shutdown it is told to, and has a while to clear away.
    pub async fn serve_worker<S>(&self, stream: S, shutdown: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connection = Connection::new(self.clone(), Peer::Child, shutdown);
        let router = connection.router();
        connection
            .serve(stream, router, &connection_builder())
            .await;
    }
}

impl Connection {
    pub(super) fn new(gateway: Gateway, peer: Peer, shutdown: CancellationToken) -> Self {
        Self {
            gateway,
            peer,
            link: Arc::default(),
            wants_to_attach: Arc::default(),
            is_attached: CancellationToken::new(),
            shutdown,
        }
    }

    pub(super) fn router(&self) -> Router {
        let taking = |limit_bytes| {
            WorkerServiceServer::new(self.clone())
                .max_decoding_message_size(limit_bytes)
                .max_encoding_message_size(worker_protocol::MAX_MESSAGE_BYTES)
        };
        Router::new()
            .route_service(ATTACH, taking(worker_protocol::MAX_MESSAGE_BYTES))
            .route_service(PATH, taking(QUESTION_LIMIT_BYTES))
    }

    /// Answers until the other end hangs up, or is cut off.
    pub(super) async fn serve<S>(self, stream: S, router: Router, builder: &Builder<TokioExecutor>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = TowerToHyperService::new(router);
        let serving = builder.serve_connection(TokioIo::new(stream), service);
        tokio::select! {
            ended = serving => {
                if let Err(error) = ended {
                    tracing::debug!(error, "the connection of a worker ended");
                }
            }
            () = self.until_cleared_away() => {}
            () = self.until_cut_off() => {}
        }
    }

    pub(super) async fn until_attached(&self) {
        self.is_attached.cancelled().await;
    }

    async fn until_cleared_away(&self) {
        self.shutdown.cancelled().await;
        tokio::time::sleep(CLEAR_AWAY).await;
    }

    /// Until the link is no longer one, and the worker could hear why.
    async fn until_cut_off(&self) {
        self.until_attached().await;
        if let Some(link) = self.link.get() {
            link.gone.cancelled().await;
        }
        tokio::time::sleep(FAREWELL).await;
    }

    fn link(&self) -> Result<&Arc<WorkerLink>, Status> {
        let link = self.link.get().filter(|link| !link.gone.is_cancelled());
        link.ok_or_else(|| Status::failed_precondition("not attached"))
    }

    /// The container of this worker that a message is about, by its last delivery.
    pub(super) async fn container(
        &self,
        delivery: Option<&Delivery>,
        question: &str,
    ) -> Result<Arc<Container>, Status> {
        let link = self.link()?;
        let delivery = delivery.ok_or_else(|| Status::invalid_argument("no delivery"))?;
        if let Some(container) = self.gateway.dispatch().delivered(link, delivery) {
            return Ok(container);
        }
        let message = "no such container on this worker";
        // One that it had may have ended while it spoke.
        if !link.has_had(delivery) {
            self.deny(link, delivery, question, message).await;
        }
        Err(Status::not_found(message))
    }

    /// Has it in the audit log before the worker is answered, also when it hangs up meanwhile.
    async fn deny(
        &self,
        link: &WorkerLink,
        delivery: &Delivery,
        question: &str,
        reason: &'static str,
    ) {
        let container = foreign::shown(&delivery.container);
        let denied = Denied::Worker {
            worker: link.id,
            question: format!("{question} of {container}, delivery {}", delivery.number),
            reason,
        };
        self.gateway.deny(denied).await;
    }

    /// Refuses what is asked of a container that is the worker's own.
    pub(super) async fn forbid(
        &self,
        container: &Container,
        question: &str,
        reason: &'static str,
    ) -> Status {
        let (link, delivery) = (&container.link, &container.delivery);
        self.deny(link, delivery, question, reason).await;
        Status::permission_denied(reason)
    }

    /// Who is attached over this connection.
    async fn newcomer(&self) -> Result<Newcomer, Status> {
        let Peer::Key(key) = self.peer else {
            return Ok(Newcomer {
                id: WorkerId::new(),
                is_joined: false,
                is_draining: false,
            });
        };
        let found = self.gateway.store().worker_of_key(key.bytes()).await;
        let found = found.map_err(|error| unavailable(&error))?;
        let Some(worker) = found else {
            return Err(self.gateway.refuse_stranger(key).await);
        };
        Ok(Newcomer {
            id: worker.id,
            is_joined: true,
            is_draining: worker.is_draining,
        })
    }
}

pub(super) fn unavailable(error: &(dyn std::error::Error + 'static)) -> Status {
    tracing::error!(error, "a worker cannot be answered");
    Status::unavailable("the gateway cannot answer now")
}

#[async_trait]
impl WorkerService for Connection {
    type AttachStream = Answers<ToWorker>;

    async fn attach(
        &self,
        request: Request<Streaming<FromWorker>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        if self.wants_to_attach.swap(true, Ordering::Relaxed) {
            return Err(attached_before());
        }
        let mut messages = request.into_inner();
        let hello = hello(&mut messages).await?;
        let newcomer = self.newcomer().await?;
        let (sender, mut receiver) = mpsc::channel(QUEUE_LENGTH);
        let link = self.gateway.dispatch().attach(newcomer, &hello, sender);
        if self.link.set(Arc::clone(&link)).is_err() {
            self.gateway.dispatch().lost(&link);
            return Err(attached_before());
        }
        self.is_attached.cancel();
        // From here on somebody sees it go, whatever becomes of this request.
        tokio::spawn(self.clone().listen(Arc::clone(&link), messages));
        tracing::info!(worker = %link.id, name = ?hello.name, "a worker is attached");
        if newcomer.is_joined {
            self.gateway.note_seen(&link).await;
        }
        let answers = futures::stream::poll_fn(move |context| receiver.poll_recv(context));
        let answers = answers.take_until(self.clone().until_the_end(Arc::clone(&link)));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn auth(&self, request: Request<AuthQuestion>) -> Result<Response<AuthAnswer>, Status> {
        let answer = self.answer_auth(request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn location(
        &self,
        request: Request<LocationQuestion>,
    ) -> Result<Response<LocationAnswer>, Status> {
        let answer = self.answer_location(request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn shared(
        &self,
        request: Request<SharedQuestion>,
    ) -> Result<Response<SharedAnswer>, Status> {
        let answer = self.answer_shared(request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    type ReadStream = Answers<ReadPiece>;

    async fn read(
        &self,
        request: Request<ReadQuestion>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let pieces = self.answer_read(request.into_inner()).await?;
        Ok(Response::new(pieces))
    }

    type CodeStream = Answers<CodePiece>;

    async fn code(
        &self,
        request: Request<CodeQuestion>,
    ) -> Result<Response<Self::CodeStream>, Status> {
        let delivery = request.get_ref().delivery.as_ref();
        let container = self.container(delivery, "code").await?;
        let code = container.given.code.as_ref();
        let code = code.ok_or_else(|| Status::not_found("the container's image has the code"))?;
        let code = code.try_clone().map_err(|_| unreadable())?;
        let pieces = pieces(code).map_ok(|data| CodePiece { data });
        Ok(Response::new(Box::pin(pieces)))
    }

    type IndexStream = Answers<IndexPiece>;

    async fn index(
        &self,
        request: Request<IndexQuestion>,
    ) -> Result<Response<Self::IndexStream>, Status> {
        let question = request.into_inner();
        let container = self.container(question.delivery.as_ref(), "index").await?;
        let reading = &container.given.reading;
        if reading.layer(&question.digest).is_none() {
            return Err(self.forbid(&container, "index", NO_SUCH_LAYER).await);
        }
        let index = self.open_index(reading, question.digest).await?;
        let pieces = pieces(index).map_ok(|data| IndexPiece { data });
        Ok(Response::new(Box::pin(pieces)))
    }
}

fn attached_before() -> Status {
    Status::already_exists("this connection has attached before")
}

impl Connection {
    async fn open_index(&self, reading: &Reading, layer: String) -> Result<File, Status> {
        let (store, origin) = (
            self.gateway.indexing().store.clone(),
            reading.origin.clone(),
        );
        let opening = tokio::task::spawn_blocking(move || {
            let (origin, layer) = (origin.as_str(), layer.as_str());
            store.open_index(IndexKey { origin, layer })
        });
        let opened = opening.await.map_err(|_| unreadable())?;
        let index = opened.map_err(|error| unavailable(&error))?;
        index.ok_or_else(|| Status::not_found("there is no index of the layer"))
    }

    /// Until the worker is no longer to be told anything, by which it knows that it is to end.
    async fn until_the_end(self, link: Arc<WorkerLink>) {
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            () = link.gone.cancelled() => {}
        }
    }
}
