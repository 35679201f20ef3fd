//! What a worker says of its own accord: who it is, and then how its containers do.

use std::sync::Arc;
use std::time::Duration;

use tonic::{Status, Streaming};
use worker_protocol::{FromWorker, Hello, from_worker};

use super::connection::Connection;
use super::container::Event;
use super::worker::WorkerLink;

/// How long a connected worker may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// The first thing that a worker says.
pub(super) async fn hello(messages: &mut Streaming<FromWorker>) -> Result<Hello, Status> {
    let first = tokio::time::timeout(HELLO_TIMEOUT, messages.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("no hello came"))??;
    let first = first.and_then(|first| first.message);
    let Some(from_worker::Message::Hello(hello)) = first else {
        return Err(Status::failed_precondition("a worker says hello first"));
    };
    if hello.version != worker_protocol::VERSION {
        let message = format!(
            "the worker speaks version {}, the gateway {}: install the same holdfast on both",
            hello.version,
            worker_protocol::VERSION
        );
        return Err(Status::failed_precondition(message));
    }
    Ok(hello)
}

impl Connection {
    /// Hears the worker until the stream ends, and then counts all on it as lost.
    pub(super) async fn listen(self, link: Arc<WorkerLink>, mut messages: Streaming<FromWorker>) {
        while let Ok(Some(message)) = messages.message().await {
            let Some(message) = message.message else {
                break;
            };
            self.hear(message).await;
        }
        tracing::info!(worker = %link.id, "a worker is gone");
        self.gateway.dispatch().lost(&link);
        if !link.is_joined {
            // The next one of its kind has another id.
            self.gateway.denials().forget_worker(link.id);
        }
    }

    async fn hear(&self, message: from_worker::Message) {
        let delivery = match &message {
            from_worker::Message::Hello(_) => None,
            from_worker::Message::Taken(taken) => taken.delivery.as_ref(),
            from_worker::Message::Ready(ready) => ready.delivery.as_ref(),
            from_worker::Message::Ended(ended) => ended.delivery.as_ref(),
            from_worker::Message::Output(output) => output.delivery.as_ref(),
            from_worker::Message::Result(result) => result.delivery.as_ref(),
            from_worker::Message::Touched(touched) => touched.delivery.as_ref(),
            from_worker::Message::Warming(warming) => warming.delivery.as_ref(),
        };
        let Ok(container) = self.container(delivery, "news").await else {
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
            from_worker::Message::Warming(warming) => {
                container.begins(Event::Warming(warming));
            }
            from_worker::Message::Touched(touched) => {
                self.gateway.hear_touched(&container, touched);
            }
        }
    }
}
