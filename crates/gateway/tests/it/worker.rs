//! A worker that starts nothing: the first word of what a call is given says how it goes.
//!
//! ```text
//!   return X    X is the result            die      the container's memory is full
//!   print X     and `printed` is the result long     a result that no beta9 client takes
//!   wait        prints before and after the test lets it go on
//!   hang        prints, until cancelled     raise    an exception
//! ```

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use beta9_protocol::MAX_MESSAGE_BYTES;
use bytes::Bytes;
use futures::stream;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::client::GrpcService;
use worker_protocol::call_result::Outcome;
use worker_protocol::ended::Cause;
use worker_protocol::join_service_client::JoinServiceClient;
use worker_protocol::worker_service_client::WorkerServiceClient;
use worker_protocol::{
    Call, CallResult, Delivery, Ended, Exception, FromWorker, Hello, Output, Phase, Ready, Start,
    Taken, ToWorker, Warm, from_worker, output, to_worker,
};

use crate::support::Stage;

pub(crate) const TRACEBACK: &str =
    "Traceback (most recent call last):\n  File \"app.py\", line 3, in f\nValueError: no\n";

/// What is said to the gateway, waiting its turn.
const QUEUE_LENGTH: usize = 64;
const PIPE_BYTES: usize = 1 << 20;
/// Requests have to name a host.
const ORIGIN: &str = "http://gateway";

pub(crate) struct FakeWorker {
    state: Arc<State>,
    /// For questions of its own, over the same connection.
    pub(crate) client: WorkerServiceClient<Requests>,
}

/// One connection, as what a client sends its requests to.
#[derive(Clone)]
pub(crate) struct Requests(SendRequest<Body>);

impl Requests {
    pub(crate) async fn over<S>(stream: S) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let builder = Builder::new(TokioExecutor::new());
        let (requests, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(requests)
    }

    pub(crate) fn worker(self) -> WorkerServiceClient<Self> {
        WorkerServiceClient::with_origin(self, ORIGIN.parse().unwrap())
            .max_encoding_message_size(worker_protocol::MAX_MESSAGE_BYTES)
    }

    pub(crate) fn joining(self) -> JoinServiceClient<Self> {
        JoinServiceClient::with_origin(self, ORIGIN.parse().unwrap())
    }
}

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

struct State {
    up: mpsc::Sender<FromWorker>,
    may_go_on: watch::Sender<bool>,
    /// Whether starts wait with what goes on.
    holds_starts: watch::Sender<bool>,
    /// How many calls were made, and how many of them cancelled.
    calls: watch::Sender<usize>,
    cancelled: watch::Sender<usize>,
    /// What it was told to start.
    starts: watch::Sender<Vec<Start>>,
    /// What it was told to warm.
    warms: watch::Sender<Vec<Warm>>,
    is_cut_off: watch::Sender<bool>,
}

impl FakeWorker {
    pub(crate) async fn attach(stage: &Stage) -> Self {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let (gateway, shutdown) = (stage.gateway.clone(), stage.shutdown.clone());
        tokio::spawn(async move { gateway.serve_worker(theirs, shutdown).await });
        Self::over(ours).await.unwrap()
    }

    /// Attaches over a connection that is there.
    pub(crate) async fn over<S>(stream: S) -> Result<Self, Status>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (up, waiting) = mpsc::channel(QUEUE_LENGTH);
        let state = Arc::new(State {
            up,
            may_go_on: watch::Sender::new(false),
            holds_starts: watch::Sender::new(false),
            calls: watch::Sender::new(0),
            cancelled: watch::Sender::new(0),
            starts: watch::Sender::new(Vec::new()),
            warms: watch::Sender::new(Vec::new()),
            is_cut_off: watch::Sender::new(false),
        });
        let hello = from_worker::Message::Hello(Hello {
            version: worker_protocol::VERSION,
            name: "fake".to_owned(),
            cpu_millicores: 8000,
            memory_bytes: 8 << 30,
        });
        state.say(hello).await;
        let messages = stream::unfold(waiting, async |mut waiting| {
            let message = waiting.recv().await?;
            Some((message, waiting))
        });
        let mut client = Requests::over(stream).await.worker();
        let mut told = client.attach(messages).await?.into_inner();
        let listening = Arc::clone(&state);
        tokio::spawn(async move {
            let mut containers = Containers::default();
            while let Ok(Some(message)) = told.message().await {
                containers.obey(&listening, message).await;
            }
            listening.is_cut_off.send_replace(true);
        });
        Ok(Self { state, client })
    }

    /// The first container that it was told to start.
    pub(crate) async fn started(&self) -> Start {
        let mut starts = self.state.starts.subscribe();
        let starts = starts.wait_for(|starts| !starts.is_empty()).await.unwrap();
        starts[0].clone()
    }

    /// The first image that it was told to warm.
    pub(crate) async fn told_to_warm(&self) -> Warm {
        let mut warms = self.state.warms.subscribe();
        let warms = warms.wait_for(|warms| !warms.is_empty()).await.unwrap();
        warms[0].clone()
    }

    /// All of them.
    pub(crate) fn all_starts(&self) -> Vec<Start> {
        self.state.starts.borrow().clone()
    }

    pub(crate) async fn say(&self, message: from_worker::Message) {
        self.state.say(message).await;
    }

    pub(crate) fn starts(&self) -> usize {
        self.state.starts.borrow().len()
    }

    /// Waits until the gateway has nothing more to say to it.
    pub(crate) async fn cut_off(&self) {
        let mut is_cut_off = self.state.is_cut_off.subscribe();
        is_cut_off.wait_for(|is| *is).await.unwrap();
    }

    /// Has containers that were taken take no calls until what waits goes on.
    pub(crate) fn hold_starts(&self) {
        self.state.holds_starts.send_replace(true);
    }

    /// Lets go on what waits.
    pub(crate) fn go_on(&self) {
        self.state.may_go_on.send_replace(true);
    }

    pub(crate) fn calls(&self) -> usize {
        *self.state.calls.borrow()
    }

    /// Waits until so many calls were cancelled.
    pub(crate) async fn cancelled(&self, count: usize) {
        let mut cancelled = self.state.cancelled.subscribe();
        cancelled.wait_for(|now| *now >= count).await.unwrap();
    }
}

#[derive(Default)]
struct Containers {
    deliveries: HashMap<String, Delivery>,
    attempts: HashMap<String, CancellationToken>,
}

impl Containers {
    async fn obey(&mut self, state: &Arc<State>, message: ToWorker) {
        match message.message.unwrap() {
            to_worker::Message::Start(start) => self.start(state, start).await,
            to_worker::Message::Warm(warm) => {
                state.warms.send_modify(|warms| warms.push(warm));
            }
            to_worker::Message::Call(call) => {
                let delivery = self.deliveries[&call.container].clone();
                let cancelling = CancellationToken::new();
                self.attempts
                    .insert(call.attempt.clone(), cancelling.clone());
                let state = Arc::clone(state);
                tokio::spawn(async move { state.run(delivery, call, cancelling).await });
            }
            to_worker::Message::Cancel(cancel) => {
                self.attempts[&cancel.attempt].cancel();
                state.cancelled.send_modify(|count| *count += 1);
            }
            to_worker::Message::Stop(stop) => {
                let delivery = stop.delivery.unwrap();
                state.end(delivery, Cause::Stopped, "it was told to").await;
            }
        }
    }

    async fn start(&mut self, state: &State, start: Start) {
        state
            .starts
            .send_modify(|starts| starts.push(start.clone()));
        let delivery = start.delivery.unwrap();
        self.deliveries
            .insert(delivery.container.clone(), delivery.clone());
        let taken = Taken {
            delivery: Some(delivery.clone()),
        };
        state.say(from_worker::Message::Taken(taken)).await;
        if *state.holds_starts.borrow() {
            let mut may_go_on = state.may_go_on.subscribe();
            may_go_on.wait_for(|may| *may).await.unwrap();
        }
        let ready = Ready {
            delivery: Some(delivery),
            interpreter: start.interpreters[0].clone(),
            python_version: "3.11.2".to_owned(),
            phases: vec![phase("mount"), phase("a tenant's")],
        };
        state.say(from_worker::Message::Ready(ready)).await;
    }
}

fn phase(name: &str) -> Phase {
    Phase {
        name: name.to_owned(),
        start_us: 0,
        took_us: 1000,
    }
}

impl State {
    async fn say(&self, message: from_worker::Message) {
        let message = Some(message);
        self.up.send(FromWorker { message }).await.unwrap();
    }

    async fn end(&self, delivery: Delivery, cause: Cause, reason: &str) {
        let ended = Ended {
            delivery: Some(delivery),
            cause: cause.into(),
            reason: reason.to_owned(),
            ..Default::default()
        };
        self.say(from_worker::Message::Ended(ended)).await;
    }

    async fn run(&self, delivery: Delivery, call: Call, cancelling: CancellationToken) {
        self.calls.send_modify(|count| *count += 1);
        let given = String::from_utf8(call.payload.to_vec()).unwrap();
        let (word, rest) = given.split_once(' ').unwrap_or((&given, ""));
        let print = async |text: &str| {
            let output = Output {
                delivery: Some(delivery.clone()),
                attempt: call.attempt.clone(),
                stream: output::Stream::Stdout.into(),
                data: Bytes::copy_from_slice(text.as_bytes()),
            };
            self.say(from_worker::Message::Output(output)).await;
        };
        let mut result = CallResult {
            delivery: Some(delivery.clone()),
            attempt: call.attempt.clone(),
            nonce: call.nonce.clone(),
            outcome: Outcome::Returned.into(),
            ..Default::default()
        };
        match word {
            "return" => result.payload = Bytes::from(rest.to_owned()),
            "print" => {
                print(rest).await;
                result.payload = "printed".into();
            }
            "wait" => {
                print("h\u{e9}llo ").await;
                let mut may_go_on = self.may_go_on.subscribe();
                may_go_on.wait_for(|may| *may).await.unwrap();
                print("w\u{f6}rld\n").await;
                result.payload = "late".into();
            }
            "long" => result.payload = vec![7; MAX_MESSAGE_BYTES].into(),
            "raise" => {
                result.outcome = Outcome::Raised.into();
                result.exception = Some(Exception {
                    r#type: "ValueError".to_owned(),
                    module: "builtins".to_owned(),
                    message: "no".to_owned(),
                    traceback: TRACEBACK.to_owned(),
                });
            }
            "hang" => {
                print("hanging\n").await;
                cancelling.cancelled().await;
                result.outcome = Outcome::Cancelled.into();
            }
            "die" => {
                let reason = "it took more memory than it may";
                return self.end(delivery, Cause::OutOfMemory, reason).await;
            }
            other => panic!("no such word: {other}"),
        }
        self.say(from_worker::Message::Result(result)).await;
    }
}
