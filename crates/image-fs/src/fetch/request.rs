//! Asking the source for bytes, with the patience of whoever wants them, and telling what it says.

use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Fetcher, Lane};
use crate::blob::{BlobError, PieceSink};
use crate::error::ReadError;
use crate::limits::{ATTEMPT_MOST, MIN_PROGRESS};
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
        pieces: PieceSink<'_>,
    ) -> Result<(), ReadError> {
        let mut patience = Patience::until(deadline);
        let digest = self.layers[layer].digest();
        let (mut rest, mut pass) = (range, None);
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
            let begun_at = rest.start;
            let error = match self.ask(lane, layer, &mut rest, pieces).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if matches!(error, BlobError::Missing { .. }) {
                // The source has answered: nobody else waits for this one.
                pass = None;
            }
            if lane == Lane::Reader && rest.start - begun_at >= MIN_PROGRESS {
                let renewed = Instant::now() + self.read_deadline;
                patience = Patience::until(deadline.max(renewed));
            }
            let Some(pause) = patience.pause(&error) else {
                return Err(given_up(digest, &error));
            };
            Counters::add(&self.counters.retries, 1);
            tokio::time::sleep(pause).await;
        }
    }

    /// One attempt at the rest of a range. What comes is taken off it.
    async fn ask(
        &self,
        lane: Lane,
        layer: usize,
        rest: &mut Range<u64>,
        pieces: PieceSink<'_>,
    ) -> Result<(), BlobError> {
        let header = self.layers[layer].index().header();
        let wanted = rest.clone();
        let mut flow = self.link.flow();
        let mut take = |piece: Bytes| {
            flow.came(piece.len());
            let left = usize::try_from(rest.end - rest.start).unwrap_or(usize::MAX);
            // More than was asked for is nobody's.
            let piece = piece.slice(..piece.len().min(left));
            rest.start += piece.len() as u64;
            self.count(lane, piece.len());
            pieces(piece);
        };
        let (digest, size) = (&header.layer_digest, header.compressed_size);
        let read = self.source.read(digest, size, wanted, &mut take);
        let message = match tokio::time::timeout(ATTEMPT_MOST, read).await {
            _ if rest.is_empty() => {
                self.report_answer(layer);
                return Ok(());
            }
            Ok(Ok(())) => "the registry gave fewer bytes than were asked for",
            Ok(Err(error)) => {
                self.report_failure(lane, layer, &error);
                return Err(error);
            }
            Err(_) => "the registry did not answer a request in time",
        };
        let error = BlobError::Transient {
            message: message.to_owned(),
            retry_after: None,
        };
        self.report_failure(lane, layer, &error);
        Err(error)
    }

    fn count(&self, lane: Lane, bytes: usize) {
        Counters::add(&self.counters.bytes_fetched, bytes as u64);
        if lane == Lane::Foretold {
            Counters::add(&self.counters.bytes_prefetched, bytes as u64);
        }
    }

    fn report_answer(&self, layer: usize) {
        Counters::add(&self.counters.requests, 1);
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
