//! The worker's side of its one connection: gRPC as a client over a stream that is given.
//!
//! Nothing is dialled, and nothing is dialled again: when the stream breaks, so does everything
//! that was asked over it.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::{Status, Streaming};
use worker_protocol::worker_service_client::WorkerServiceClient;
use worker_protocol::{
    AuthAnswer, AuthQuestion, CodePiece, CodeQuestion, Delivery, FromWorker, MAX_MESSAGE_BYTES,
    ToWorker,
};

/// What may be under way to us in one stream. The protocol's own 64 KiB make 1 MB/s of a round
/// trip of 64 ms.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Requests have to name a host, and there is only one at the other end.
const ORIGIN: &str = "http://control-plane";

/// The other end. Clones share the connection.
#[derive(Clone, Debug)]
pub(crate) struct ControlPlane {
    client: WorkerServiceClient<Requests>,
}

impl ControlPlane {
    /// Speaks HTTP/2 over a stream, for as long as the handle is kept.
    pub(crate) async fn connect<Channel>(
        channel: Channel,
    ) -> Result<(Self, AbortOnDropHandle<()>), hyper::Error>
    where
        Channel: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (requests, connection) = Builder::new(TokioExecutor::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .handshake(TokioIo::new(channel))
            .await?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the control plane ended");
            }
        });
        let client = WorkerServiceClient::with_origin(Requests(requests), Uri::from_static(ORIGIN))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Ok((Self { client }, AbortOnDropHandle::new(driver)))
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

    pub(crate) async fn code(&self, delivery: Delivery) -> Result<Streaming<CodePiece>, Status> {
        let delivery = Some(delivery);
        let pieces = self.client.clone().code(CodeQuestion { delivery }).await?;
        Ok(pieces.into_inner())
    }
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
