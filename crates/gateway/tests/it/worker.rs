//! A worker that starts nothing: the first word of what a call is given says how it goes.
//!
//! ```text
//!   return X    X is the result            die      the container's memory is full
//!   print X     and `printed` is the result long     a result that no beta9 client takes
//!   wait        prints before and after the test lets it go on
//!   hang        prints, until cancelled     raise    an exception
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use beta9_protocol::MAX_MESSAGE_BYTES;
use bytes::Bytes;
use futures::stream;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use worker_protocol::call_result::Outcome;
use worker_protocol::ended::Cause;
use worker_protocol::worker_service_client::WorkerServiceClient;
use worker_protocol::{
    Call, CallResult, Delivery, Ended, Exception, FromWorker, Hello, Output, Ready, Start, Taken,
    ToWorker, from_worker, output, to_worker,
};

use crate::beta9::transport;
use crate::support::Stage;

pub(crate) const TRACEBACK: &str =
    "Traceback (most recent call last):\n  File \"app.py\", line 3, in f\nValueError: no\n";

/// What is said to the gateway, waiting its turn.
const QUEUE_LENGTH: usize = 64;

pub(crate) struct FakeWorker {
    state: Arc<State>,
}

struct State {
    up: mpsc::Sender<FromWorker>,
    may_go_on: watch::Sender<bool>,
    /// How many calls were made, and how many of them cancelled.
    calls: watch::Sender<usize>,
    cancelled: watch::Sender<usize>,
}

impl FakeWorker {
    pub(crate) async fn attach(stage: &Stage) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let (gateway, shutdown) = (stage.gateway.clone(), stage.shutdown.clone());
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            gateway.serve_worker(stream, shutdown).await;
        });
        let (up, waiting) = mpsc::channel(QUEUE_LENGTH);
        let state = Arc::new(State {
            up,
            may_go_on: watch::Sender::new(false),
            calls: watch::Sender::new(0),
            cancelled: watch::Sender::new(0),
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
        let client = WorkerServiceClient::with_origin(transport(), origin.parse().unwrap());
        let mut client = client.max_encoding_message_size(worker_protocol::MAX_MESSAGE_BYTES);
        let mut told = client.attach(messages).await.unwrap().into_inner();
        let listening = Arc::clone(&state);
        tokio::spawn(async move {
            let mut containers = Containers::default();
            while let Ok(Some(message)) = told.message().await {
                containers.obey(&listening, message).await;
            }
        });
        Self { state }
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
        let delivery = start.delivery.unwrap();
        self.deliveries
            .insert(delivery.container.clone(), delivery.clone());
        let taken = Taken {
            delivery: Some(delivery.clone()),
        };
        state.say(from_worker::Message::Taken(taken)).await;
        let ready = Ready {
            delivery: Some(delivery),
            interpreter: start.interpreters[0].clone(),
            python_version: "3.11.2".to_owned(),
            phases: Vec::new(),
        };
        state.say(from_worker::Message::Ready(ready)).await;
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
