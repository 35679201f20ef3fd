//! Decoded spans that could not be written to the cache, kept in memory for a moment: a reader
//! that goes through a file in small steps would otherwise fetch the same span many times.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Memory for spans that the disk did not take: a few dozen readers' worth.
const MAX_BYTES: usize = 32 * 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct Spare {
    spans: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    queue: VecDeque<(usize, usize, Bytes)>,
    bytes: usize,
}

impl Spare {
    pub(super) fn get(&self, layer: usize, span: usize) -> Option<Bytes> {
        let kept = self.lock();
        let found = kept
            .queue
            .iter()
            .find(|kept| (kept.0, kept.1) == (layer, span));
        found.map(|kept| kept.2.clone())
    }

    pub(super) fn put(&self, layer: usize, span: usize, bytes: Bytes) {
        let mut kept = self.lock();
        kept.bytes += bytes.len();
        kept.queue.push_back((layer, span, bytes));
        while kept.bytes > MAX_BYTES
            && let Some((_, _, oldest)) = kept.queue.pop_front()
        {
            kept.bytes -= oldest.len();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
