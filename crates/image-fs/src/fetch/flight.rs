//! One flight: a run of spans on its way from the source into the cache.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use layer_index::{DecodeError, SpanDecoder};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Fetcher, Forecast, Lane, Layer, Outcome};
use crate::blob::BlobError;
use crate::error::ReadError;
use crate::notice::NoticeKind;
use crate::patience::Patience;
use crate::plan::{Layout, Run};
use crate::stats::Counters;

/// Bytes of one request when a run is longer: what a decoder chews while the next one comes.
const CHUNK: u64 = 4 * 1024 * 1024;

/// How often bytes that do not match are fetched again: once for a bad transfer, once more for a
/// bad cache on the way.
const MAX_CORRUPT: usize = 3;

/// Longest single request. A source has finer limits; this one holds if it has none.
const ATTEMPT_MOST: Duration = Duration::from_mins(1);

type Seats = BTreeMap<usize, watch::Sender<Outcome>>;

pub(super) struct Flight {
    fetcher: Arc<Fetcher>,
    lane: Lane,
    layer: usize,
    run: Run,
    /// Spans that have not landed yet, and who waits for them.
    seats: Seats,
    /// Told of what does not land.
    forecast: Option<Arc<Forecast>>,
}

/// Why an attempt did not bring all spans.
enum Failure {
    /// The source's bytes are wrong; other bytes may be right.
    Corrupt(String),
    Lost(ReadError),
}

impl Flight {
    pub(super) fn new(
        fetcher: Arc<Fetcher>,
        lane: Lane,
        (layer, run): (usize, Run),
        seats: Seats,
    ) -> Self {
        Self {
            fetcher,
            lane,
            layer,
            run,
            seats,
            forecast: None,
        }
    }

    pub(super) fn foretold_by(mut self, forecast: Arc<Forecast>) -> Self {
        self.forecast = Some(forecast);
        self
    }

    /// Fetches until every seat has landed or there is no hope left.
    pub(super) async fn fly(mut self, deadline: Instant) {
        let fetcher = Arc::clone(&self.fetcher);
        let _connection = match self.lane {
            Lane::Reader => fetcher.connections.acquire().await.ok(),
            // Whoever prefetches has counted it.
            Lane::Foretold => None,
        };
        let mut reason = String::new();
        let tries = match self.lane {
            Lane::Reader => MAX_CORRUPT,
            Lane::Foretold => 1,
        };
        for _ in 0..tries {
            self.shorten();
            match self.attempt(deadline).await {
                (flight, Ok(())) if flight.seats.is_empty() => return,
                (flight, Ok(())) => {
                    self = flight;
                    "the decoder left out a span".clone_into(&mut reason);
                }
                (flight, Err(Failure::Lost(error))) => {
                    self = flight;
                    return self.fail(&error);
                }
                (flight, Err(Failure::Corrupt(message))) => {
                    self = flight;
                    self.report_corrupt(&message);
                    reason = message;
                }
            }
        }
        let layer = self.layer().digest().to_owned();
        self.fail(&ReadError::Corrupt {
            layer,
            message: reason,
        });
    }

    /// The spans that have not landed yet.
    pub(super) fn spans(&self) -> impl Iterator<Item = usize> {
        self.seats.keys().copied()
    }

    fn layer(&self) -> &Layer {
        &self.fetcher.layers[self.layer]
    }

    /// A second attempt need not fetch again what has landed.
    fn shorten(&mut self) {
        let (Some((first, _)), Some((last, _))) =
            (self.seats.first_key_value(), self.seats.last_key_value())
        else {
            return;
        };
        let layer = self.layer();
        self.run = Run {
            first: layer.group(*first).first,
            last: layer.group(*last).last,
        };
    }

    fn report_corrupt(&self, message: &str) {
        let digest = self.layer().digest();
        Counters::add(&self.fetcher.counters.spans_corrupt, 1);
        self.fetcher.source.distrust(digest);
        self.tell_corrupt(format!("layer {digest}: {message}"));
    }

    /// Nobody has asked for what is only foretold: whoever reads it finds out by itself.
    fn tell_corrupt(&self, message: String) {
        match self.lane {
            Lane::Reader => self.fetcher.notice(NoticeKind::Corrupt, message),
            Lane::Foretold => self.layer().prefetch_failed.store(true, Relaxed),
        }
    }

    /// One pass over the run: requests and decoding side by side.
    async fn attempt(self, deadline: Instant) -> (Self, Result<(), Failure>) {
        let run = self.run;
        let decoder = match self.layer().index().span_decoder(run.first, run.last) {
            Ok(decoder) => decoder,
            Err(error) => return self.undecodable(error),
        };
        let fetcher = Arc::clone(&self.fetcher);
        let (lane, layer) = (self.lane, self.layer);
        let mut chunks = chunks(fetcher.layers[layer].compressed_range(run));
        let (mut flight, mut decoder) = (self, decoder);
        let mut next = match chunks.next() {
            Some(chunk) => Some(fetcher.request(lane, layer, chunk, deadline).await),
            None => None,
        };
        while let Some(bytes) = next {
            let bytes = match bytes {
                Ok(bytes) => bytes,
                Err(error) => return (flight, Err(Failure::Lost(error))),
            };
            let request = async {
                let chunk = chunks.next()?;
                // Each chunk that came renews the patience: what moves is not given up.
                let renewed = Instant::now() + fetcher.read_deadline;
                let deadline = match lane {
                    Lane::Reader => deadline.max(renewed),
                    Lane::Foretold => deadline,
                };
                Some(fetcher.request(lane, layer, chunk, deadline).await)
            };
            let (decoded, following) = tokio::join!(flight.decode(decoder, bytes), request);
            match decoded {
                Ok((landed, rest, Ok(()))) => (flight, decoder) = (landed, rest),
                Ok((landed, _, Err(error))) => return landed.undecodable(error),
                Err(lost) => return lost,
            }
            if decoder.is_complete() {
                break;
            }
            next = following;
        }
        match decoder.finish() {
            Ok(()) => (flight, Ok(())),
            Err(error) => flight.undecodable(error),
        }
    }

    fn undecodable(self, error: DecodeError) -> (Self, Result<(), Failure>) {
        let layer = self.layer().digest().to_owned();
        let failure = match error {
            DecodeError::Mismatch { .. }
            | DecodeError::Undecodable { .. }
            | DecodeError::Truncated { .. } => Failure::Corrupt(error.to_string()),
            // Our own index is damaged: other bytes do not help, and who owns it is told.
            DecodeError::Index(error) => {
                let message = format!("its index is damaged: {error}");
                let told = format!("layer {layer}: {message}");
                self.tell_corrupt(told);
                Failure::Lost(ReadError::Internal { layer, message })
            }
            error => Failure::Lost(ReadError::Internal {
                layer,
                message: error.to_string(),
            }),
        };
        (self, Err(failure))
    }

    /// Decodes away from the runtime's workers, as many at once as there are cores.
    async fn decode(
        self,
        decoder: SpanDecoder,
        bytes: Bytes,
    ) -> Result<(Self, SpanDecoder, Result<(), DecodeError>), (Self, Result<(), Failure>)> {
        let fetcher = Arc::clone(&self.fetcher);
        let (lane, layer, run) = (self.lane, self.layer, self.run);
        let _turn = fetcher.decoders(lane).acquire().await;
        let work = move || {
            let (mut flight, mut decoder) = (self, decoder);
            let result = decoder.push(&bytes, &mut |span, decoded| {
                flight.land(span, decoded);
                Ok(())
            });
            (flight, decoder, result)
        };
        // A panic in the decoder drops the flight with its seats, which tells those who wait.
        fetcher.runtime.spawn_blocking(work).await.map_err(|_| {
            let error = fetcher.internal(layer, "the decoder panicked");
            let empty = Self::new(Arc::clone(&fetcher), lane, (layer, run), Seats::new());
            (empty, Err(Failure::Lost(error)))
        })
    }

    /// A verified span: keeps it, then tells those who wait for it.
    fn land(&mut self, span: usize, decoded: &[u8]) {
        Counters::add(&self.fetcher.counters.spans_decoded, 1);
        let fetcher = Arc::clone(&self.fetcher);
        let layer = &fetcher.layers[self.layer];
        let outcome = match layer.cache.store(span, decoded) {
            Ok(()) => Outcome::Stored,
            Err(error) => {
                fetcher.report_full(&error);
                let bytes = Bytes::copy_from_slice(decoded);
                if self.seats.contains_key(&span) {
                    fetcher.spare.put(self.layer, span, bytes.clone());
                }
                Outcome::Bytes(bytes)
            }
        };
        if let Some(seat) = self.seats.remove(&span) {
            // Out of the flights first: who comes now finds the span itself.
            layer.flights().remove(&span);
            let _ = seat.send(outcome);
        }
    }

    fn fail(&mut self, error: &ReadError) {
        let seats = std::mem::take(&mut self.seats);
        let mut flights = self.layer().flights();
        for span in seats.keys() {
            flights.remove(span);
        }
        drop(flights);
        for (span, seat) in seats {
            if let Some(forecast) = &self.forecast {
                let bytes = self.fetcher.decoded_bytes(self.layer, span);
                forecast.not_fetched(self.layer, span, bytes);
            }
            let _ = seat.send(match self.lane {
                Lane::Reader => Outcome::Failed(error.clone()),
                Lane::Foretold => Outcome::GivenUp,
            });
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.seats.is_empty() {
            let error = self.fetcher.internal(self.layer, "the fetch was abandoned");
            self.fail(&error);
        }
    }
}

impl Fetcher {
    /// Compressed bytes of a layer, waiting for a source that is away until the deadline.
    async fn request(
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
    fn report_full(&self, error: &crate::cache::StoreError) {
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

fn chunks(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let mut start = range.start;
    std::iter::from_fn(move || {
        let from = start;
        start = from.saturating_add(CHUNK).min(range.end);
        (from < range.end).then_some(from..start)
    })
}
