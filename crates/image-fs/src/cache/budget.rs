//! When a writer has to ask whether the cache is within its limit. Sizes are measured on disk from
//! time to time, not counted: several processes write, and a count that drifts would bound nothing.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Most bytes that one process writes between two measurements; also how far the cache may go
/// over its limit per process.
const MAX_STEP: u64 = 64 * 1024 * 1024;
/// A small limit is measured more often.
const STEPS_PER_LIMIT: u64 = 16;
/// A cache that was full of layers in use is looked at again after this.
const FULL_RETRY: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Budget {
    pub(super) max_bytes: u64,
    since_measured: AtomicU64,
    /// Set while the cache is at its limit with nothing to evict.
    full_since: Mutex<Option<Instant>>,
}

/// What is to be done before writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Write,
    Measure,
    Full,
}

impl Budget {
    pub(super) fn new(max_bytes: u64) -> Self {
        // The first write measures: other processes have been here before.
        let since_measured = AtomicU64::new(MAX_STEP);
        Self {
            max_bytes,
            since_measured,
            full_since: Mutex::default(),
        }
    }

    pub(super) fn admit(&self, bytes: u64) -> Admission {
        if self.max_bytes == u64::MAX {
            return Admission::Write;
        }
        if let Some(since) = *self.full() {
            return if since.elapsed() < FULL_RETRY {
                Admission::Full
            } else {
                Admission::Measure
            };
        }
        let written = self.since_measured.fetch_add(bytes, Relaxed) + bytes;
        let step = (self.max_bytes / STEPS_PER_LIMIT).min(MAX_STEP);
        if written <= step {
            Admission::Write
        } else {
            Admission::Measure
        }
    }

    pub(super) fn written(&self, bytes: u64) {
        self.since_measured.fetch_add(bytes, Relaxed);
    }

    /// The cache was measured, and evicted from where it could be.
    pub(super) fn measured(&self, is_full: bool) {
        self.since_measured.store(0, Relaxed);
        *self.full() = is_full.then(Instant::now);
    }

    fn full(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.full_since
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
