//! Asking the source for bytes, with the patience of whoever wants them, and telling what it says.

use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use tokio::time::Instant;

use super::backlog::Load;
use super::gate::Pass;
use super::{Fetcher, Lane};
use crate::blob::{BlobError, PieceSink};
use crate::error::ReadError;
use crate::limits::{ATTEMPT_MOST, MAX_LAGS, MIN_PROGRESS};
use crate::notice::NoticeKind;
use crate::patience::Patience;
use crate::stats::Counters;

/// What is asked for, and for whom.
pub(super) struct Question {
    pub(super) lane: Lane,
    pub(super) layer: usize,
    /// What has not come yet.
    pub(super) rest: Range<u64>,
    /// How often it was asked anew because it lagged.
    pub(super) lags: usize,
    /// Where it counts as under way already.
    pub(super) load: Option<Load>,
}

/// What became of one attempt.
enum Answer {
    All,
    /// Another would have the rest sooner, or this one has had its time and has brought something.
    GoesOn,
    Failed(BlobError),
}

impl Fetcher {
    /// Compressed bytes of a layer, waiting for a source that is away until the deadline.
    pub(super) async fn request(
        &self,
        mut question: Question,
        deadline: Instant,
        pieces: PieceSink<'_>,
    ) -> Result<(), ReadError> {
        let mut patience = Patience::until(deadline);
        let Question { lane, layer, .. } = question;
        let digest = self.layers[layer].digest();
        let mut pass = None;
        loop {
            if pass.is_none() {
                let entered = self.enter(lane, patience.deadline()).await;
                pass = entered.map_err(|error| given_up(digest, &error))?;
            }
            let begun_at = question.rest.start;
            let error = match self.ask(&mut question, pieces).await {
                Answer::All => return Ok(()),
                Answer::GoesOn => {
                    Counters::add(&self.counters.retries, 1);
                    continue;
                }
                Answer::Failed(error) => error,
            };
            if matches!(error, BlobError::Missing { .. }) {
                // The source has answered: nobody else waits for this one.
                pass = None;
            }
            if lane == Lane::Reader && question.rest.start - begun_at >= MIN_PROGRESS {
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

    async fn enter(&self, lane: Lane, deadline: Instant) -> Result<Pass<'_>, BlobError> {
        if lane.is_quiet() {
            let quiet = self.prefetch_gate.enter_if_open();
            return quiet.and_then(|_| self.gate.enter_if_open());
        }
        self.gate.enter(deadline).await
    }

    /// One attempt at the rest of a range. What comes is taken off it.
    async fn ask(&self, question: &mut Question, pieces: PieceSink<'_>) -> Answer {
        let Question { lane, layer, .. } = *question;
        let header = self.layers[layer].index().header();
        let (wanted, may_lag) = (question.rest.clone(), question.lags < MAX_LAGS);
        let (begun_at, length) = (wanted.start, wanted.end - wanted.start);
        let flow = self.link.flow();
        let load = question.load.take();
        let load = load.unwrap_or_else(|| self.backlog.load(lane.purpose(), length));
        let rest = &mut question.rest;
        let mut take = |piece: Bytes| {
            let left = usize::try_from(rest.end - rest.start).unwrap_or(usize::MAX);
            // More than was asked for is nobody's.
            let piece = piece.slice(..piece.len().min(left));
            let was_slow = rest.start - begun_at < MIN_PROGRESS;
            rest.start += piece.len() as u64;
            if was_slow && rest.start - begun_at >= MIN_PROGRESS {
                self.gate.let_in();
                self.prefetch_gate.let_in();
            }
            flow.came(piece.len());
            load.came(piece.len() as u64);
            self.count(lane, piece.len());
            pieces(piece);
        };
        let (digest, size) = (&header.layer_digest, header.compressed_size);
        let read = self.source.read(digest, size, wanted, &mut take);
        let result = tokio::select! {
            biased;
            result = tokio::time::timeout(ATTEMPT_MOST, read) => result,
            () = flow.lags(length), if may_lag => {
                question.lags += 1;
                return Answer::GoesOn;
            }
        };
        let message = match result {
            _ if rest.is_empty() => {
                self.report_answer(layer);
                return Answer::All;
            }
            Ok(Ok(())) => "the registry gave fewer bytes than were asked for",
            Ok(Err(error)) => {
                self.report_failure(lane, layer, &error);
                return Answer::Failed(error);
            }
            // Who waits for nothing holds a connection that somebody may wait for.
            Err(_) if !lane.is_quiet() && rest.start - begun_at >= MIN_PROGRESS => {
                return Answer::GoesOn;
            }
            Err(_) => "the registry did not answer a request in time",
        };
        let error = BlobError::Transient {
            message: message.to_owned(),
            retry_after: None,
        };
        self.report_failure(lane, layer, &error);
        Answer::Failed(error)
    }

    fn count(&self, lane: Lane, bytes: usize) {
        Counters::add(&self.counters.bytes_fetched, bytes as u64);
        match lane {
            Lane::Foretold => Counters::add(&self.counters.bytes_prefetched, bytes as u64),
            Lane::Fill => Counters::add(&self.counters.bytes_filled, bytes as u64),
            Lane::Reader | Lane::Rest => {}
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
        if lane.is_quiet() {
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
