//! The rest of a layer of which much is wanted, in long ranges over several connections.
//!
//! Most of it will be wanted, and a round trip for each part is what makes reading a whole image
//! slower than downloading it. It runs behind readers and what is foretold; a reader finds what it
//! wants here or under way, or fetches it. Each range is decoded by itself, on another core than
//! its neighbours: entering a checkpoint takes a window of 32 KiB, beside megabytes of a range.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::connections::Connection;
use super::flight::Flight;
use super::{Fetcher, Lane, Layer};
use crate::limits::REST_PERCENT;
use crate::plan::{self, Layout};

/// Fetches what is missing of a layer, from this span on and then what is before it. Returns when
/// all of it has landed, or when it is of no use to go on. Dropped, it takes its flights along.
pub(crate) async fn fetch_rest(fetcher: Arc<Fetcher>, layer: usize, from: usize) {
    let mut flights = JoinSet::new();
    let count = fetcher.layers[layer].span_count();
    for mut spans in [from..count, 0..from] {
        while fetcher.take_off_rest(layer, &mut spans, &mut flights).await {
            while flights.try_join_next().is_some() {}
        }
    }
    // A reader may have joined what is under way.
    while flights.join_next().await.is_some() {}
}

impl Layer {
    /// A program reads more of this layer, so many bytes when decoded.
    pub(crate) fn is_wanted(&self, bytes: u64) {
        self.wanted.fetch_add(bytes, Relaxed);
    }

    /// True once, when so much is wanted that the rest is worth fetching.
    pub(crate) fn is_rest_due(&self) -> bool {
        let (wanted, size) = (
            self.wanted.load(Relaxed),
            self.index().header().uncompressed_size,
        );
        wanted.saturating_mul(100) >= size.saturating_mul(REST_PERCENT)
            && !self.rest_is_fetched.swap(true, Relaxed)
    }
}

impl Fetcher {
    /// Sends a flight for the first of these spans that nobody has fetched, or is fetching, and
    /// takes off what is done with. False when there is none, or it is of no use.
    async fn take_off_rest(
        self: &Arc<Self>,
        layer: usize,
        spans: &mut Range<usize>,
        flights: &mut JoinSet<()>,
    ) -> bool {
        let turns = Arc::clone(&self.rest_turns);
        let Ok(turn) = turns.acquire_owned().await else {
            return false;
        };
        let Some(connection) = self.connection_for_rest(layer).await else {
            return false;
        };
        let Some(flight) = self.flight_for_rest(layer, spans) else {
            return false;
        };
        let flight = flight.over(connection);
        let fly = async move {
            flight.fly(Instant::now()).await;
            drop(turn);
        };
        flights.spawn_on(fly, &self.runtime);
        true
    }

    /// Waits while the source is away, or something is in front. Nothing when more is of no use.
    async fn connection_for_rest(&self, layer: usize) -> Option<Connection> {
        let is_due = || self.foretold_flights.load(Relaxed) == 0;
        let has_room = |pressure| self.link.carries_rest(pressure);
        loop {
            self.gate.opened().await;
            self.prefetch_gate.opened().await;
            self.backlog.eased(has_room).await;
            let connection = self.connections.spare_when(is_due).await;
            let is_over = self.told_full.load(Relaxed)
                || self.prefetch_refused.load(Relaxed)
                || self.layers[layer].prefetch_failed.load(Relaxed);
            if is_over {
                return None;
            }
            // What was in front may have found the source gone.
            if self
                .gate
                .enter_if_open()
                .and(self.prefetch_gate.enter_if_open())
                .is_ok()
            {
                return Some(connection);
            }
        }
    }

    fn flight_for_rest(self: &Arc<Self>, layer: usize, spans: &mut Range<usize>) -> Option<Flight> {
        let at = &self.layers[layer];
        let mut flights = at.flights();
        let is_missing = |span| !at.cache.is_claimed(span) && !flights.contains_key(&span);
        let first = spans.find(|span| is_missing(*span))?;
        let run = plan::lengthen(at, at.group(first), self.link.stretch(), is_missing);
        spans.start = spans.end.min(run.last + 1);
        Some(self.take_off(Lane::Rest, layer, run, &mut flights))
    }
}
