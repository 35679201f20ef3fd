//! What a writer of spans may still write. It owns no directory: whoever does is asked, who may be
//! in another process.

use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, PoisonError};

use super::CacheLimits;
use super::budget::{Admission, Budget};

/// Who owns the cache's directory, as one who only writes into a layer sees it. Both may take long:
/// files are deleted.
pub trait Room: fmt::Debug + Send + Sync {
    /// Measures the cache, evicting where it can; whether it is within its limit then.
    fn is_within_limit(&self) -> bool;

    /// The disk is full: whether a write of `bytes` is worth another try, after evicting if it is
    /// full still.
    fn make(&self, bytes: u64) -> bool;

    /// Whether so many bytes fit beside everything that is there, evicting nothing.
    fn has_spare(&self, bytes: u64) -> bool;
}

/// What one process may write, for all layers that it has open.
#[derive(Debug)]
pub struct Allowance {
    room: Arc<dyn Room>,
    budget: Budget,
    /// Held by who asks for room because the disk is full.
    making_room: Mutex<()>,
}

impl Allowance {
    pub fn new(limits: CacheLimits, room: Arc<dyn Room>) -> Arc<Self> {
        Arc::new(Self {
            room,
            budget: Budget::new(limits.max_bytes),
            making_room: Mutex::default(),
        })
    }

    /// Whether bytes may be written; has the cache measured when it is time to.
    pub(super) fn admit(&self, bytes: u64) -> bool {
        match self.budget.admit(bytes) {
            Admission::Write => true,
            Admission::Full => false,
            Admission::Measure => {
                let fits = self.room.is_within_limit();
                self.budget.measured(!fits);
                fits
            }
        }
    }

    pub(super) fn has_spare(&self, bytes: u64) -> bool {
        self.room.has_spare(bytes)
    }

    /// So much is written without asking: who asks next measures the sooner.
    pub(super) fn written(&self, bytes: u64) {
        self.budget.written(bytes);
    }

    /// Writes; on a full disk, again after other layers made room.
    pub(super) fn write(&self, bytes: u64, write: impl Fn() -> io::Result<()>) -> io::Result<()> {
        match write() {
            Err(error) if is_full(&error) => self.write_with_room(bytes, write),
            result => result,
        }
    }

    /// One at a time: what another evicts meanwhile is gone from the layers before its blocks are
    /// free.
    fn write_with_room(&self, bytes: u64, write: impl Fn() -> io::Result<()>) -> io::Result<()> {
        let turn = self.making_room.lock();
        let _one_at_a_time = turn.unwrap_or_else(PoisonError::into_inner);
        match write() {
            Err(error) if is_full(&error) && self.room.make(bytes) => write(),
            result => result,
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}
