//! Fetching spans: who wants what, one flight for all who want the same, and bytes for a read.
//!
//! A flight is a task of its own that fetches one run of spans, decodes, verifies, keeps and
//! publishes them; readers only wait for its seats. So a reader that goes away takes nothing from
//! the others, and what was fetched for it is kept.

mod ahead;
mod arrivals;
mod backlog;
mod connections;
mod flight;
mod gate;
mod link;
mod prefetch;
mod request;
mod rest;
mod spare;

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
use crate::limits::{MAX_GAP, MAX_RANGE, REST_REQUESTS};
use crate::notice::{Notice, NoticeKind, NoticeSink};
use crate::plan::{self, Joining, Layout, Piece, Run};
use crate::readahead::ReadAhead;
use crate::stats::Counters;

use self::backlog::{Backlog, Purpose};
use self::connections::Connections;
use self::flight::Flight;
use self::gate::Gate;
use self::link::Link;
pub(crate) use self::prefetch::{Forecast, prefetch};
pub(crate) use self::rest::fetch_rest;
use self::spare::Spare;

/// How often a read may find its span gone from the disk after it was fetched. Something else is
/// then writing to the cache, and it is not a reader's place to outlast it.
const MAX_ROUNDS: usize = 4;

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
}

impl Lane {
    /// Nobody waits for it, and what becomes of it concerns nobody.
    fn is_quiet(self) -> bool {
        self != Self::Reader
    }

    fn purpose(self) -> Purpose {
        match self {
            Self::Reader | Self::Foretold => Purpose::Wanted,
            Self::Rest => Purpose::Spare,
        }
    }
}

/// A span that had been verified is not in its file any more.
struct Gone;

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
            Lane::Foretold | Lane::Rest => &self.prefetch_decoders,
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

    /// The read's bytes, if all of them are in the cache. Blocks on the disk only.
    pub(crate) fn fill_cached(
        self: &Arc<Self>,
        layer: usize,
        pieces: &[Piece],
        length: usize,
    ) -> Option<Bytes> {
        let bytes = self.peek(layer, pieces, length)?;
        self.read_ahead(layer, &self.spans_of(layer, pieces).ok()?);
        Some(bytes)
    }

    /// The same for who does not read on.
    pub(crate) fn peek(&self, layer: usize, pieces: &[Piece], length: usize) -> Option<Bytes> {
        let spans = self.spans_of(layer, pieces).ok()?;
        let cache = &self.layers.get(layer)?.cache;
        if !spans.iter().all(|span| cache.verify(*span)) {
            return None;
        }
        self.assemble(layer, pieces, length, &BTreeMap::new()).ok()
    }

    /// The read's bytes, fetched where they are missing.
    pub(crate) async fn fill(
        self: &Arc<Self>,
        layer: usize,
        pieces: &[Piece],
        length: usize,
    ) -> Result<Bytes, ReadError> {
        let result = self.fetch_and_assemble(layer, pieces, length).await;
        if let Err(error) = &result {
            self.notice(NoticeKind::Failed, error.to_string());
        }
        result
    }

    async fn fetch_and_assemble(
        self: &Arc<Self>,
        layer: usize,
        pieces: &[Piece],
        length: usize,
    ) -> Result<Bytes, ReadError> {
        let spans = self.spans_of(layer, pieces)?;
        let deadline = Instant::now() + self.read_deadline;
        let mut held = BTreeMap::new();
        for _ in 0..MAX_ROUNDS {
            self.bring(layer, &spans, deadline, &mut held).await?;
            self.read_ahead(layer, &spans);
            match self.assemble(layer, pieces, length, &held) {
                Ok(bytes) => return Ok(bytes),
                // Something cut the file under us, and may have taken more than this read's bytes.
                Err(Gone) => self.layers[layer].cache.doubt(),
            }
        }
        Err(self.internal(layer, "the span cache loses what is written to it"))
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

    /// The spans that hold the pieces, ascending, each once.
    pub(crate) fn spans_of(&self, layer: usize, pieces: &[Piece]) -> Result<Vec<usize>, ReadError> {
        let at = self.layers.get(layer).ok_or(ReadError::NoSuchInode)?;
        let size = at.index().header().uncompressed_size;
        let mut spans = Vec::new();
        for piece in pieces {
            let end = piece.layer_offset.saturating_add(piece.length as u64);
            if end > size {
                return Err(self.internal(layer, "a file lies outside its layer"));
            }
            let first = at.index().span_at(piece.layer_offset);
            spans.extend(first..=at.index().span_at(end - 1));
        }
        spans.sort_unstable();
        spans.dedup();
        Ok(spans)
    }

    /// Puts the read together, unless the cache does not have all of it after all.
    fn assemble(
        &self,
        layer: usize,
        pieces: &[Piece],
        length: usize,
        held: &BTreeMap<usize, Bytes>,
    ) -> Result<Bytes, Gone> {
        let at = &self.layers[layer];
        let mut buffer = vec![0; length];
        for piece in pieces {
            let target = &mut buffer[piece.buffer_offset..piece.buffer_offset + piece.length];
            at.copy(piece.layer_offset, target, held)?;
        }
        Ok(buffer.into())
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

impl Layer {
    fn copy(
        &self,
        layer_offset: u64,
        target: &mut [u8],
        held: &BTreeMap<usize, Bytes>,
    ) -> Result<(), Gone> {
        let first = self.index().span_at(layer_offset);
        if held.is_empty() {
            let is_there = self.cache.read_at(target, layer_offset);
            return if is_there { Ok(()) } else { Err(Gone) };
        }
        let mut done = 0;
        for span in first.. {
            let Some(entry) = self
                .index()
                .spans()
                .get(span)
                .filter(|_| done < target.len())
            else {
                break;
            };
            let at = layer_offset + done as u64;
            let left = usize::try_from(entry.end() - at).unwrap_or(usize::MAX);
            let end = done.saturating_add(left).min(target.len());
            let part = &mut target[done..end];
            let from = usize::try_from(at - entry.uncompressed_offset).unwrap_or(usize::MAX);
            let bytes = held
                .get(&span)
                .and_then(|bytes| bytes.get(from..from + part.len()));
            match bytes {
                Some(bytes) => part.copy_from_slice(bytes),
                None if self.cache.read_at(part, at) => {}
                None => return Err(Gone),
            }
            done = end;
        }
        Ok(())
    }
}
