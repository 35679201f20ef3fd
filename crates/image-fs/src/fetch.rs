//! Fetching spans: who wants what, one flight for all who want the same, and bytes for a read.
//!
//! A flight is a task of its own that fetches one run of spans, decodes, verifies, keeps and
//! publishes them; readers only wait for its seats. So a reader that goes away takes nothing from
//! the others, and what was fetched for it is kept.

mod ahead;
mod arrivals;
mod backlog;
mod connections;
mod fill;
mod flight;
mod gate;
mod link;
mod prefetch;
mod read;
mod request;
mod rest;
mod spare;
mod whole;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use layer_index::LayerIndex;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::blob::BlobSource;
use crate::cache::LayerCache;
use crate::error::ReadError;
use crate::limits::{FLIGHT_REQUESTS, MAX_GAP, MAX_RANGE, REST_REQUESTS};
use crate::notice::{Notice, NoticeKind, NoticeSink};
use crate::plan::{self, Joining, Layout, Run};
use crate::readahead::ReadAhead;
use crate::stats::Counters;

use self::backlog::{Backlog, Purpose};
use self::connections::Connections;
use self::fill::Filling;
pub(crate) use self::fill::fill;
use self::flight::Flight;
use self::gate::Gate;
use self::link::Link;
pub(crate) use self::prefetch::{Forecast, prefetch};
pub(crate) use self::rest::fetch_rest;
use self::spare::Spare;
pub(crate) use self::whole::bring_whole;

/// For whom a flight is. What is foretold has connections and decoders of its own, so that a reader
/// never stands in line behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    /// Somebody reads it, or is about to.
    Reader,
    /// Nobody has asked for it yet: it is given up at the first failure, and knocks at no gate.
    Foretold,
    /// The same, of a layer of which much is wanted.
    Rest,
    /// The same, while nobody reads anything.
    Fill,
}

impl Lane {
    /// Nobody waits for it, and what becomes of it concerns nobody.
    fn is_quiet(self) -> bool {
        self != Self::Reader
    }

    fn purpose(self) -> Purpose {
        match self {
            Self::Reader | Self::Foretold => Purpose::Wanted,
            Self::Rest | Self::Fill => Purpose::Spare,
        }
    }

    /// What one flight may have under way at once.
    fn requests(self) -> usize {
        if self == Self::Fill {
            1
        } else {
            FLIGHT_REQUESTS
        }
    }
}

/// What became of a span that was waited for.
#[derive(Clone, Debug)]
enum Outcome {
    Pending,
    /// It is in the cache.
    Stored,
    /// It is not in the cache, but here.
    Bytes(Bytes),
    Failed(ReadError),
    /// It was only foretold, and did not come: whoever wants it fetches it.
    GivenUp,
}

/// A layer and all that is going on with it.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) cache: LayerCache,
    flights: Mutex<HashMap<usize, watch::Receiver<Outcome>>>,
    ahead: Mutex<ReadAhead>,
    /// The source does not give this layer, as far as the last answer went.
    missing: AtomicBool,
    /// Fetching ahead of the reads has failed here, as more of it would.
    prefetch_failed: AtomicBool,
    /// Bytes that programs have read of, whole spans when decoded.
    wanted: AtomicU64,
    /// Enough of them that the rest is fetched, or was.
    rest_is_fetched: AtomicBool,
}

impl Layer {
    pub(crate) fn new(cache: LayerCache) -> Self {
        Self {
            cache,
            flights: Mutex::default(),
            ahead: Mutex::default(),
            missing: AtomicBool::default(),
            prefetch_failed: AtomicBool::default(),
            wanted: AtomicU64::default(),
            rest_is_fetched: AtomicBool::default(),
        }
    }

    fn index(&self) -> &LayerIndex {
        self.cache.index()
    }

    fn digest(&self) -> &str {
        &self.index().header().layer_digest
    }

    /// Where this span's checkpoint lies in the compressed layer, and where its last byte does.
    fn compressed(&self, span: usize) -> Range<u64> {
        self.index().compressed_range(span, span)
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<usize, watch::Receiver<Outcome>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Layout for Layer {
    fn span_count(&self) -> usize {
        self.index().spans().len()
    }

    fn group(&self, span: usize) -> Run {
        let spans = self.index().spans();
        let Some(checkpoint) = spans.get(span).map(|entry| entry.checkpoint) else {
            return Run {
                first: span,
                last: span,
            };
        };
        let first = spans.partition_point(|entry| entry.checkpoint < checkpoint);
        let after = spans.partition_point(|entry| entry.checkpoint <= checkpoint);
        Run {
            first: first.min(span),
            last: after.saturating_sub(1).max(span),
        }
    }

    fn compressed_range(&self, run: Run) -> Range<u64> {
        self.index().compressed_range(run.first, run.last)
    }
}

/// Everything that flights share.
#[derive(Debug)]
pub(crate) struct Fetcher {
    pub(crate) layers: Vec<Layer>,
    pub(crate) counters: Counters,
    pub(crate) forecast: Forecast,
    source: Arc<dyn BlobSource>,
    connections: Connections,
    decoders: Semaphore,
    /// Beside the decoders for readers: one core fewer, so that one is always theirs.
    prefetch_decoders: Semaphore,
    gate: Gate,
    /// Closed by failures of what was only foretold, which are no reader's; opened by any answer.
    prefetch_gate: Gate,
    /// The source gives nothing more to who only prefetches: waiting does not help.
    prefetch_refused: AtomicBool,
    /// Flights that are under way for what was foretold.
    foretold_flights: AtomicUsize,
    /// For the rest of layers.
    rest_turns: Arc<Semaphore>,
    filling: Filling,
    spare: Spare,
    backlog: Arc<Backlog>,
    link: Link,
    read_deadline: Duration,
    pub(crate) runtime: Handle,
    notices: Notices,
    told_full: AtomicBool,
}

struct Notices(Option<NoticeSink>);

impl std::fmt::Debug for Notices {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Notices({})", self.0.is_some())
    }
}

/// How a fetcher is set up.
pub(crate) struct FetcherOptions {
    pub(crate) source: Arc<dyn BlobSource>,
    pub(crate) connections: usize,
    pub(crate) read_deadline: Duration,
    pub(crate) runtime: Handle,
    pub(crate) notices: Option<NoticeSink>,
}

impl Fetcher {
    pub(crate) fn new(layers: Vec<Layer>, options: FetcherOptions) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            forecast: Forecast::new(layers.iter().map(Layout::span_count)),
            layers,
            counters: Counters::default(),
            source: options.source,
            connections: Connections::new(options.connections),
            decoders: Semaphore::new(cores),
            prefetch_decoders: Semaphore::new((cores - 1).max(1)),
            gate: Gate::default(),
            prefetch_gate: Gate::default(),
            prefetch_refused: AtomicBool::default(),
            foretold_flights: AtomicUsize::default(),
            rest_turns: Arc::new(Semaphore::new(REST_REQUESTS)),
            filling: Filling::default(),
            spare: Spare::default(),
            backlog: Arc::default(),
            link: Link::default(),
            read_deadline: options.read_deadline,
            runtime: options.runtime,
            notices: Notices(options.notices),
            told_full: AtomicBool::default(),
        }
    }

    fn decoders(&self, lane: Lane) -> &Semaphore {
        match lane {
            Lane::Reader => &self.decoders,
            Lane::Foretold | Lane::Rest | Lane::Fill => &self.prefetch_decoders,
        }
    }

    fn notice(&self, kind: NoticeKind, message: impl Into<String>) {
        if let Some(sink) = &self.notices.0 {
            sink(Notice {
                kind,
                message: message.into(),
            });
        }
    }

    /// Returns when every span is in the cache or in `held`.
    async fn bring(
        self: &Arc<Self>,
        layer: usize,
        spans: &[usize],
        deadline: Instant,
        held: &mut BTreeMap<usize, Bytes>,
    ) -> Result<(), ReadError> {
        self.verify(layer, spans).await?;
        loop {
            let cache = &self.layers[layer].cache;
            let is_missing = |span: &usize| !held.contains_key(span) && !cache.is_verified(*span);
            let missing: Vec<usize> = spans.iter().copied().filter(is_missing).collect();
            if missing.is_empty() {
                return Ok(());
            }
            let _waiting = self.backlog.reader();
            for (span, receiver) in self.board(layer, &missing, held) {
                match self.landing(layer, receiver).await {
                    Outcome::Bytes(bytes) => drop(held.insert(span, bytes)),
                    // What was begun by read-ahead gives up early; this reader does not.
                    Outcome::Failed(ReadError::Deadline { .. }) if Instant::now() < deadline => {
                        break;
                    }
                    Outcome::GivenUp => break,
                    Outcome::Failed(error) => return Err(error),
                    Outcome::Stored | Outcome::Pending => {}
                }
            }
        }
    }

    async fn landing(&self, layer: usize, receiver: watch::Receiver<Outcome>) -> Outcome {
        let mut receiver = receiver;
        let landed = receiver
            .wait_for(|outcome| !matches!(outcome, Outcome::Pending))
            .await;
        match landed {
            Ok(outcome) => outcome.clone(),
            Err(_) => Outcome::Failed(self.internal(layer, "the fetch was abandoned")),
        }
    }

    /// Looks at claims of the cache, away from the runtime's workers.
    async fn verify(self: &Arc<Self>, layer: usize, spans: &[usize]) -> Result<(), ReadError> {
        let cache = &self.layers[layer].cache;
        let unverified: Vec<usize> = spans
            .iter()
            .copied()
            .filter(|span| !cache.is_verified(*span))
            .collect();
        let fetcher = Arc::clone(self);
        let look = move || {
            for span in unverified {
                fetcher.layers[layer].cache.verify(span);
            }
        };
        let looked = self.runtime.spawn_blocking(look).await;
        looked.map_err(|_| self.internal(layer, "checking the cache failed"))
    }

    /// Joins flights that carry the wanted spans, and starts flights for what no flight carries.
    fn board(
        self: &Arc<Self>,
        layer: usize,
        wanted: &[usize],
        held: &mut BTreeMap<usize, Bytes>,
    ) -> Vec<(usize, watch::Receiver<Outcome>)> {
        let at = &self.layers[layer];
        let mut flights = at.flights();
        let mut grounded = Vec::new();
        for span in wanted
            .iter()
            .copied()
            .filter(|span| !at.cache.is_verified(*span))
        {
            if let Some(bytes) = self.spare.get(layer, span) {
                held.insert(span, bytes);
            } else if !flights.contains_key(&span) {
                grounded.push(span);
            }
        }
        self.filling.join(layer, wanted);
        let deadline = Instant::now() + self.read_deadline;
        let joining = Joining {
            gap: MAX_GAP,
            most: MAX_RANGE,
        };
        for run in plan::runs(at, &grounded, joining) {
            let beside = self.forecast.beside(layer, run.last);
            let is_worth_it = |span| {
                !at.cache.is_claimed(span) && !flights.contains_key(&span) && beside.has(span)
            };
            let run = plan::lengthen(at, run, self.unit(at, run), is_worth_it);
            let flight = self.take_off(Lane::Reader, layer, run, &mut flights);
            self.runtime.spawn(flight.fly(deadline));
        }
        wanted
            .iter()
            .filter(|span| !held.contains_key(span) && !at.cache.is_verified(**span))
            .filter_map(|span| Some((*span, flights.get(span)?.clone())))
            .collect()
    }

    /// A flight for a run, to be flown at once. Spans that are here, or in another flight, get no
    /// seat.
    fn take_off(
        self: &Arc<Self>,
        lane: Lane,
        layer: usize,
        run: Run,
        flights: &mut HashMap<usize, watch::Receiver<Outcome>>,
    ) -> Flight {
        if lane != Lane::Fill {
            self.filling.give_way();
        }
        let cache = &self.layers[layer].cache;
        let mut seats = BTreeMap::new();
        for span in run.first..=run.last {
            if !cache.is_verified(span) && !flights.contains_key(&span) {
                let (sender, receiver) = watch::channel(Outcome::Pending);
                flights.insert(span, receiver);
                seats.insert(span, sender);
            }
        }
        Flight::new(Arc::clone(self), lane, (layer, run), seats)
    }

    fn internal(&self, layer: usize, message: &str) -> ReadError {
        let layer = self
            .layers
            .get(layer)
            .map(|layer| layer.digest().to_owned());
        ReadError::Internal {
            layer: layer.unwrap_or_default(),
            message: message.to_owned(),
        }
    }
}
