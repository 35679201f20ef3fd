//! How far a reader is fetched for beyond what it asks: along with what it waits for, and ahead of
//! it where it goes through a layer in order.

use std::sync::{Arc, PoisonError};

use tokio::time::Instant;

use super::{Fetcher, Lane, Layer};
use crate::limits::{LONG_WINDOW, MAX_RANGE};
use crate::plan::{self, Joining, Layout, Run};

impl Fetcher {
    /// Bytes that are worth one request of a reader: more where it goes through the layer in order.
    pub(super) fn unit(&self, at: &Layer, run: Run) -> u64 {
        let ahead = at.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let window = ahead.window_from(run.first).unwrap_or_default();
        let window = window.min(self.link.ahead());
        self.link.unit().max(window).min(MAX_RANGE)
    }

    /// Fetches ahead of a reader that goes through the layer in order, over connections that
    /// readers can spare.
    pub(super) fn read_ahead(self: &Arc<Self>, layer: usize, spans: &[usize]) {
        let (Some(first), Some(last)) = (spans.first(), spans.last()) else {
            return;
        };
        let at = &self.layers[layer];
        let Some(window) = at.window(*first, *last) else {
            return;
        };
        let window = window.min(self.link.ahead());
        let here = at.compressed(*last).end;
        let distance = |span: usize| at.compressed(span).start.saturating_sub(here);
        let beside = self.forecast.beside(layer, *last);
        let mut flights = at.flights();
        let missing: Vec<usize> = (last + 1..at.span_count())
            .take_while(|span| distance(*span) < window)
            .filter(|span| !at.cache.is_claimed(*span) && !flights.contains_key(span))
            .filter(|span| beside.has(*span))
            .collect();
        // While half a window is still ahead, wait until there is more to ask for at once.
        if missing
            .first()
            .is_none_or(|nearest| distance(*nearest) > window / 2)
        {
            return;
        }
        let joining = Joining {
            gap: beside.gap(),
            most: self.link.stretch(),
        };
        for run in plan::runs(at, &missing, joining) {
            let Some(connection) = self.connections.spare() else {
                return;
            };
            let flight = self.take_off(Lane::Reader, layer, run, &mut flights);
            self.runtime
                .spawn(flight.over(connection).fly(Instant::now()));
        }
    }
}

impl Layer {
    /// Compressed bytes that are worth having after what was just read.
    fn window(&self, first: usize, last: usize) -> Option<u64> {
        let stream = {
            let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
            ahead.note(first, last)?
        };
        let begun_at = self.compressed(stream.first_span).start;
        let come = self.compressed(last).end.saturating_sub(begun_at);
        Some(stream.window.max((come / 2).min(LONG_WINDOW)))
    }
}
