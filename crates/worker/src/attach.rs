//! The worker's side of its one connection: gRPC as a client over a stream that is given.
//!
//! Nothing is dialled, and nothing is dialled again: when the stream breaks, so does everything
//! that was asked over it. One that has died without a word is found out by asking.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::AbortOnDropHandle;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::{Status, Streaming};
use worker_protocol::join_service_client::JoinServiceClient;
use worker_protocol::worker_service_client::WorkerServiceClient;
use worker_protocol::{
    AuthAnswer, AuthQuestion, CodePiece, CodeQuestion, Delivery, FromWorker, IndexPiece,
    IndexQuestion, JoinAnswer, JoinQuestion, LocationAnswer, LocationQuestion, MAX_JOIN_BYTES,
    MAX_MESSAGE_BYTES, MAX_READS_PER_WORKER, ReadPiece, ReadQuestion, SharedAnswer, SharedQuestion,
    ToWorker,
};

/// What may be under way to us in one stream. The protocol's own 64 KiB make 1 MB/s of a round
/// trip of 64 ms.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// What may be under way in all of them: a mount that takes nothing of what is read for it holds up
/// no other, and no call, though it has as many reads as there may be.
const CONNECTION_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * MAX_READS_PER_WORKER + (4 << 20);

/// How often a silent connection is asked whether it lives, and for how long: the other end may
/// have lost its power.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Requests have to name a host, and there is only one at the other end.
const ORIGIN: &str = "http://control-plane";

/// The other end. Clones share the connection.
#[derive(Clone, Debug)]
pub(crate) struct ControlPlane {
    client: WorkerServiceClient<Requests>,
    /// Turns of reads.
    reads: Arc<Semaphore>,
}

impl ControlPlane {
    /// Speaks HTTP/2 over a stream, for as long as the handle is kept.
    pub(crate) async fn connect<Channel>(
        channel: Channel,
    ) -> Result<(Self, AbortOnDropHandle<()>), hyper::Error>
    where
        Channel: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (requests, driver) = open(channel).await?;
        let client = WorkerServiceClient::with_origin(requests, Uri::from_static(ORIGIN))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let reads = Arc::new(Semaphore::new(MAX_READS_PER_WORKER as usize));
        Ok((Self { client, reads }, driver))
    }

    pub(crate) async fn attach(
        &mut self,
        messages: impl Stream<Item = FromWorker> + Send + 'static,
    ) -> Result<Streaming<ToWorker>, Status> {
        Ok(self.client.attach(messages).await?.into_inner())
    }

    pub(crate) async fn auth(&self, question: AuthQuestion) -> Result<AuthAnswer, Status> {
        Ok(self.client.clone().auth(question).await?.into_inner())
    }

    pub(crate) async fn location(
        &self,
        question: LocationQuestion,
    ) -> Result<LocationAnswer, Status> {
        Ok(self.client.clone().location(question).await?.into_inner())
    }

    pub(crate) async fn shared(&self, question: SharedQuestion) -> Result<SharedAnswer, Status> {
        Ok(self.client.clone().shared(question).await?.into_inner())
    }

    /// A turn to read: of the container's own first, so that those that wait for theirs stand in
    /// nobody else's way.
    pub(crate) async fn read_turn(&self, own: &Arc<Semaphore>) -> [OwnedSemaphorePermit; 2] {
        let own = Arc::clone(own).acquire_owned().await;
        let all = Arc::clone(&self.reads).acquire_owned().await;
        [own, all].map(|turn| turn.expect("the semaphores are never closed"))
    }

    /// Bytes of a layer of a delivery's image, asked for by who has a turn.
    pub(crate) async fn read(
        &self,
        question: ReadQuestion,
    ) -> Result<Streaming<ReadPiece>, Status> {
        Ok(self.client.clone().read(question).await?.into_inner())
    }

    pub(crate) async fn code(&self, delivery: Delivery) -> Result<Streaming<CodePiece>, Status> {
        let delivery = Some(delivery);
        let pieces = self.client.clone().code(CodeQuestion { delivery }).await?;
        Ok(pieces.into_inner())
    }

    /// Of a layer of the delivery's image.
    pub(crate) async fn index(
        &self,
        delivery: Delivery,
        digest: String,
    ) -> Result<Streaming<IndexPiece>, Status> {
        let delivery = Some(delivery);
        let question = IndexQuestion { delivery, digest };
        let pieces = self.client.clone().index(question).await?;
        Ok(pieces.into_inner())
    }
}

/// Asks over a stream of its own to become a worker.
pub(crate) async fn ask_to_join<Channel>(
    channel: Channel,
    question: JoinQuestion,
) -> Result<Result<JoinAnswer, Status>, hyper::Error>
where
    Channel: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (requests, _driver) = open(channel).await?;
    let mut client = JoinServiceClient::with_origin(requests, Uri::from_static(ORIGIN))
        .max_decoding_message_size(MAX_JOIN_BYTES)
        .max_encoding_message_size(MAX_JOIN_BYTES);
    Ok(client.join(question).await.map(tonic::Response::into_inner))
}

async fn open<Channel>(channel: Channel) -> Result<(Requests, AbortOnDropHandle<()>), hyper::Error>
where
    Channel: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (requests, connection) = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .handshake(TokioIo::new(channel))
        .await?;
    let driver = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection to the control plane ended");
        }
    });
    Ok((Requests(requests), AbortOnDropHandle::new(driver)))
}

/// The connection as what a gRPC client sends its requests to.
#[derive(Clone, Debug)]
struct Requests(SendRequest<Body>);

impl GrpcService<Body> for Requests {
    type ResponseBody = Incoming;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
