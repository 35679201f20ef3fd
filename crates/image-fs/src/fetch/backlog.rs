//! What was asked for and has not come, and whether somebody waits.
//!
//! All requests share the link, and so much of it as others have is missing to who waits. What
//! nobody waits for is therefore asked for only as fast as the link brings it: it waits here for
//! its turn, and not in the queue of some router, where nothing overtakes it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::limits::LINGER;

#[derive(Debug, Default)]
pub(super) struct Backlog {
    wanted: AtomicU64,
    spare: AtomicU64,
    readers: AtomicUsize,
    /// Until then who waited last may come again.
    lingers: Mutex<Option<Instant>>,
    /// Some of it has come, or somebody does not wait any more.
    eased: Notify,
}

/// How it is at a moment, in bytes that are still to come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pressure {
    pub(super) wanted: u64,
    pub(super) spare: u64,
    /// A reader waits for something, or has just waited.
    pub(super) is_waited_for: bool,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A reader, or it was foretold.
    Wanted,
    /// Ahead of a reader, or the rest of a layer.
    Spare,
}

/// What one request has added.
#[derive(Debug)]
pub(super) struct Load {
    backlog: Arc<Backlog>,
    purpose: Purpose,
    left: AtomicU64,
}

/// A reader that waits.
#[derive(Debug)]
pub(super) struct Waiting<'a>(&'a Backlog);

impl Backlog {
    /// So many bytes are asked for.
    pub(super) fn load(self: &Arc<Self>, purpose: Purpose, bytes: u64) -> Load {
        self.bytes(purpose).fetch_add(bytes, SeqCst);
        Load {
            backlog: Arc::clone(self),
            purpose,
            left: AtomicU64::new(bytes),
        }
    }

    pub(super) fn reader(&self) -> Waiting<'_> {
        self.readers.fetch_add(1, SeqCst);
        Waiting(self)
    }

    pub(super) fn pressure(&self) -> Pressure {
        Pressure {
            wanted: self.wanted.load(SeqCst),
            spare: self.spare.load(SeqCst),
            is_waited_for: self.readers.load(SeqCst) > 0 || self.lingers().is_some(),
        }
    }

    /// Waits until it is such that `has_room`.
    pub(super) async fn eased(&self, has_room: impl Fn(Pressure) -> bool) {
        loop {
            let eased = self.eased.notified();
            if has_room(self.pressure()) {
                return;
            }
            match self.lingers() {
                None => eased.await,
                Some(until) => {
                    let _ = tokio::time::timeout_at(until, eased).await;
                }
            }
        }
    }

    fn lingers(&self) -> Option<Instant> {
        let until = *self.lingers.lock().unwrap_or_else(PoisonError::into_inner);
        until.filter(|until| Instant::now() < *until)
    }

    fn bytes(&self, purpose: Purpose) -> &AtomicU64 {
        match purpose {
            Purpose::Wanted => &self.wanted,
            Purpose::Spare => &self.spare,
        }
    }
}

impl Load {
    /// The same for what nobody waits for.
    pub(super) fn into_spare(self) -> Self {
        self.backlog.load(Purpose::Spare, self.left.load(SeqCst))
    }

    /// So many of its bytes have come; more than it has are nobody's.
    pub(super) fn came(&self, bytes: u64) {
        let before = self.left.load(SeqCst);
        let came = bytes.min(before);
        self.left.store(before - came, SeqCst);
        self.backlog.bytes(self.purpose).fetch_sub(came, SeqCst);
        self.backlog.eased.notify_waiters();
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.came(u64::MAX);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let until = Instant::now() + LINGER;
        let lingers = &self.0.lingers;
        *lingers.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        self.0.readers.fetch_sub(1, SeqCst);
        self.0.eased.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_over_is_taken_off_once() {
        let backlog = Arc::new(Backlog::default());
        let (one, other) = (
            backlog.load(Purpose::Wanted, 100),
            backlog.load(Purpose::Spare, 50),
        );
        let waiting = backlog.reader();
        one.came(30);
        let mut expected = Pressure {
            wanted: 70,
            spare: 50,
            is_waited_for: true,
        };
        assert_eq!(backlog.pressure(), expected);
        one.came(500);
        expected.wanted = 0;
        assert_eq!(backlog.pressure(), expected);
        drop((one, waiting));
        assert_eq!(backlog.pressure(), expected, "it may come again");
        tokio::time::advance(LINGER).await;
        expected.is_waited_for = false;
        assert_eq!(backlog.pressure(), expected);
        drop(other);
        assert_eq!(backlog.pressure(), Pressure::default());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_room_hears_of_bytes_and_of_readers() {
        let backlog = Arc::new(Backlog::default());
        let load = backlog.load(Purpose::Wanted, 100);
        let waiting = backlog.reader();
        let eased = tokio::spawn({
            let backlog = Arc::clone(&backlog);
            async move {
                let is_free = |pressure: Pressure| !pressure.is_waited_for && pressure.wanted < 50;
                backlog.eased(is_free).await;
            }
        });
        tokio::task::yield_now().await;
        assert!(!eased.is_finished());
        load.came(60);
        tokio::task::yield_now().await;
        assert!(!eased.is_finished());
        drop(waiting);
        eased.await.unwrap();
    }
}
