//! The workers that are attached now, and what is reserved of each.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use control_store::{Capacity, Worker};
use ids::WorkerId;
use reference::Digest;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use worker_protocol::{Delivery, Hello, MAX_READS_PER_WORKER, ToWorker, to_worker};

use super::placement::{self, Candidate, Needs};
use crate::lock::lock;

/// Messages on their way to one worker; whoever has more waits.
pub(super) const QUEUE_LENGTH: usize = 256;
/// Images that a worker is known to have run. More make the choice of a worker no better.
const IMAGES_LIMIT: usize = 4096;
/// Deliveries that a worker is known to have had: it may still speak of a container that has just
/// ended, and has no reason to speak of one that ended so many before.
const HAD_LIMIT: usize = 1024;

/// What a worker is sent through.
pub(super) type ToWorkerSender = mpsc::Sender<Result<ToWorker, Status>>;

/// All attached workers.
#[derive(Debug, Default)]
pub(super) struct Workers {
    links: Mutex<Vec<Arc<WorkerLink>>>,
    /// A worker came, or something of one became free.
    changed: Notify,
}

/// Who is about to be attached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Newcomer {
    pub(super) id: WorkerId,
    /// It has a record, and is attached for as long as it has one.
    pub(super) is_joined: bool,
    pub(super) is_draining: bool,
}

/// One attached worker.
#[derive(Debug)]
pub(crate) struct WorkerLink {
    pub(super) id: WorkerId,
    pub(super) is_joined: bool,
    is_draining: AtomicBool,
    total: Needs,
    sender: ToWorkerSender,
    books: Mutex<Books>,
    /// Turns of what is read for its containers.
    pub(super) reads: Arc<Semaphore>,
    /// Cancelled when it is no longer attached.
    pub(super) gone: CancellationToken,
}

#[derive(Debug, Default)]
struct Books {
    used: Needs,
    images: HashSet<Digest>,
    /// The first the first.
    had: VecDeque<Delivery>,
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
    /// Answers the new link, and the one that it takes the place of.
    pub(super) fn attach(
        &self,
        who: Newcomer,
        hello: &Hello,
        sender: ToWorkerSender,
    ) -> (Arc<WorkerLink>, Option<Arc<WorkerLink>>) {
        let link = Arc::new(WorkerLink {
            id: who.id,
            is_joined: who.is_joined,
            is_draining: AtomicBool::new(who.is_draining),
            total: Needs {
                cpu_millicores: hello.cpu_millicores,
                memory_bytes: hello.memory_bytes,
            },
            sender,
            books: Mutex::default(),
            reads: Arc::new(Semaphore::new(MAX_READS_PER_WORKER as usize)),
            gone: CancellationToken::new(),
        });
        let earlier = {
            let mut links = self.links();
            let known = links.iter().position(|other| other.id == who.id);
            let earlier = known.map(|at| links.swap_remove(at));
            links.push(Arc::clone(&link));
            earlier
        };
        self.changed.notify_waiters();
        (link, earlier)
    }

    pub(super) fn detach(&self, link: &WorkerLink) {
        self.links().retain(|other| !other.is(link));
        link.gone.cancel();
    }

    /// What there is of each.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        let links = self.links();
        links.iter().map(|link| link.candidate(None)).collect()
    }

    /// Those that have a record.
    pub(super) fn joined(&self) -> Vec<Arc<WorkerLink>> {
        let links = self.links();
        let joined = links.iter().filter(|link| link.is_joined);
        joined.cloned().collect()
    }

    /// Goes by what the records say now; answers those that have none any more.
    pub(super) fn review(
        &self,
        links: Vec<Arc<WorkerLink>>,
        records: &[Worker],
    ) -> Vec<Arc<WorkerLink>> {
        let mut removed = Vec::new();
        for link in links {
            if let Some(record) = records.iter().find(|record| record.id == link.id) {
                link.drain(record.is_draining);
            } else {
                removed.push(link);
            }
        }
        self.changed.notify_waiters();
        removed
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
        let candidates: Vec<_> = links
            .iter()
            .map(|link| link.candidate(Some(image)))
            .collect();
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
    /// Whether it is this one: a worker that came back has another.
    pub(super) fn is(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }

    pub(crate) fn worker(&self) -> WorkerId {
        self.id
    }

    pub(super) fn capacity(&self) -> Capacity {
        Capacity {
            cpu_millicores: self.total.cpu_millicores,
            memory_bytes: self.total.memory_bytes,
        }
    }

    fn drain(&self, is_draining: bool) {
        self.is_draining.store(is_draining, Ordering::Relaxed);
    }

    /// Notes that the worker is given a container, before it is.
    pub(super) fn gets(&self, delivery: &Delivery) {
        let mut books = self.books();
        if books.had.len() >= HAD_LIMIT {
            books.had.pop_front();
        }
        books.had.push_back(delivery.clone());
    }

    pub(super) fn has_had(&self, delivery: &Delivery) -> bool {
        self.books().had.contains(delivery)
    }

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

    fn candidate(&self, image: Option<&Digest>) -> Candidate {
        let books = self.books();
        Candidate {
            total: self.total,
            used: books.used,
            has_image: image.is_some_and(|image| books.images.contains(image)),
            is_draining: self.is_draining.load(Ordering::Relaxed),
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
        workers.attach(child(), &hello, sender).0
    }

    fn child() -> Newcomer {
        Newcomer {
            id: WorkerId::new(),
            is_joined: false,
            is_draining: false,
        }
    }

    fn record(id: WorkerId, is_draining: bool) -> Worker {
        Worker {
            id,
            name: "node-1".to_owned(),
            key: [1; 32],
            cpu_millicores: 1000,
            memory_bytes: 1000,
            is_draining,
            joined_at: jiff::Timestamp::UNIX_EPOCH,
            seen_at: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    #[tokio::test]
    async fn a_worker_goes_by_its_record() {
        let workers = Arc::new(Workers::default());
        let image = Digest::sha256([1; 32]);
        let own = attach(&workers);
        workers.detach(&own);
        let (hello, joined) = (
            Hello {
                cpu_millicores: 1000,
                memory_bytes: 1000,
                ..Hello::default()
            },
            Newcomer {
                is_joined: true,
                ..child()
            },
        );
        let attach = || workers.attach(joined, &hello, mpsc::channel(1).0);
        let (first, none) = attach();
        assert!(none.is_none());
        let (link, earlier) = attach();
        assert!(earlier.is_some_and(|earlier| earlier.is(&first)));
        workers.detach(&first);
        assert!(!link.gone.is_cancelled(), "the later link is another one");

        assert!(
            workers
                .review(workers.joined(), &[record(link.id, true)])
                .is_empty()
        );
        assert_eq!(
            workers.take(NEEDS, &image).unwrap().map(|link| link.id),
            None
        );
        assert!(
            workers
                .review(workers.joined(), &[record(link.id, false)])
                .is_empty()
        );
        let taken = workers.take(NEEDS, &image).unwrap();
        assert!(taken.is_some_and(|taken| taken.is(&link)));
        let removed = workers.review(workers.joined(), &[record(WorkerId::new(), false)]);
        assert!(removed.len() == 1 && removed[0].is(&link));
        assert!(super::Workers::default().review(Vec::new(), &[]).is_empty());
    }

    #[test]
    fn what_a_worker_had_is_remembered_for_a_while() {
        let link = attach(&Workers::default());
        let delivery = |number| Delivery {
            container: "ctr".to_owned(),
            number,
        };
        link.gets(&delivery(0));
        assert!(link.has_had(&delivery(0)) && !link.has_had(&delivery(1)));
        for number in 1..=HAD_LIMIT {
            link.gets(&delivery(u32::try_from(number).unwrap()));
        }
        assert!(!link.has_had(&delivery(0)) && link.has_had(&delivery(1)));
        assert_eq!(link.books().had.len(), HAD_LIMIT);
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
