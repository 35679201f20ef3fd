//! The lazy filesystem of one image: a merged tree whose bytes are fetched when they are read.
//!
//! Owns the span cache on disk, the mapping from file offsets to spans, fetching, and patience
//! with a registry that is away. Invariants: a byte reaches a reader only after its span matched
//! the index in this process; a span that is wanted by many is fetched once; a reader that goes
//! away takes nothing from the others. Knows no FUSE and no registry: bytes come through a
//! [`BlobSource`], so all of it is tested without a kernel or a network.

mod blob;
mod cache;
mod error;
mod fetch;
mod fs;
#[doc(hidden)]
pub mod fuzzing;
mod limits;
mod notice;
mod patience;
mod plan;
mod readahead;
mod startup;
mod stats;
mod trace;

pub use blob::{BlobError, BlobSource, BoxFuture, PieceSink};
pub use cache::{
    Allowance, BackingFile, BackingPlace, CacheError, CacheLimits, Incoming, LayerCache,
    LayerFiles, LayerUsage, Pin, PinPlan, PruneReport, Room, SpanCache, StoreError,
};
pub use error::{OpenError, ReadError, WholeError};
pub use fs::{FsOptions, ImageFs};
pub use notice::{Notice, NoticeKind, NoticeSink};
pub use startup::Program;
pub use stats::FsStats;
pub use trace::{MAX_TRACE_ENTRIES, RECORD_FOR, TraceEntry};
