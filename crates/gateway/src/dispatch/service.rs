//! The control plane's side of the worker protocol, one for each connection.
//!
//! What a worker says counts for the containers that were placed on it, by the number of their
//! delivery, and it is answered about no others.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use credential::ExposeSecret;
use credential::auth::{AuthError, AuthRequest, AuthScheme, RegistryAuth, Rejection};
use futures::{Stream, StreamExt};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, async_trait};
use worker_protocol::worker_service_server::{WorkerService, WorkerServiceServer};
use worker_protocol::{
    AuthAnswer, AuthQuestion, Basic, CodePiece, CodeQuestion, Delivery, Denial, FromWorker, Hello,
    ToWorker, auth_answer, denial, from_worker, registry_auth,
};

use super::container::{Container, Event};
use super::worker::{QUEUE_LENGTH, WorkerLink};
use crate::gateway::Gateway;
use crate::service::connection_builder;

/// How long a connected worker may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a worker that is told to end may take to clear its containers away.
const CLEAR_AWAY: Duration = Duration::from_secs(30);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// One connection of a worker.
#[derive(Debug, Clone)]
struct Connection {
    gateway: Gateway,
    link: Arc<OnceLock<Arc<WorkerLink>>>,
    /// Ends the stream, by which the worker knows that it is to end what it runs.
    shutdown: CancellationToken,
}

impl Gateway {
    /// Serves one worker over a connection that is its own, until it hangs up. On shutdown it is
    /// told to, and has a while to clear away.
    pub async fn serve_worker<S>(&self, stream: S, shutdown: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = WorkerServiceServer::new(Connection::new(self.clone(), shutdown.clone()))
            .max_decoding_message_size(worker_protocol::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(worker_protocol::MAX_MESSAGE_BYTES);
        let builder = connection_builder();
        let service = TowerToHyperService::new(service);
        let serving = builder.serve_connection(TokioIo::new(stream), service);
        tokio::select! {
            ended = serving => {
                if let Err(error) = ended {
                    tracing::debug!(error, "the connection of a worker ended");
                }
            }
            () = async {
                shutdown.cancelled().await;
                tokio::time::sleep(CLEAR_AWAY).await;
            } => {}
        }
    }
}

impl Connection {
    fn new(gateway: Gateway, shutdown: CancellationToken) -> Self {
        Self {
            gateway,
            link: Arc::default(),
            shutdown,
        }
    }

    /// The container of this worker that a message is about, by its last delivery.
    fn container(&self, delivery: Option<&Delivery>) -> Result<Arc<Container>, Status> {
        let link = self
            .link
            .get()
            .ok_or_else(|| Status::failed_precondition("not attached"))?;
        let delivery = delivery.ok_or_else(|| Status::invalid_argument("no delivery"))?;
        let found = self.gateway.dispatch().delivered(link.id, delivery);
        found.ok_or_else(|| Status::not_found("no such container on this worker"))
    }
}

#[async_trait]
impl WorkerService for Connection {
    type AttachStream = Answers<ToWorker>;

    async fn attach(
        &self,
        request: Request<Streaming<FromWorker>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let mut messages = request.into_inner();
        let hello = tokio::time::timeout(HELLO_TIMEOUT, hello(&mut messages)).await;
        let hello = hello.map_err(|_| Status::deadline_exceeded("no hello came"))??;
        let (sender, mut receiver) = mpsc::channel(QUEUE_LENGTH);
        let link = self.gateway.dispatch().workers.attach(&hello, sender);
        if self.link.set(Arc::clone(&link)).is_err() {
            self.gateway.dispatch().workers.detach(&link);
            return Err(Status::already_exists(
                "this connection has attached before",
            ));
        }
        tracing::info!(worker = %link.id, name = ?hello.name, "a worker is attached");
        tokio::spawn(self.clone().listen(Arc::clone(&link), messages));
        let answers = futures::stream::poll_fn(move |context| receiver.poll_recv(context));
        let answers = answers.take_until(self.clone().until_the_end(Arc::clone(&link)));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn auth(&self, request: Request<AuthQuestion>) -> Result<Response<AuthAnswer>, Status> {
        let question = request.into_inner();
        let container = self.container(question.delivery.as_ref())?;
        let reading = &container.given.reading;
        let is_own = question.registry == reading.registry.as_str()
            && question.repository == reading.repository;
        if !is_own {
            return Err(Status::permission_denied(
                "the container reads another origin",
            ));
        }
        let request = AuthRequest {
            registry: &reading.registry,
            repository: &reading.repository,
            rejected: question.rejected.map(rejection),
        };
        let answer = match reading.auth.auth(request).await {
            Ok(auth) => auth_answer::Answer::Auth(wire_auth(auth)),
            Err(error) => auth_answer::Answer::Denial(wire_denial(&error)),
        };
        Ok(Response::new(AuthAnswer {
            answer: Some(answer),
        }))
    }

    type CodeStream = Answers<CodePiece>;

    async fn code(
        &self,
        request: Request<CodeQuestion>,
    ) -> Result<Response<Self::CodeStream>, Status> {
        let container = self.container(request.get_ref().delivery.as_ref())?;
        let code = container.given.code.as_ref();
        let code = code.ok_or_else(|| Status::not_found("the container's image has the code"))?;
        let code = code.try_clone().map_err(|_| unreadable())?;
        Ok(Response::new(Box::pin(pieces(code))))
    }
}

impl Connection {
    /// Until the worker is no longer to be told anything, by which it knows that it is to end.
    async fn until_the_end(self, link: Arc<WorkerLink>) {
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            () = link.gone.cancelled() => {}
        }
    }

    /// Hears the worker until the stream ends, and then counts all on it as lost.
    async fn listen(self, link: Arc<WorkerLink>, mut messages: Streaming<FromWorker>) {
        while let Ok(Some(message)) = messages.message().await {
            let Some(message) = message.message else {
                break;
            };
            self.hear(message);
        }
        tracing::info!(worker = %link.id, "a worker is gone");
        self.gateway.dispatch().lost(&link);
    }

    fn hear(&self, message: from_worker::Message) {
        let delivery = match &message {
            from_worker::Message::Hello(_) => None,
            from_worker::Message::Taken(taken) => taken.delivery.as_ref(),
            from_worker::Message::Ready(ready) => ready.delivery.as_ref(),
            from_worker::Message::Ended(ended) => ended.delivery.as_ref(),
            from_worker::Message::Output(output) => output.delivery.as_ref(),
            from_worker::Message::Result(result) => result.delivery.as_ref(),
        };
        let Ok(container) = self.container(delivery) else {
            tracing::debug!(?delivery, "a worker speaks of what it has not got");
            return;
        };
        match message {
            from_worker::Message::Hello(_) => {}
            from_worker::Message::Taken(_) => container.begins(Event::Taken),
            from_worker::Message::Ready(ready) => container.begins(Event::Ready(ready)),
            from_worker::Message::Ended(ended) => container.has_ended(ended.into()),
            from_worker::Message::Output(output) => container.printed(&output),
            from_worker::Message::Result(result) => container.answered(result),
        }
    }
}

async fn hello(messages: &mut Streaming<FromWorker>) -> Result<Hello, Status> {
    let first = messages.message().await?.and_then(|first| first.message);
    let Some(from_worker::Message::Hello(hello)) = first else {
        return Err(Status::failed_precondition("a worker says hello first"));
    };
    if hello.version != worker_protocol::VERSION {
        let message = format!(
            "the worker speaks version {}, the gateway {}",
            hello.version,
            worker_protocol::VERSION
        );
        return Err(Status::failed_precondition(message));
    }
    Ok(hello)
}

fn rejection(rejection: worker_protocol::Rejection) -> Rejection {
    Rejection {
        serial: rejection.serial,
        status: u16::try_from(rejection.status).unwrap_or(0),
        challenges: rejection.challenges,
        is_hearsay: true,
    }
}

fn wire_auth(auth: RegistryAuth) -> worker_protocol::RegistryAuth {
    let scheme = match auth.scheme {
        AuthScheme::Anonymous => registry_auth::Scheme::Anonymous(worker_protocol::Anonymous {}),
        AuthScheme::Basic { username, password } => registry_auth::Scheme::Basic(Basic {
            username,
            password: password.expose_secret().to_owned(),
        }),
        AuthScheme::Bearer(token) => {
            registry_auth::Scheme::Bearer(token.expose_secret().to_owned())
        }
    };
    worker_protocol::RegistryAuth {
        serial: auth.serial,
        not_after_ms: auth.not_after.map(Timestamp::as_millisecond),
        scheme: Some(scheme),
    }
}

fn wire_denial(error: &AuthError) -> Denial {
    let (kind, retry_after) = match error {
        AuthError::BadCredential { .. } => (denial::Kind::BadCredential, None),
        AuthError::NoPermission { .. } => (denial::Kind::NoPermission, None),
        AuthError::RateLimited { retry_after, .. } => (denial::Kind::RateLimited, *retry_after),
        AuthError::Unreachable { .. } => (denial::Kind::Unreachable, None),
        AuthError::Tls { .. } => (denial::Kind::Tls, None),
        AuthError::Revoked { .. } => (denial::Kind::Revoked, None),
        AuthError::Refused { .. } => (denial::Kind::Refused, None),
        _ => (denial::Kind::Internal, None),
    };
    let message = match kind {
        // It ends up where functions print.
        denial::Kind::Internal => "the gateway failed".to_owned(),
        _ => error.to_string(),
    };
    Denial {
        kind: kind.into(),
        message,
        retry_after_ms: retry_after.and_then(|time| u64::try_from(time.as_millis()).ok()),
    }
}

/// The file from its beginning, wherever others read it.
fn pieces(file: File) -> impl Stream<Item = Result<CodePiece, Status>> + Send {
    futures::stream::unfold(Some((file, 0)), async |state| {
        let (file, offset) = state?;
        let reading = tokio::task::spawn_blocking(move || piece(file, offset)).await;
        match reading {
            Ok(Ok((_, data))) if data.is_empty() => None,
            Ok(Ok((file, data))) => {
                let next = offset + data.len() as u64;
                Some((Ok(CodePiece { data }), Some((file, next))))
            }
            _ => Some((Err(unreadable()), None)),
        }
    })
}

fn piece(file: File, offset: u64) -> std::io::Result<(File, Bytes)> {
    let mut buffer = vec![0; worker_protocol::MAX_PIECE_BYTES];
    let length = file.read_at(&mut buffer, offset)?;
    buffer.truncate(length);
    Ok((file, buffer.into()))
}

fn unreadable() -> Status {
    Status::internal("the code cannot be read")
}
