//! An image that a worker brings into its cache: a delivery like a container's, by which it asks
//! what it reads with, and in which nothing runs.

use std::sync::Arc;
use std::time::Duration;

use ids::{ContainerId, WorkerId};
use tokio::sync::{mpsc, oneshot, watch};
use worker_protocol::ended::Cause;
use worker_protocol::{Warm, to_worker};

use super::container::{Container, Event, Given, Gone, GoneCause, NewContainer, SecretVersions};
use super::hand_off::reading;
use super::start;
use super::traces::Traced;
use super::worker::WorkerLink;
use crate::gateway::Gateway;
use crate::operations::images::OpenImage;
use crate::problem::{Kind, Problem};

/// How long a worker that warms may say nothing: it says how far it is every second but while it is
/// given the indexes.
const SILENCE: Duration = Duration::from_mins(10);

/// How far it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reached {
    /// Of all layers, and how many of them are in the worker's cache.
    pub spans: u64,
    pub spans_present: u64,
    /// Compressed, since the beginning.
    pub bytes_fetched: u64,
}

/// Somebody who waits for it.
pub(crate) struct Onlooker<'a, Outcome> {
    pub(crate) reached: &'a watch::Sender<Reached>,
    /// Closed when nobody waits any more.
    pub(crate) outcome: &'a mut oneshot::Sender<Outcome>,
}

impl Gateway {
    /// The worker, if it is attached now.
    pub(crate) fn attached(&self, worker: WorkerId) -> Option<Arc<WorkerLink>> {
        let mut joined = self.dispatch().workers.joined().into_iter();
        joined.find(|link| link.id == worker)
    }

    /// Has the worker bring the image, read with a lease that was made for `id` there. Whatever
    /// comes of it, the worker has nothing more to do for it afterwards.
    pub(crate) async fn warm_on<Outcome>(
        &self,
        link: Arc<WorkerLink>,
        id: ContainerId,
        image: &OpenImage,
        onlooker: Onlooker<'_, Outcome>,
    ) -> Result<Reached, Problem> {
        let (container, events) = Container::new(NewContainer {
            id,
            number: 1,
            link,
            given: Given {
                reading: reading(image),
                code: None,
                secrets: SecretVersions::new(),
                // Nothing starts.
                traced: Traced::default(),
            },
        });
        self.dispatch().add(&container);
        let warm = Warm {
            delivery: Some(container.delivery.clone()),
            image: Some(self.wire_image(image)),
        };
        let sent = container.link.send(to_worker::Message::Warm(warm)).await;
        if sent.is_err() {
            container.has_ended(Gone::worker_lost());
        }
        let reached = onlooker.reached;
        let gone = tokio::select! {
            gone = follow(&container, events, reached) => gone,
            () = onlooker.outcome.closed() => None,
        };
        if gone.is_none() {
            start::end(&container, Duration::ZERO).await;
        }
        self.dispatch().remove(id);
        match gone {
            Some(gone) if gone.cause == GoneCause::Said(Cause::Warmed) => Ok(*reached.borrow()),
            Some(gone) => Err(refused(&gone)),
            None => Err(Problem::new(Kind::Unavailable, "the warming was given up")),
        }
    }
}

/// Until its end; nothing where the worker has fallen silent.
async fn follow(
    container: &Container,
    mut events: mpsc::Receiver<Event>,
    reached: &watch::Sender<Reached>,
) -> Option<Gone> {
    loop {
        tokio::select! {
            // What came before the end is heard before it.
            biased;
            event = events.recv() => match event {
                Some(Event::Warming(warming)) => {
                    reached.send_replace(Reached {
                        spans: warming.spans,
                        spans_present: warming.spans_present.min(warming.spans),
                        bytes_fetched: warming.bytes_fetched,
                    });
                }
                Some(Event::Taken | Event::Ready(_)) => {}
                None => return None,
            },
            gone = container.gone() => return Some(gone.clone()),
            () = tokio::time::sleep(SILENCE) => return None,
        }
    }
}

fn refused(gone: &Gone) -> Problem {
    let reason = &gone.reason;
    match gone.cause {
        GoneCause::WorkerLost => Problem::new(Kind::Unavailable, "the worker went away meanwhile")
            .hint("what it has is kept there; ask again when it is back"),
        GoneCause::CalledOff | GoneCause::Said(Cause::Denied) => Problem::new(Kind::Denied, reason),
        GoneCause::Said(Cause::NoRoom) => Problem::new(
            Kind::Unavailable,
            "the worker has no room for all of the image in its cache, or on its disk",
        )
        .hint("`cache_limit` in its configuration, or `holdfast cache prune` there, makes some"),
        GoneCause::Said(_) => {
            let message = format!("the worker cannot have all of the image: {reason}");
            Problem::new(Kind::Unavailable, message)
        }
    }
}
