//! A control plane that a test plays: it hears what the worker says, and says what it likes.
//!
//! Every wait has a deadline.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::poll_fn;
use futures::{Stream, StreamExt};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tempfile::TempDir;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status, Streaming};
use worker_protocol::from_worker::Message as Up;
use worker_protocol::output::Stream as OutputStream;
use worker_protocol::to_worker::Message as Down;
use worker_protocol::worker_service_server::{WorkerService, WorkerServiceServer};
use worker_protocol::{
    AuthAnswer, AuthQuestion, Call, CallResult, CodePiece, CodeQuestion, Ended, Format, FromWorker,
    IndexPiece, IndexQuestion, LocationAnswer, LocationQuestion, MAX_MESSAGE_BYTES, Nowhere,
    Output, ReadPiece, ReadQuestion, Ready, SharedAnswer, SharedQuestion, Start, ToWorker,
    location_answer, shared_answer,
};

use super::starts::CONTAINER;
use crate::config::Capacity;
use crate::files::Files;
use crate::launching::Machine;
use crate::worker::{Identity, WorkerError, attend};

/// For one message, on a machine that does much else.
const WAIT: Duration = Duration::from_mins(1);

const PIPE_BYTES: usize = 1 << 20;

pub(crate) const NONCE: [u8; 16] = *b"0123456789abcdef";

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What the service shares with the test.
struct Service {
    said: mpsc::UnboundedSender<FromWorker>,
    commands: Mutex<Option<mpsc::Receiver<ToWorker>>>,
    code: Bytes,
    auth: AuthAnswer,
    index: Option<Bytes>,
    index_questions: Arc<AtomicUsize>,
    questions: mpsc::UnboundedSender<AuthQuestion>,
}

#[tonic::async_trait]
impl WorkerService for Service {
    type AttachStream = Answers<ToWorker>;
    type CodeStream = Answers<CodePiece>;
    type IndexStream = Answers<IndexPiece>;
    type ReadStream = Answers<ReadPiece>;

    async fn attach(
        &self,
        request: Request<Streaming<FromWorker>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (said, mut messages) = (self.said.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(message)) = messages.message().await {
                let _ = said.send(message);
            }
        });
        let mut commands = self.commands.lock().unwrap().take().expect("one worker");
        let commands = poll_fn(move |context| commands.poll_recv(context));
        Ok(Response::new(Box::pin(commands.map(Ok))))
    }

    async fn auth(&self, request: Request<AuthQuestion>) -> Result<Response<AuthAnswer>, Status> {
        let _ = self.questions.send(request.into_inner());
        Ok(Response::new(self.auth.clone()))
    }

    async fn location(
        &self,
        _: Request<LocationQuestion>,
    ) -> Result<Response<LocationAnswer>, Status> {
        let nowhere = location_answer::Answer::Nowhere(Nowhere {});
        Ok(Response::new(LocationAnswer {
            answer: Some(nowhere),
        }))
    }

    async fn shared(&self, _: Request<SharedQuestion>) -> Result<Response<SharedAnswer>, Status> {
        let nowhere = shared_answer::Answer::Nowhere(Nowhere {});
        Ok(Response::new(SharedAnswer {
            answer: Some(nowhere),
        }))
    }

    async fn read(&self, _: Request<ReadQuestion>) -> Result<Response<Self::ReadStream>, Status> {
        Err(Status::unimplemented("nothing is read here"))
    }

    async fn code(&self, _: Request<CodeQuestion>) -> Result<Response<Self::CodeStream>, Status> {
        let pieces: Vec<_> = self.code.chunks(100).map(Bytes::copy_from_slice).collect();
        let pieces = pieces.into_iter().map(|data| Ok(CodePiece { data }));
        Ok(Response::new(Box::pin(futures::stream::iter(pieces))))
    }

    async fn index(
        &self,
        _: Request<IndexQuestion>,
    ) -> Result<Response<Self::IndexStream>, Status> {
        self.index_questions.fetch_add(1, Ordering::Relaxed);
        let index = self.index.as_ref().ok_or_else(|| Status::not_found("no"))?;
        let pieces: Vec<_> = index.chunks(100).map(Bytes::copy_from_slice).collect();
        let pieces = pieces.into_iter().map(|data| Ok(IndexPiece { data }));
        Ok(Response::new(Box::pin(futures::stream::iter(pieces))))
    }
}

/// What a test's control plane answers when it is asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stock {
    pub(crate) code: Bytes,
    pub(crate) auth: AuthAnswer,
    pub(crate) index: Option<Bytes>,
    /// How often one was asked for.
    pub(crate) index_questions: Arc<AtomicUsize>,
}

/// A worker and its control plane.
pub(crate) struct Plane {
    pub(crate) said: mpsc::UnboundedReceiver<FromWorker>,
    pub(crate) questions: mpsc::UnboundedReceiver<AuthQuestion>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) worker: JoinHandle<Result<(), WorkerError>>,
    /// Without it the worker is hung up on.
    pub(crate) commands: Option<mpsc::Sender<ToWorker>>,
    /// Without it the connection breaks.
    pub(crate) connection: Option<AbortOnDropHandle<()>>,
    /// Outputs that came while something else was waited for.
    pub(crate) outputs: Vec<Output>,
    pub(crate) files: TempDir,
}

impl Plane {
    /// Starts a worker on a machine, and hears its hello.
    pub(crate) async fn start(machine: Arc<dyn Machine>, stock: Stock) -> Self {
        let (theirs, ours) = tokio::io::duplex(PIPE_BYTES);
        let (said_in, said) = mpsc::unbounded_channel();
        let (questions_in, questions) = mpsc::unbounded_channel();
        let (commands, commands_out) = mpsc::channel(1);
        let service = Service {
            said: said_in,
            commands: Mutex::new(Some(commands_out)),
            code: stock.code,
            auth: stock.auth,
            index: stock.index,
            index_questions: stock.index_questions,
            questions: questions_in,
        };
        let files = tempfile::tempdir().unwrap();
        let identity = Identity {
            name: "worker-1".to_owned(),
            capacity: Capacity {
                cpu_millicores: 2000,
                memory_bytes: 1 << 30,
            },
        };
        let opened = Files::open(files.path().join("worker")).unwrap();
        let shutdown = CancellationToken::new();
        let worker = tokio::spawn(attend(identity, machine, opened, ours, shutdown.clone()));
        let mut plane = Self {
            said,
            questions,
            shutdown,
            worker,
            commands: Some(commands),
            connection: Some(AbortOnDropHandle::new(tokio::spawn(serve(theirs, service)))),
            outputs: Vec::new(),
            files,
        };
        let Up::Hello(hello) = plane.hear().await else {
            panic!("hello is first");
        };
        assert_eq!(
            (hello.version, hello.name.as_str()),
            (worker_protocol::VERSION, "worker-1")
        );
        plane
    }

    /// Starts a container, and hears that it is taken.
    pub(crate) async fn start_container(&mut self, start: Start) {
        self.command(Down::Start(start)).await;
        assert!(matches!(self.hear().await, Up::Taken(_)));
    }

    /// Starts a container, and hears that it is ready.
    pub(crate) async fn ready(&mut self, start: Start) -> Ready {
        self.start_container(start).await;
        match self.next().await {
            Up::Ready(ready) => ready,
            other => panic!("ready, not {other:?}"),
        }
    }

    pub(crate) async fn command(&self, message: Down) {
        let message = Some(message);
        let commands = self.commands.as_ref().expect("not hung up");
        within(commands.send(ToWorker { message }))
            .await
            .expect("a worker");
    }

    /// Calls with an array of arguments, in JSON.
    pub(crate) async fn call(&self, attempt: &str, arguments: &str) {
        self.command(Down::Call(call(attempt, arguments))).await;
    }

    pub(crate) async fn hear(&mut self) -> Up {
        let said = within(self.said.recv())
            .await
            .expect("a worker that speaks");
        said.message.expect("a message")
    }

    /// The next message that is no output.
    pub(crate) async fn next(&mut self) -> Up {
        loop {
            match self.hear().await {
                Up::Output(output) => self.outputs.push(output),
                other => return other,
            }
        }
    }

    pub(crate) async fn result(&mut self) -> CallResult {
        match self.next().await {
            Up::Result(result) => result,
            other => panic!("a result, not {other:?}"),
        }
    }

    pub(crate) async fn ended(&mut self) -> Ended {
        match self.next().await {
            Up::Ended(ended) => ended,
            other => panic!("an end, not {other:?}"),
        }
    }

    /// What came until now of an attempt's output.
    pub(crate) fn written(&self, attempt: &str, stream: OutputStream) -> String {
        let of = |output: &&Output| output.attempt == attempt && output.stream() == stream;
        let pieces = self.outputs.iter().filter(of);
        let bytes: Vec<u8> = pieces.flat_map(|output| output.data.to_vec()).collect();
        String::from_utf8(bytes).expect("text")
    }

    /// Hangs up, and waits for the worker's end.
    pub(crate) async fn hang_up(mut self) {
        self.commands = None;
        within(self.worker).await.unwrap().unwrap();
    }
}

pub(crate) fn call(attempt: &str, arguments: &str) -> Call {
    let payload = format!(r#"{{"args": {arguments}, "kwargs": {{}}}}"#);
    Call {
        container: CONTAINER.to_owned(),
        attempt: attempt.to_owned(),
        nonce: Bytes::from_static(&NONCE),
        task: "task".to_owned(),
        format: Format::Json.into(),
        python_version: String::new(),
        payload: payload.into(),
    }
}

async fn serve(stream: DuplexStream, service: Service) {
    let service = WorkerServiceServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let service = TowerToHyperService::new(service);
    let builder = Builder::new(TokioExecutor::new()).http2_only();
    let served = builder
        .serve_connection(TokioIo::new(stream), service)
        .await;
    // A worker that ends hangs up in the middle of something.
    drop(served);
}

pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT, work).await.expect("in time")
}
