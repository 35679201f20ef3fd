//! One flight: a run of spans on its way from the source into the cache.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use layer_index::{DecodeError, SpanDecoder};
use tokio::sync::watch;
use tokio::time::Instant;

use super::arrivals::{Arrivals, Errand};
use super::backlog::Load;
use super::connections::Connection;
use super::{Fetcher, Lane, Layer, Outcome};
use crate::error::ReadError;
use crate::limits::{CHUNK, MAX_CORRUPT};
use crate::notice::NoticeKind;
use crate::plan::{Layout, Run};
use crate::stats::Counters;

type Seats = BTreeMap<usize, watch::Sender<Outcome>>;

pub(super) struct Flight {
    fetcher: Arc<Fetcher>,
    lane: Lane,
    layer: usize,
    run: Run,
    /// Spans that have not landed yet, and who waits for them.
    seats: Seats,
    /// Over which it asks; readers' flights wait for one.
    connection: Option<Connection>,
    /// Of its first request, from before there is one: who decides whether to send another flight
    /// knows of this one.
    load: Option<Load>,
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
        if lane == Lane::Foretold {
            fetcher.foretold_flights.fetch_add(1, Relaxed);
        }
        let range = fetcher.layers[layer].compressed_range(run);
        let first = (range.end - range.start).min(CHUNK);
        Self {
            load: Some(fetcher.backlog.load(lane.purpose(), first)),
            fetcher,
            lane,
            layer,
            run,
            seats,
            connection: None,
        }
    }

    /// Nobody waits for what goes over a connection that readers can spare.
    pub(super) fn over(mut self, connection: Connection) -> Self {
        self.connection = Some(connection);
        self.load = self.load.take().map(Load::into_spare);
        self
    }

    /// Fetches until every seat has landed or there is no hope left.
    pub(super) async fn fly(mut self, deadline: Instant) {
        let fetcher = Arc::clone(&self.fetcher);
        // Whoever prefetches has counted it.
        if self.lane == Lane::Reader && self.connection.is_none() {
            self.connection = fetcher.connections.acquire().await;
        }
        let mut reason = String::new();
        let tries = if self.lane.is_quiet() { 1 } else { MAX_CORRUPT };
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
        if self.lane.is_quiet() {
            self.layer().prefetch_failed.store(true, Relaxed);
        } else {
            self.fetcher.notice(NoticeKind::Corrupt, message);
        }
    }

    /// One pass over the run: bytes come and are decoded side by side.
    async fn attempt(self, deadline: Instant) -> (Self, Result<(), Failure>) {
        let run = self.run;
        let decoder = match self.layer().index().span_decoder(run.first, run.last) {
            Ok(decoder) => decoder,
            Err(error) => return self.undecodable(error),
        };
        let range = self.layer().compressed_range(run);
        let (mut flight, mut decoder) = (self, decoder);
        let mut arrivals = Arrivals::new(flight.errand(deadline), range);
        while !decoder.is_complete()
            && let Some(bytes) = arrivals.next().await
        {
            let bytes = match bytes {
                Ok(bytes) => bytes,
                Err(error) => return (flight, Err(Failure::Lost(error))),
            };
            match flight.decode(decoder, bytes).await {
                Ok((landed, rest, Ok(()))) => (flight, decoder) = (landed, rest),
                Ok((landed, _, Err(error))) => return landed.undecodable(error),
                Err(lost) => return lost,
            }
        }
        match decoder.finish() {
            Ok(()) => arrivals.end().await,
            Err(error) => return flight.undecodable(error),
        }
        (flight, Ok(()))
    }

    fn errand(&mut self, deadline: Instant) -> Errand {
        Errand {
            fetcher: Arc::clone(&self.fetcher),
            lane: self.lane,
            layer: self.layer,
            deadline,
            load: self.load.take(),
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
            let mut land = |span, decoded: &[u8]| {
                flight.land(span, decoded);
                Ok(())
            };
            let result = decoder.push(&bytes, &mut land);
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
        let is_filled = self.lane == Lane::Fill;
        let fetcher = Arc::clone(&self.fetcher);
        let layer = &fetcher.layers[self.layer];
        let stored = if is_filled {
            Counters::add(&fetcher.counters.spans_filled, 1);
            layer.cache.store_beside(span, decoded)
        } else {
            layer.cache.store(span, decoded)
        };
        let outcome = match stored {
            Ok(()) => Outcome::Stored,
            Err(error) => {
                if is_filled {
                    fetcher.filling.is_over();
                } else {
                    fetcher.report_full(&error);
                }
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
            if self.lane == Lane::Foretold {
                let bytes = self.fetcher.decoded_bytes(self.layer, span);
                let forecast = &self.fetcher.forecast;
                forecast.not_fetched(self.layer, span, bytes);
            }
            let _ = seat.send(if self.lane.is_quiet() {
                Outcome::GivenUp
            } else {
                Outcome::Failed(error.clone())
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
        if self.lane == Lane::Foretold {
            self.fetcher.foretold_flights.fetch_sub(1, Relaxed);
            self.fetcher.connections.look_again();
        }
    }
}
