//! The filesystem of one image: its tree, and the bytes of its files.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use layer_index::{InodeId, NodeKind, Tree};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::blob::BlobSource;
use crate::cache::LayerCache;
use crate::error::{OpenError, ReadError, WholeError};
use crate::fetch::{Fetcher, FetcherOptions, Layer, bring_whole, fetch_rest, fill, prefetch};
use crate::notice::NoticeSink;
use crate::plan::{self, Piece};
use crate::startup::{Program, Startup};
use crate::stats::{Counters, FsStats};
use crate::trace::{Trace, TraceEntry};

/// How long a read waits for a source that is away or refuses: longer than a registry's restart
/// or a person's new login takes, shorter than most programs' patience.
const READ_DEADLINE: Duration = Duration::from_mins(2);

/// Requests at once. Single flows to object stores differ twentyfold; eight even that out.
const CONNECTIONS: usize = 8;

/// How long after the opening of an image anything is prefetched: a start is over by then. What
/// could not be fetched until then is not, with a credential that comes hours later.
const PREFETCH_FOR: Duration = Duration::from_mins(2);

/// How an image is read.
#[derive(Clone)]
pub struct FsOptions {
    pub read_deadline: Duration,
    pub connections: usize,
    pub notices: Option<NoticeSink>,
    /// What nobody has read is fetched while nobody reads, not sooner than so long after the
    /// opening: a start is over by then. Nothing where it is not to be fetched at all.
    pub fill_after: Option<Duration>,
}

impl Default for FsOptions {
    fn default() -> Self {
        Self {
            read_deadline: READ_DEADLINE,
            connections: CONNECTIONS,
            notices: None,
            fill_after: None,
        }
    }
}

impl std::fmt::Debug for FsOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("FsOptions")
            .field("read_deadline", &self.read_deadline)
            .field("connections", &self.connections)
            .field("fill_after", &self.fill_after)
            .finish_non_exhaustive()
    }
}

/// A merged image whose file bytes come when they are read.
#[derive(Debug)]
pub struct ImageFs {
    tree: Arc<Tree>,
    fetcher: Arc<Fetcher>,
    /// When times of the trace begin.
    opened: Instant,
    trace: Trace,
    /// What fetches ahead of the reads; ended with the filesystem.
    prefetching: Mutex<Vec<AbortHandle>>,
    bytes_total: u64,
    bytes_of_files: u64,
}

/// Where a read goes.
struct Target {
    layer: usize,
    pieces: Vec<Piece>,
    length: usize,
}

impl ImageFs {
    /// Merges `layers`, lowest first. Fetches run on the tokio runtime that this is called in.
    pub fn new(
        layers: Vec<LayerCache>,
        source: Arc<dyn BlobSource>,
        options: FsOptions,
    ) -> Result<Self, OpenError> {
        let runtime = Handle::try_current().map_err(|_| OpenError::NoRuntime)?;
        let indexes: Vec<_> = layers.iter().map(|layer| layer.index().clone()).collect();
        let tree = Arc::new(Tree::merge(&indexes)?);
        let spans = indexes.iter().map(|index| index.spans().len());
        let trace = Trace::new(spans);
        let bytes_total = indexes
            .iter()
            .map(|layer| layer.header().compressed_size)
            .fold(0, u64::saturating_add);
        let layers = layers.into_iter().map(Layer::new).collect();
        let fill_after = options.fill_after;
        let options = FetcherOptions {
            source,
            connections: options.connections,
            read_deadline: options.read_deadline,
            runtime,
            notices: options.notices,
        };
        let fetcher = Arc::new(Fetcher::new(layers, options));
        let bytes_of_files = bytes_of_files(&tree);
        let fs = Self {
            tree,
            fetcher,
            opened: Instant::now(),
            trace,
            prefetching: Mutex::default(),
            bytes_total,
            bytes_of_files,
        };
        if let Some(wait) = fill_after {
            fs.in_background(fill(Arc::clone(&fs.fetcher), wait));
        }
        Ok(fs)
    }

    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The bytes, if they are all on this machine. Never waits for the source, so it may be
    /// called from a thread outside of the runtime; it may wait for the disk.
    pub fn read_cached(&self, inode: InodeId, offset: u64, length: usize) -> Option<Bytes> {
        let target = self.target(inode, offset, length).ok()?;
        let bytes = self
            .fetcher
            .read_cached(target.layer, &target.pieces, target.length)?;
        self.touch(&target);
        self.fetch_rest(&target);
        self.fetcher.counters.served(bytes.len(), Duration::ZERO);
        Some(bytes)
    }

    /// The bytes of the file at `offset`: `length` of them, or fewer at its end. Waits for the
    /// source as long as `FsOptions` says.
    pub async fn read(
        &self,
        inode: InodeId,
        offset: u64,
        length: usize,
    ) -> Result<Bytes, ReadError> {
        let target = self.target(inode, offset, length)?;
        self.touch(&target);
        let begun = Instant::now();
        let bytes = self
            .fetcher
            .read(target.layer, &target.pieces, target.length)
            .await?;
        self.fetch_rest(&target);
        self.fetcher
            .counters
            .served(bytes.len(), begun.elapsed().max(Duration::from_micros(1)));
        Ok(bytes)
    }

    /// The bytes if they are all on this machine and right, for who copies the file: that is no
    /// read of a program, and counts as none.
    pub fn kept(&self, inode: InodeId, offset: u64, length: usize) -> Option<Bytes> {
        let target = self.target(inode, offset, length).ok()?;
        self.fetcher
            .peek(target.layer, &target.pieces, target.length)
    }

    /// Whether all of the file is on this machine, as far as anybody claims.
    pub fn is_kept(&self, inode: InodeId) -> bool {
        let is_kept = |target: &Target| {
            let spans = self.fetcher.spans_of(target.layer, &target.pieces).ok()?;
            let layer = self.fetcher.layers.get(target.layer)?;
            Some(spans.iter().all(|span| layer.cache.is_claimed(*span)))
        };
        let target = self.target(inode, 0, usize::MAX).ok();
        target.as_ref().and_then(is_kept).unwrap_or(false)
    }

    /// The sizes of all files together.
    pub fn bytes_of_files(&self) -> u64 {
        self.bytes_of_files
    }

    /// What reading this image has cost so far.
    pub fn stats(&self) -> FsStats {
        self.fetcher.counters.read(self.bytes_total)
    }

    /// Spans in the order in which they were first touched.
    pub fn trace(&self) -> Vec<TraceEntry> {
        self.trace.entries()
    }

    /// Fetches what a start like this one has read before, in that order, ahead of the reads. What
    /// the image does not have is passed over.
    pub fn prefetch(&self, foretold: Vec<TraceEntry>) {
        self.fetcher.forecast.is_of_a_start();
        self.ahead_of_reads(prefetch(Arc::clone(&self.fetcher), foretold));
    }

    /// The same for a program of which no start is known: what it reads first is guessed from what
    /// it is.
    pub fn prefetch_program(&self, program: Program) {
        let fetcher = Arc::clone(&self.fetcher);
        let startup = Startup::new(Arc::clone(&self.tree), fetcher, program);
        self.ahead_of_reads(startup.prefetch());
    }

    /// Has all of the image in the cache, for somebody who waits for that. What is there is
    /// looked at.
    pub async fn bring_whole(&self) -> Result<(), WholeError> {
        bring_whole(Arc::clone(&self.fetcher)).await
    }

    fn ahead_of_reads(&self, work: impl Future<Output = ()> + Send + 'static) {
        let left = PREFETCH_FOR.saturating_sub(self.opened.elapsed());
        self.in_background(async move { drop(tokio::time::timeout(left, work).await) });
    }

    fn in_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        let prefetching = self.fetcher.runtime.spawn(work);
        let mut all = self
            .prefetching
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.push(prefetching.abort_handle());
    }

    /// Spans of all layers, and how many of them are in the cache.
    pub fn spans_present(&self) -> (usize, usize) {
        self.fetcher
            .layers
            .iter()
            .fold((0, 0), |(total, present), layer| {
                (
                    total + layer.cache.index().spans().len(),
                    present + layer.cache.present_spans(),
                )
            })
    }

    fn target(&self, inode: InodeId, offset: u64, length: usize) -> Result<Target, ReadError> {
        let inode = self.tree.inode(inode).ok_or(ReadError::NoSuchInode)?;
        let NodeKind::File {
            size,
            layer,
            extents,
        } = &inode.kind
        else {
            return Err(ReadError::NotAFile);
        };
        let left = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = length.min(left);
        Ok(Target {
            layer: *layer,
            pieces: plan::pieces(extents, offset, length),
            length,
        })
    }

    fn touch(&self, target: &Target) {
        let Some(layer) = self.fetcher.layers.get(target.layer) else {
            return;
        };
        let index = layer.cache.index();
        for piece in &target.pieces {
            let end = piece.layer_offset + piece.length as u64;
            for span in index.span_at(piece.layer_offset)..=index.span_at(end - 1) {
                if self.trace.touch(target.layer, span, self.opened.elapsed()) {
                    self.first_touch(target.layer, span);
                }
            }
        }
    }

    fn first_touch(&self, layer: usize, span: usize) {
        let bytes = self.fetcher.decoded_bytes(layer, span);
        if self.fetcher.forecast.touched(layer, span, bytes) {
            Counters::add(&self.fetcher.counters.prefetch_hits, 1);
        }
        self.fetcher.layers[layer].is_wanted(bytes);
    }

    /// A read of this layer is over. Where much of it is wanted, the rest will be.
    fn fetch_rest(&self, target: &Target) {
        let Some(layer) = self.fetcher.layers.get(target.layer) else {
            return;
        };
        if let Some(last) = target.pieces.last()
            && layer.is_rest_due()
        {
            let from = layer.cache.index().span_at(last.layer_offset);
            let fetcher = Arc::clone(&self.fetcher);
            self.in_background(fetch_rest(fetcher, target.layer, from));
        }
    }
}

impl Drop for ImageFs {
    fn drop(&mut self) {
        let all = self
            .prefetching
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        all.iter().for_each(AbortHandle::abort);
    }
}

fn bytes_of_files(tree: &Tree) -> u64 {
    let inodes = (1..=tree.len() as u64).filter_map(|id| tree.inode(InodeId(id)));
    let sizes = inodes.map(|inode| match &inode.kind {
        NodeKind::File { size, .. } => *size,
        _ => 0,
    });
    sizes.fold(0, u64::saturating_add)
}
