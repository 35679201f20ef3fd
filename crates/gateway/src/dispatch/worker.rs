//! The workers that are attached now, and what is reserved of each.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};

use ids::WorkerId;
use reference::Digest;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use worker_protocol::{Hello, ToWorker, to_worker};

use super::placement::{self, Candidate, Needs};
use crate::lock::lock;

/// Messages on their way to one worker; whoever has more waits.
pub(super) const QUEUE_LENGTH: usize = 256;
/// Images that a worker is known to have run. More make the choice of a worker no better.
const IMAGES_LIMIT: usize = 4096;

/// What a worker is sent through.
pub(super) type ToWorkerSender = mpsc::Sender<Result<ToWorker, Status>>;

/// All attached workers.
#[derive(Debug, Default)]
pub(super) struct Workers {
    links: Mutex<Vec<Arc<WorkerLink>>>,
    /// A worker came, or something of one became free.
    changed: Notify,
}

/// One attached worker.
#[derive(Debug)]
pub(crate) struct WorkerLink {
    pub(super) id: WorkerId,
    total: Needs,
    sender: ToWorkerSender,
    books: Mutex<Books>,
    /// Cancelled when it is no longer attached.
    pub(super) gone: CancellationToken,
}

#[derive(Debug, Default)]
struct Books {
    used: Needs,
    images: HashSet<Digest>,
}

/// The worker is no longer attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WorkerGone;

/// No worker that is attached could ever run it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLarge;

/// A part of a worker, until it is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    pub(super) link: Arc<WorkerLink>,
    needs: Needs,
    workers: Arc<Workers>,
}

impl Workers {
    pub(super) fn attach(&self, hello: &Hello, sender: ToWorkerSender) -> Arc<WorkerLink> {
        let link = Arc::new(WorkerLink {
            id: WorkerId::new(),
            total: Needs {
                cpu_millicores: hello.cpu_millicores,
                memory_bytes: hello.memory_bytes,
            },
            sender,
            books: Mutex::default(),
            gone: CancellationToken::new(),
        });
        self.links().push(Arc::clone(&link));
        self.changed.notify_waiters();
        link
    }

    pub(super) fn detach(&self, link: &WorkerLink) {
        self.links().retain(|other| other.id != link.id);
        link.gone.cancel();
    }

    /// A part of the best worker, as soon as one has room.
    pub(super) async fn reserve(
        self: &Arc<Self>,
        needs: Needs,
        image: &Digest,
    ) -> Result<Reservation, TooLarge> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // What changes between the look and the wait is not missed.
            changed.as_mut().enable();
            if let Some(link) = self.take(needs, image)? {
                return Ok(Reservation {
                    link,
                    needs,
                    workers: Arc::clone(self),
                });
            }
            changed.await;
        }
    }

    fn take(&self, needs: Needs, image: &Digest) -> Result<Option<Arc<WorkerLink>>, TooLarge> {
        let links = self.links();
        let candidates: Vec<_> = links.iter().map(|link| link.candidate(image)).collect();
        if let Some(at) = placement::choose(&candidates, needs) {
            links[at].take(needs, image);
            return Ok(Some(Arc::clone(&links[at])));
        }
        // While none is attached, one may come that is large enough.
        if !candidates.is_empty() && !placement::could_ever_fit(&candidates, needs) {
            return Err(TooLarge);
        }
        Ok(None)
    }

    fn links(&self) -> MutexGuard<'_, Vec<Arc<WorkerLink>>> {
        lock(&self.links)
    }
}

impl WorkerLink {
    /// Sends a message, as soon as the worker takes it.
    pub(super) async fn send(&self, message: to_worker::Message) -> Result<(), WorkerGone> {
        let message = ToWorker {
            message: Some(message),
        };
        tokio::select! {
            sent = self.sender.send(Ok(message)) => sent.map_err(|_| WorkerGone),
            () = self.gone.cancelled() => Err(WorkerGone),
        }
    }

    fn candidate(&self, image: &Digest) -> Candidate {
        let books = self.books();
        Candidate {
            total: self.total,
            used: books.used,
            has_image: books.images.contains(image),
            is_draining: false,
        }
    }

    fn take(&self, needs: Needs, image: &Digest) {
        let mut books = self.books();
        books.used.cpu_millicores += needs.cpu_millicores;
        books.used.memory_bytes += needs.memory_bytes;
        if books.images.len() < IMAGES_LIMIT {
            books.images.insert(image.clone());
        }
    }

    fn give_back(&self, needs: Needs) {
        let mut books = self.books();
        books.used.cpu_millicores -= needs.cpu_millicores;
        books.used.memory_bytes -= needs.memory_bytes;
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        lock(&self.books)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.link.give_back(self.needs);
        self.workers.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDS: Needs = Needs {
        cpu_millicores: 600,
        memory_bytes: 600,
    };

    fn attach(workers: &Workers) -> Arc<WorkerLink> {
        let hello = Hello {
            cpu_millicores: 1000,
            memory_bytes: 1000,
            ..Hello::default()
        };
        let (sender, _) = mpsc::channel(1);
        workers.attach(&hello, sender)
    }

    #[tokio::test]
    async fn what_is_reserved_is_free_again_when_dropped() {
        let workers = Arc::new(Workers::default());
        let image = Digest::sha256([1; 32]);
        let reserving = {
            let (workers, image) = (Arc::clone(&workers), image.clone());
            tokio::spawn(async move { workers.reserve(NEEDS, &image).await })
        };
        tokio::task::yield_now().await;
        let link = attach(&workers);
        let first = reserving.await.unwrap().unwrap();
        assert_eq!(first.link.id, link.id);
        let waiting = {
            let (workers, image) = (Arc::clone(&workers), image.clone());
            tokio::spawn(async move { workers.reserve(NEEDS, &image).await })
        };
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "there is no room for a second");
        drop(first);
        assert!(waiting.await.unwrap().is_ok());
        let huge = Needs {
            memory_bytes: 1001,
            ..NEEDS
        };
        let refused = workers.reserve(huge, &image).await;
        assert_eq!(refused.err(), Some(TooLarge));
        workers.detach(&link);
        assert!(link.gone.is_cancelled());
        assert!(workers.links().is_empty());
    }
}
