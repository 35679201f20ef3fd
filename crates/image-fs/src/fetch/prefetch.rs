//! Fetching what a start was foretold to read, before anything reads it.
//!
//! In the order in which it was read before, neighbours in one request, a few requests at once. A
//! reader joins a flight that is under way and waits for none that is not; what is foretold stops
//! where it is of no use: the program reads other things, or reads nothing, or nothing is kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering::Relaxed};

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::flight::Flight;
use super::{Fetcher, Lane};
use crate::limits::{FORETOLD_REQUESTS, MAX_FORETOLD_GAP, MAX_FORETOLD_RANGE, MAX_GAP};
use crate::plan::{self, Joining, Run};
use crate::stats::Counters;
use crate::trace::{MAX_TRACE_ENTRIES, TraceEntry};

/// Decoded bytes that were foretold, are fetched and that nothing has read. A start of Python with
/// its libraries reads less altogether; beyond it nothing is fetched until something of it is read.
/// What alone decodes to more is left to its reader.
const MAX_UNREAD: i64 = 256 * 1024 * 1024;

/// First touches that say whether the forecast is any good. Any program touches a dozen spans that
/// another one of the same image touches too: the loader, the C library.
const SAMPLE: u64 = 32;

/// A forecast of which less than one touch in so many comes true is of another program.
const WORST_SHARE: u64 = 4;

/// A forecast of a start says what is read beside a span as long as at most one first touch in so
/// many was not of it. Another program, or this one with its start behind it, soon has more.
const SURPRISES: u64 = 8;

/// What of a layer is worth one request.
const PORTION: Joining = Joining {
    gap: MAX_FORETOLD_GAP,
    most: MAX_FORETOLD_RANGE,
};

/// It was foretold that this span is read.
const FORETOLD: u8 = 1;
/// It was fetched for that alone, or for a neighbour's sake, or is being fetched.
const FETCHED: u8 = 2;
/// It counts as unread, unless it was touched.
const COUNTED: u8 = 4;
/// A program has read it.
const TOUCHED: u8 = 8;

/// What was foretold of the reads of an image, and what has come true.
#[derive(Debug)]
pub(crate) struct Forecast {
    spans: Vec<Box<[AtomicU8]>>,
    touches: AtomicU64,
    come_true: AtomicU64,
    /// It is of a start that somebody has seen, and not guessed.
    was_seen: AtomicBool,
    /// Each span is added once and taken away once, in any order: so it may be negative in between.
    unread_bytes: AtomicI64,
    /// Something was read.
    read: Notify,
}

impl Forecast {
    /// Of an image whose layers have this many spans each.
    pub(crate) fn new(spans: impl Iterator<Item = usize>) -> Self {
        let of_layer = |count| {
            let unknown = std::iter::repeat_with(AtomicU8::default);
            unknown.take(count).collect()
        };
        Self {
            spans: spans.map(of_layer).collect(),
            touches: AtomicU64::default(),
            come_true: AtomicU64::default(),
            was_seen: AtomicBool::default(),
            unread_bytes: AtomicI64::default(),
            read: Notify::new(),
        }
    }

    /// A program touched this span, which decodes to so many bytes, for the first time. True when
    /// it was fetched because of the forecast.
    pub(crate) fn touched(&self, layer: usize, span: usize, bytes: u64) -> bool {
        let state = self.of(layer, span);
        let state = state.map_or(0, |state| state.fetch_or(TOUCHED, Relaxed));
        self.touches.fetch_add(1, Relaxed);
        if state & FORETOLD != 0 {
            self.come_true.fetch_add(1, Relaxed);
        }
        if state & COUNTED != 0 {
            self.unread_bytes.fetch_sub(signed(bytes), Relaxed);
        }
        self.read.notify_one();
        state & FETCHED != 0
    }

    /// A flight has set out for this span.
    fn fetching(&self, layer: usize, span: usize, bytes: u64) {
        let Some(state) = self.of(layer, span) else {
            return;
        };
        let mut marks = FETCHED;
        if state.load(Relaxed) & FORETOLD != 0 {
            marks |= COUNTED;
        }
        let before = state.fetch_or(marks, Relaxed);
        if marks & COUNTED != 0 && before & (COUNTED | TOUCHED) == 0 {
            self.unread_bytes.fetch_add(signed(bytes), Relaxed);
        }
    }

    /// The flight came back without it.
    pub(super) fn not_fetched(&self, layer: usize, span: usize, bytes: u64) {
        let Some(state) = self.of(layer, span) else {
            return;
        };
        let before = state.fetch_and(!(FETCHED | COUNTED), Relaxed);
        if before & (COUNTED | TOUCHED) == COUNTED {
            self.unread_bytes.fetch_sub(signed(bytes), Relaxed);
            self.read.notify_one();
        }
    }

    fn of(&self, layer: usize, span: usize) -> Option<&AtomicU8> {
        self.spans.get(layer)?.get(span)
    }

    /// Layer and span of an entry, where the image has them and they were not foretold before.
    fn foretell(&self, entry: TraceEntry) -> Option<(usize, usize)> {
        let layer = usize::try_from(entry.layer).ok()?;
        let span = usize::try_from(entry.span).ok()?;
        let state = self.of(layer, span)?;
        let is_news = state.fetch_or(FORETOLD, Relaxed) & FORETOLD == 0;
        is_news.then_some((layer, span))
    }

    fn is_wrong(&self) -> bool {
        let (touches, come_true) = (self.touches.load(Relaxed), self.come_true.load(Relaxed));
        touches >= SAMPLE && come_true.saturating_mul(WORST_SHARE) < touches
    }

    /// What is foretold was seen at a start like this one: what that start did not read, this one
    /// does not either.
    pub(crate) fn is_of_a_start(&self) {
        self.was_seen.store(true, Relaxed);
    }

    /// What is worth fetching beside this span, and after it.
    pub(super) fn beside(&self, layer: usize, span: usize) -> Beside<'_> {
        let (touches, come_true) = (self.touches.load(Relaxed), self.come_true.load(Relaxed));
        let surprises = touches.saturating_sub(come_true).saturating_mul(SURPRISES);
        let spans = self.spans.get(layer).map(AsRef::as_ref);
        let is_known = self.was_seen.load(Relaxed) && surprises <= touches;
        let known = spans.filter(|spans| is_known && is_foretold(spans, span));
        Beside(known)
    }

    /// Waits while much is unread already. False when no more is of any use.
    async fn goes_on(&self) -> bool {
        loop {
            if self.is_wrong() {
                return false;
            }
            if self.unread_bytes.load(Relaxed) < MAX_UNREAD {
                return true;
            }
            self.read.notified().await;
        }
    }
}

fn is_foretold(spans: &[AtomicU8], span: usize) -> bool {
    let state = spans.get(span).map_or(0, |state| state.load(Relaxed));
    state & FORETOLD != 0
}

/// Spans of a layer of which some may be known to be read by nobody.
pub(super) struct Beside<'a>(Option<&'a [AtomicU8]>);

impl Beside<'_> {
    pub(super) fn has(&self, span: usize) -> bool {
        self.0.is_none_or(|spans| is_foretold(spans, span))
    }

    /// The needless bytes that a request is worth.
    pub(super) fn gap(&self) -> u64 {
        self.0.map_or(MAX_GAP, |_| MAX_FORETOLD_GAP)
    }
}

/// Spans of one layer that are worth one request, ascending, each with its place among all that is
/// foretold.
struct Portion {
    layer: usize,
    spans: Vec<(usize, usize)>,
}

/// Portions by the place of the first of their spans to be read.
type Queue = BTreeMap<usize, Portion>;

/// Fetches what is foretold. Returns when all of it has landed, or when it is of no use to go on
/// and what is under way has landed. Dropped, it takes its flights along.
pub(crate) async fn prefetch(fetcher: Arc<Fetcher>, foretold: Vec<TraceEntry>) {
    let mut flights = JoinSet::new();
    let mut queue = portions(&fetcher, foretold);
    while !queue.is_empty() {
        while flights.len() >= FORETOLD_REQUESTS {
            flights.join_next().await;
        }
        if !fetcher.may_prefetch().await {
            break;
        }
        // Only now: a reader may have fetched it while this was waiting.
        if let Some(flight) = fetcher.take_off_foretold(&mut queue) {
            flights.spawn_on(flight.fly(Instant::now()), &fetcher.runtime);
        }
    }
    // A reader may have joined what is under way.
    while flights.join_next().await.is_some() {}
}

/// What is not here.
fn portions(fetcher: &Fetcher, foretold: Vec<TraceEntry>) -> Queue {
    let mut wanted: Vec<BTreeMap<usize, usize>> = vec![BTreeMap::new(); fetcher.layers.len()];
    let entries = foretold.into_iter().take(MAX_TRACE_ENTRIES);
    for (rank, (layer, span)) in entries
        .filter_map(|entry| fetcher.forecast.foretell(entry))
        .enumerate()
    {
        if !fetcher.layers[layer].cache.is_claimed(span) {
            wanted[layer].insert(span, rank);
        }
    }
    let mut queue = Queue::new();
    for (layer, ranks) in wanted.iter().enumerate() {
        let spans: Vec<_> = ranks.iter().map(|(span, rank)| (*span, *rank)).collect();
        fetcher.enqueue(&Portion { layer, spans }, PORTION, &mut queue);
    }
    queue
}

impl Fetcher {
    /// Waits until a request is in nobody's way. False when no more is of any use.
    async fn may_prefetch(&self) -> bool {
        self.gate.opened().await;
        self.prefetch_gate.opened().await;
        let has_room = |pressure| self.link.carries_foretold(pressure);
        self.backlog.eased(has_room).await;
        self.forecast.goes_on().await
            && !self.told_full.load(Relaxed)
            && !self.prefetch_refused.load(Relaxed)
    }

    /// Cuts a portion into such as are worth one request each.
    fn enqueue(&self, portion: &Portion, worth: Joining, queue: &mut Queue) {
        let spans: Vec<usize> = portion.spans.iter().map(|(span, _)| *span).collect();
        for run in plan::runs(&self.layers[portion.layer], &spans, worth) {
            let is_in_run = |(span, _): &&(usize, usize)| (run.first..=run.last).contains(span);
            let spans: Vec<_> = portion.spans.iter().filter(is_in_run).copied().collect();
            if let Some(earliest) = spans.iter().map(|(_, rank)| *rank).min() {
                let layer = portion.layer;
                queue.insert(earliest, Portion { layer, spans });
            }
        }
    }

    /// A flight for what is read first of what nobody has fetched meanwhile, or is fetching, as
    /// much as the link carries at once. None where there is nothing left of the first portion.
    fn take_off_foretold(self: &Arc<Self>, queue: &mut Queue) -> Option<Flight> {
        let (_, mut portion) = queue.pop_first()?;
        let layer = portion.layer;
        let at = &self.layers[layer];
        let mut flights = at.flights();
        if at.prefetch_failed.load(Relaxed) {
            return None;
        }
        let is_missing = |span| !at.cache.is_claimed(span) && !flights.contains_key(&span);
        portion.spans.retain(|(span, _)| is_missing(*span));
        let earliest = portion.spans.iter().map(|(_, rank)| *rank).min()?;
        let worth = Joining {
            most: self.link.portion(),
            ..PORTION
        };
        self.enqueue(&portion, worth, queue);
        let spans: Vec<usize> = queue
            .remove(&earliest)?
            .spans
            .iter()
            .map(|(span, _)| *span)
            .collect();
        let run = *plan::runs(at, &spans, worth).first()?;
        if self.run_bytes(layer, run) > MAX_UNREAD.unsigned_abs() {
            return None;
        }
        let flight = self.take_off(Lane::Foretold, layer, run, &mut flights);
        drop(flights);
        for span in flight.spans() {
            Counters::add(&self.counters.spans_prefetched, 1);
            let bytes = self.decoded_bytes(layer, span);
            self.forecast.fetching(layer, span, bytes);
        }
        let has_seats = flight.spans().next().is_some();
        has_seats.then_some(flight)
    }

    pub(super) fn run_bytes(&self, layer: usize, run: Run) -> u64 {
        let spans = run.first..=run.last;
        spans.fold(0, |sum, span| {
            sum.saturating_add(self.decoded_bytes(layer, span))
        })
    }

    pub(crate) fn decoded_bytes(&self, layer: usize, span: usize) -> u64 {
        let spans = self.layers[layer].index().spans();
        spans.get(span).map_or(0, |span| span.length.into())
    }
}

/// Spans are far below what this cuts off.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn forecast(foretold: u32) -> Forecast {
        let forecast = Forecast::new([1000].into_iter());
        for span in 0..foretold {
            let entry = TraceEntry {
                layer: 0,
                span,
                at_ms: 0,
            };
            assert!(forecast.foretell(entry).is_some());
        }
        forecast
    }

    async fn goes_on(forecast: &Forecast) -> Option<bool> {
        let waiting = tokio::time::timeout(Duration::from_secs(1), forecast.goes_on());
        waiting.await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_forecast_is_as_good_as_what_comes_true_of_it() {
        for (foretold, touched, expected) in [
            (0, 31, true),
            (0, 32, false),
            (7, 32, false),
            (8, 32, true),
            (1000, 500, true),
            (100, 401, false),
        ] {
            let forecast = forecast(foretold);
            for span in 0..touched {
                assert!(!forecast.touched(0, span, 1));
            }
            let found = goes_on(&forecast).await;
            assert_eq!(
                found,
                Some(expected),
                "{touched} touches, {foretold} foretold"
            );
        }
    }

    #[test]
    fn what_was_not_read_beside_a_span_is_worth_nothing_while_the_forecast_holds() {
        for (of_a_start, touched, more, is_worth_it) in [
            (true, 0, 0, false),
            (true, 100, 0, false),
            (true, 70, 10, false),
            (true, 70, 11, true),
            (true, 0, 1, true),
            (false, 100, 0, true),
        ] {
            let forecast = forecast(100);
            if of_a_start {
                forecast.is_of_a_start();
            }
            for span in (0..touched).chain(500..500 + more) {
                forecast.touched(0, span, 1);
            }
            let case = format!("{touched} and {more}, {of_a_start}");
            let beside = forecast.beside(0, 99);
            assert_eq!(beside.has(100), is_worth_it, "{case}");
            assert_eq!(beside.gap() == MAX_GAP, is_worth_it, "{case}");
            assert!(beside.has(98) && forecast.beside(0, 100).has(101), "{case}");
            assert!(forecast.beside(1, 99).has(100), "there is no such layer");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_reads_is_waited_for() {
        let forecast = forecast(10);
        forecast.unread_bytes.store(MAX_UNREAD, Relaxed);
        assert_eq!(goes_on(&forecast).await, None);
        forecast.touched(0, 5, 1000);
        assert_eq!(
            goes_on(&forecast).await,
            None,
            "it was not fetched for the forecast"
        );
        forecast.unread_bytes.fetch_sub(1000, Relaxed);
        forecast.fetching(0, 6, 1000);
        assert_eq!(goes_on(&forecast).await, None);
        assert!(forecast.touched(0, 6, 1000));
        assert_eq!(goes_on(&forecast).await, Some(true));
    }

    #[test]
    fn only_what_was_foretold_and_fetched_and_not_read_counts() {
        let forecast = forecast(10);
        let unread = || forecast.unread_bytes.load(Relaxed);
        forecast.fetching(0, 20, 1000);
        assert_eq!(unread(), 0, "it was fetched for a neighbour's sake");
        assert!(forecast.touched(0, 20, 1000));
        assert!(!forecast.touched(0, 1, 1000));
        forecast.fetching(0, 1, 1000);
        assert_eq!(unread(), 0, "it was read before");
        forecast.fetching(0, 2, 1000);
        assert_eq!(unread(), 1000);
        forecast.not_fetched(0, 2, 1000);
        assert_eq!(unread(), 0, "it did not come");
        assert!(!forecast.touched(0, 2, 1000));
        forecast.fetching(0, 3, 1000);
        assert!(forecast.touched(0, 3, 1000));
        forecast.not_fetched(0, 3, 1000);
        assert_eq!(unread(), 0, "it is given back once");
    }
}
