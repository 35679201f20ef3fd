//! Asking the source for bytes, with the patience of whoever wants them, and telling what it says.

use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Fetcher, Lane};
use crate::blob::BlobError;
use crate::error::ReadError;
use crate::limits::ATTEMPT_MOST;
use crate::notice::NoticeKind;
use crate::patience::Patience;
use crate::stats::Counters;

impl Fetcher {
    /// Compressed bytes of a layer, waiting for a source that is away until the deadline.
    pub(super) async fn request(
        &self,
        lane: Lane,
        layer: usize,
        range: Range<u64>,
        deadline: Instant,
    ) -> Result<Bytes, ReadError> {
        let mut patience = Patience::until(deadline);
        let digest = self.layers[layer].digest();
        let mut pass = None;
        loop {
            if pass.is_none() {
                let entered = match lane {
                    Lane::Reader => self.gate.enter(patience.deadline()).await,
                    Lane::Foretold => {
                        let quiet = self.prefetch_gate.enter_if_open();
                        quiet.and_then(|_| self.gate.enter_if_open())
                    }
                };
                pass = entered.map_err(|error| given_up(digest, &error))?;
            }
            let error = match self.ask(lane, layer, range.clone()).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => error,
            };
            if matches!(error, BlobError::Missing { .. }) {
                // The source has answered: nobody else waits for this one.
                pass = None;
            }
            let Some(pause) = patience.pause(&error) else {
                return Err(given_up(digest, &error));
            };
            Counters::add(&self.counters.retries, 1);
            tokio::time::sleep(pause).await;
        }
    }

    /// One attempt.
    async fn ask(&self, lane: Lane, layer: usize, range: Range<u64>) -> Result<Bytes, BlobError> {
        let header = self.layers[layer].index().header();
        let length = range.end.saturating_sub(range.start);
        let read = self
            .source
            .read(&header.layer_digest, header.compressed_size, range);
        let result = match tokio::time::timeout(ATTEMPT_MOST, read).await {
            Ok(Ok(bytes)) if bytes.len() as u64 == length => Ok(bytes),
            Ok(Ok(_)) => Err("the registry gave fewer bytes than were asked for"),
            Ok(Err(error)) => {
                self.report_failure(lane, layer, &error);
                return Err(error);
            }
            Err(_) => Err("the registry did not answer a request in time"),
        };
        let result = result.map_err(|message| BlobError::Transient {
            message: message.to_owned(),
            retry_after: None,
        });
        match &result {
            Ok(bytes) => self.report_answer(lane, layer, bytes.len()),
            Err(error) => self.report_failure(lane, layer, error),
        }
        result
    }

    fn report_answer(&self, lane: Lane, layer: usize, bytes: usize) {
        Counters::add(&self.counters.requests, 1);
        Counters::add(&self.counters.bytes_fetched, bytes as u64);
        if lane == Lane::Foretold {
            Counters::add(&self.counters.bytes_prefetched, bytes as u64);
        }
        self.prefetch_gate.open();
        let was_missing = self.layers[layer].missing.swap(false, Relaxed);
        if self.gate.open() || was_missing {
            self.notice(NoticeKind::Recovered, "the registry answers again");
        }
    }

    fn report_failure(&self, lane: Lane, layer: usize, error: &BlobError) {
        if lane == Lane::Foretold {
            return self.note_failure(layer, error);
        }
        let kind = match error {
            BlobError::Transient { .. } => NoticeKind::Waiting,
            BlobError::Denied { .. } => NoticeKind::Denied,
            BlobError::Missing { .. } => return self.report_missing(layer, error),
            // Concerns this layer only, and is told by the read that fails.
            BlobError::Final { .. } => return,
        };
        if self.gate.close(error) {
            self.notice(kind, error.to_string());
        }
    }

    /// Of what nobody has asked for: told to nobody, and stops what would fail alike.
    fn note_failure(&self, layer: usize, error: &BlobError) {
        match error {
            BlobError::Transient { .. } | BlobError::Denied { .. } => {
                self.prefetch_gate.close(error);
            }
            BlobError::Missing { .. } => self.layers[layer].prefetch_failed.store(true, Relaxed),
            BlobError::Final { .. } => self.prefetch_refused.store(true, Relaxed),
        }
    }

    /// Told once: every further range of the layer would say the same.
    fn report_missing(&self, layer: usize, error: &BlobError) {
        self.gate.open();
        if !self.layers[layer].missing.swap(true, Relaxed) {
            self.notice(NoticeKind::Denied, error.to_string());
        }
    }

    /// Told once: every further span would say the same.
    pub(super) fn report_full(&self, error: &crate::cache::StoreError) {
        if !self.told_full.swap(true, Relaxed) {
            let message = format!("{error}; what is read now is fetched again when it is needed");
            self.notice(NoticeKind::CacheFull, message);
        }
    }
}

fn given_up(layer: &str, error: &BlobError) -> ReadError {
    let (layer, message) = (layer.to_owned(), error.to_string());
    match error {
        BlobError::Final { .. } => ReadError::Refused { layer, message },
        _ => ReadError::Deadline { layer, message },
    }
}
