//! What a parent asks a mount process for, and what it hears back. Plain data; how it crosses the
//! socket is in `wire`.

use std::path::PathBuf;
use std::time::Duration;

use dial::DialPolicy;
use image_fs::{CacheLimits, NoticeKind, Program, SpanCache, TraceEntry};
use layer_index::IndexSummary;
use reference::Registry;

/// One image to mount.
#[derive(Clone, Debug)]
pub struct MountRequest {
    /// An existing directory. Its parent should be closed to other users: set-id programs and
    /// device nodes of the image work on the mount.
    pub mountpoint: PathBuf,
    pub registry: Registry,
    pub repository: String,
    /// The user said that the registry speaks plain http.
    pub plain_http: bool,
    /// The registry's own CA.
    pub ca_pem: Option<Vec<u8>>,
    /// The operator's policy on where connections may go.
    pub dial: DialPolicy,
    /// Lowest first.
    pub layers: Vec<LayerRef>,
    /// What the cache keeps the layers' bytes under.
    pub origin: String,
    pub cache: SpanCache,
    /// Its parent knows of a shared cache, and is asked where layers lie there.
    pub has_shared_cache: bool,
    pub id_shift: Option<IdShift>,
    /// How long a read waits for a registry that is away or refuses.
    pub read_deadline: Duration,
    /// What is read first, in this order, as far as anybody knows.
    pub foretold: Vec<TraceEntry>,
    /// What will be started, where nothing is foretold.
    pub program: Option<Program>,
    /// How long what is read is a start's, which is recorded: what only later reads gain from is
    /// left until then. None where nothing is started.
    pub start_lasts: Duration,
    /// What nobody has read is fetched while nobody reads, once the start is over.
    pub fill_when_idle: bool,
}

/// One layer and its index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerRef {
    pub index_path: PathBuf,
    pub index: IndexSummary,
}

/// What a mount process is told; the files come beside it.
#[derive(Clone, Debug)]
pub(crate) struct ServerRequest {
    pub(crate) registry: Registry,
    pub(crate) repository: String,
    pub(crate) plain_http: bool,
    pub(crate) ca_pem: Option<Vec<u8>>,
    pub(crate) dial: DialPolicy,
    pub(crate) layers: Vec<ExpectedLayer>,
    pub(crate) cache_limits: CacheLimits,
    pub(crate) has_shared_cache: bool,
    pub(crate) id_shift: Option<IdShift>,
    pub(crate) read_deadline: Duration,
    pub(crate) foretold: Vec<TraceEntry>,
    pub(crate) program: Option<Program>,
    pub(crate) start_lasts: Duration,
    pub(crate) fill_when_idle: bool,
}

/// What the index of a layer must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExpectedLayer {
    /// `sha256:…` of the compressed layer.
    pub(crate) digest: String,
    /// The root digest of the index.
    pub(crate) root: [u8; 32],
}

impl From<&IndexSummary> for ExpectedLayer {
    fn from(index: &IndexSummary) -> Self {
        Self {
            digest: index.header.layer_digest.clone(),
            root: index.root,
        }
    }
}

/// Owners of files as seen through the mount: id 0 of the image is `base`, and so on for `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdShift {
    pub base: u32,
    pub count: u32,
}

/// What a mount has cost so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountStats {
    pub fs: image_fs::FsStats,
    /// Spans of all layers, and how many of them are in the cache.
    pub spans: u64,
    pub spans_present: u64,
    /// Times that the parent was asked for a registry auth.
    pub auth_requests: u64,
    /// Files that the kernel reads without asking the mount process.
    pub files_backed: u64,
    /// Bytes of layers that came from the shared cache, as the registry would have sent them.
    pub bytes_shared: u64,
}

/// Something that belongs into the container's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountLog {
    pub kind: NoticeKind,
    pub message: String,
}
