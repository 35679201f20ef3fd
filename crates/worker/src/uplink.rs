//! What containers say to the control plane: one queue of few messages, in which each waits for
//! its turn, and beside it a lane for what the worker itself says at once.
//!
//! A container that has much to say waits here, and so stops reading what its program writes.

use std::task::Poll;

use bytes::Bytes;
use futures::Stream;
use futures::stream::poll_fn;
use tokio::sync::mpsc;
use worker_protocol::from_worker::Message;
use worker_protocol::output::Stream as OutputStream;
use worker_protocol::{Delivery, FromWorker, MAX_PIECE_BYTES, Output};

/// Messages of all containers that wait to be sent. A queue of results at their longest is a
/// gigabyte, one of output two megabytes.
const MAX_WAITING: usize = 32;

/// Answers that wait to be sent: more are asked for by a control plane that does not read.
const MAX_URGENT: usize = 4096;

/// The control plane asks and asks and does not read what it is answered, or is gone.
#[derive(Debug)]
pub(crate) struct NotRead;

/// Both lanes.
#[derive(Clone, Debug)]
pub(crate) struct Lanes {
    urgent: mpsc::Sender<FromWorker>,
    waiting: mpsc::Sender<FromWorker>,
}

impl Lanes {
    /// The lanes, and the stream that they become.
    pub(crate) fn open() -> (Self, impl Stream<Item = FromWorker> + Send + 'static) {
        let (urgent, mut urgent_out) = mpsc::channel(MAX_URGENT);
        let (waiting, mut waiting_out) = mpsc::channel(MAX_WAITING);
        let merged = poll_fn(move |context| match urgent_out.poll_recv(context) {
            Poll::Ready(Some(message)) => Poll::Ready(Some(message)),
            Poll::Ready(None) | Poll::Pending => waiting_out.poll_recv(context),
        });
        (Self { urgent, waiting }, merged)
    }

    /// Says something before all that waits.
    pub(crate) fn say_at_once(&self, message: Message) -> Result<(), NotRead> {
        let message = Some(message);
        self.urgent
            .try_send(FromWorker { message })
            .map_err(|_| NotRead)
    }

    /// A container's own way up.
    pub(crate) fn of(&self, delivery: Delivery) -> Uplink {
        Uplink {
            waiting: self.waiting.clone(),
            delivery,
        }
    }
}

/// A container's way to the control plane.
#[derive(Debug)]
pub(crate) struct Uplink {
    waiting: mpsc::Sender<FromWorker>,
    delivery: Delivery,
}

impl Uplink {
    pub(crate) fn delivery(&self) -> Delivery {
        self.delivery.clone()
    }

    /// Waits for its turn. Without a control plane nothing is said, and the container is about to
    /// be ended.
    pub(crate) async fn say(&self, message: Message) {
        let message = Some(message);
        let sent = self.waiting.send(FromWorker { message }).await;
        if sent.is_err() {
            tracing::debug!("the control plane is gone");
        }
    }

    /// Passes on what a container wrote, in pieces.
    pub(crate) async fn output(&self, attempt: &str, stream: OutputStream, mut data: Bytes) {
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(MAX_PIECE_BYTES));
            let output = Output {
                delivery: Some(self.delivery()),
                attempt: attempt.to_owned(),
                stream: stream.into(),
                data: piece,
            };
            self.say(Message::Output(output)).await;
        }
    }

    /// Passes on what Holdfast has to say of a container, as a line.
    pub(crate) async fn notice(&self, text: &str) {
        let line = format!("{text}\n");
        self.output("", OutputStream::Notice, line.into()).await;
    }
}
