//! What nobody has read of an image, while nobody reads: one long request at a time, behind
//! everything else.
//!
//! It begins when nothing was read for a while and nothing is under way, gives way to whatever else
//! sets out, and takes room that nobody has: nothing is evicted for it. One process at a time fills
//! a layer, however many have it open. It is given up like what is foretold: after a failure
//! nothing more is asked for until the source answers a reader.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::flight::Flight;
use super::{Fetcher, Lane, Layer};
use crate::limits::{FILL_AFTER, FILL_ROOM_STEP, FILL_TURN_EVERY, MAX_FILL_RUN};
use crate::plan::{self, Layout, Run};

/// What is being filled at the moment.
#[derive(Debug, Default)]
pub(super) struct Filling {
    current: Mutex<Option<Current>>,
    /// There is no room for more.
    is_over: AtomicBool,
}

#[derive(Debug)]
struct Current {
    layer: usize,
    run: Run,
    /// A reader waits for some of it: it is a reader's request from then on.
    is_joined: bool,
    gives_way: Arc<Notify>,
}

impl Filling {
    fn begin(&self, layer: usize, run: Run) -> Arc<Notify> {
        let gives_way = Arc::new(Notify::new());
        *self.current() = Some(Current {
            layer,
            run,
            is_joined: false,
            gives_way: Arc::clone(&gives_way),
        });
        gives_way
    }

    fn end(&self) {
        *self.current() = None;
    }

    /// A reader waits for these spans, which may be under way here.
    pub(super) fn join(&self, layer: usize, wanted: &[usize]) {
        if let Some(current) = self.current().as_mut()
            && current.layer == layer
        {
            let run = current.run.first..=current.run.last;
            current.is_joined |= wanted.iter().any(|span| run.contains(span));
        }
    }

    /// Something else sets out.
    pub(super) fn give_way(&self) {
        if let Some(current) = self.current().as_ref()
            && !current.is_joined
        {
            current.gives_way.notify_one();
        }
    }

    pub(super) fn is_over(&self) {
        self.is_over.store(true, Relaxed);
    }

    fn current(&self) -> MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of a layer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Filled {
    /// There is nothing more to do.
    Done,
    /// Another process fills it.
    Elsewhere,
    /// More is of no use, of whichever layer.
    Over,
}

/// What a fill goes by from one request to the next.
#[derive(Default)]
struct Progress {
    /// The reads that there had been when nothing was under way last.
    reads: Option<u64>,
    /// Decoded bytes that there was room for.
    room_bytes: u64,
}

/// Fetches what is missing of every layer, not before this time. Returns when nothing is, or when
/// it is of no use to go on. Dropped, it takes its flight along.
pub(crate) async fn fill(fetcher: Arc<Fetcher>, not_before: Duration) {
    tokio::time::sleep(not_before).await;
    let mut progress = Progress::default();
    loop {
        let mut is_elsewhere = false;
        for layer in 0..fetcher.layers.len() {
            match fetcher.fill_layer(layer, &mut progress).await {
                Filled::Done => {}
                Filled::Elsewhere => is_elsewhere = true,
                Filled::Over => return,
            }
        }
        if !is_elsewhere {
            return;
        }
        // Who fills it now may end before it is whole.
        tokio::time::sleep(FILL_TURN_EVERY).await;
    }
}

impl Fetcher {
    async fn fill_layer(self: &Arc<Self>, layer: usize, progress: &mut Progress) -> Filled {
        let cache = &self.layers[layer].cache;
        if self.run_to_fill(layer, 0).is_none() {
            return Filled::Done;
        }
        if !cache.begin_filling() {
            return Filled::Elsewhere;
        }
        let filled = self.fill_own(layer, progress).await;
        cache.end_filling();
        filled
    }

    /// Of a layer that no other process fills.
    async fn fill_own(self: &Arc<Self>, layer: usize, progress: &mut Progress) -> Filled {
        let mut from = 0;
        loop {
            self.wait_for_quiet(progress).await;
            if self.filling.is_over.load(Relaxed) || self.prefetch_refused.load(Relaxed) {
                return Filled::Over;
            }
            let Some(run) = self.run_to_fill(layer, from) else {
                return Filled::Done;
            };
            if !self.has_room_to_fill(layer, run, progress).await {
                return Filled::Over;
            }
            if !self.fill_run(layer, run).await {
                // Somebody is about to read, who may not have begun to.
                progress.reads = None;
            } else if self.is_answering() {
                from = run.last + 1;
            }
        }
    }

    /// Waits until nothing was read for a while, nothing is under way and the source answers.
    async fn wait_for_quiet(&self, progress: &mut Progress) {
        loop {
            self.gate.opened().await;
            self.prefetch_gate.opened().await;
            let reads = Some(self.counters.reads.load(Relaxed));
            if progress.reads == reads && self.is_idle() {
                return;
            }
            progress.reads = reads;
            tokio::time::sleep(FILL_AFTER).await;
        }
    }

    fn is_idle(&self) -> bool {
        self.connections.are_free() && self.foretold_flights.load(Relaxed) == 0
    }

    fn is_answering(&self) -> bool {
        let gates = [&self.gate, &self.prefetch_gate];
        gates.iter().all(|gate| gate.enter_if_open().is_ok())
    }

    /// What is fetched next, of what nobody has and nobody is fetching.
    fn run_to_fill(&self, layer: usize, from: usize) -> Option<Run> {
        let at = &self.layers[layer];
        if at.prefetch_failed.load(Relaxed) {
            return None;
        }
        let flights = at.flights();
        let is_missing = |span: usize| !at.cache.is_claimed(span) && !flights.contains_key(&span);
        let mut next = from;
        loop {
            let first = (next..at.span_count()).find(|span| is_missing(*span))?;
            let run = plan::lengthen(at, at.group(first), self.link.stretch(), is_missing);
            let range = at.compressed_range(run);
            if range.end.saturating_sub(range.start) <= MAX_FILL_RUN {
                return Some(run);
            }
            next = run.last + 1;
        }
    }

    /// Whether it fits beside everything that is there. Asked for many requests at once: whoever
    /// owns the cache measures it.
    async fn has_room_to_fill(
        self: &Arc<Self>,
        layer: usize,
        run: Run,
        progress: &mut Progress,
    ) -> bool {
        let needed = self.run_bytes(layer, run);
        if progress.room_bytes < needed {
            let asked = self.layers[layer].bytes_from(run).min(FILL_ROOM_STEP);
            let asked = asked.max(needed);
            let fetcher = Arc::clone(self);
            let ask = move || fetcher.layers[layer].cache.has_spare(asked);
            if !self.runtime.spawn_blocking(ask).await.unwrap_or(false) {
                return false;
            }
            progress.room_bytes = asked;
        }
        progress.room_bytes -= needed;
        true
    }

    /// True when there is no more to wait for, and false when it gave way.
    async fn fill_run(self: &Arc<Self>, layer: usize, run: Run) -> bool {
        let connection = self.connections.spare_when(|| self.is_idle()).await;
        let Some((flight, gives_way)) = self.flight_to_fill(layer, run) else {
            return true;
        };
        let flight = flight.over(connection);
        let flying = pin!(flight.fly(Instant::now()));
        let ended = tokio::select! {
            biased;
            () = flying => true,
            () = gives_way.notified() => false,
        };
        self.filling.end();
        ended
    }

    fn flight_to_fill(self: &Arc<Self>, layer: usize, run: Run) -> Option<(Flight, Arc<Notify>)> {
        let mut flights = self.layers[layer].flights();
        let flight = self.take_off(Lane::Fill, layer, run, &mut flights);
        flight.spans().next()?;
        // With the flights in hand: who joins one finds out that it is this one.
        Some((flight, self.filling.begin(layer, run)))
    }
}

impl Layer {
    /// Decoded bytes from the beginning of this run to the end of the layer.
    fn bytes_from(&self, run: Run) -> u64 {
        let spans = self.index().spans();
        let begun_at = spans
            .get(run.first)
            .map_or(0, |span| span.uncompressed_offset);
        self.index()
            .header()
            .uncompressed_size
            .saturating_sub(begun_at)
    }
}
