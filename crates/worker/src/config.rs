//! What a worker is told when it starts: its name, its places, and how much it takes.

use std::path::PathBuf;

use dial::DialPolicy;
use image_fs::SpanCache;
use image_store::ImageStore;

/// One worker. Two may not share `files_dir`.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    pub name: String,
    pub capacity: Capacity,
    /// The binary that can be started as `mount-server`.
    pub program: PathBuf,
    /// Where containers live while they run.
    pub containers_dir: PathBuf,
    /// Where the runner is kept, and the code of containers while they run.
    pub files_dir: PathBuf,
    pub ids: Ids,
    pub image_store: ImageStore,
    pub span_cache: SpanCache,
    /// The operator's policy on where connections may go.
    pub dial: DialPolicy,
    /// What nobody has read of an image is fetched while its container reads nothing.
    pub fill_when_idle: bool,
}

/// How much the containers of a worker may have together. The control plane keeps count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    pub cpu_millicores: u32,
    pub memory_bytes: u64,
}

/// Whose ids the users of containers have on the machine.
#[derive(Clone, Debug)]
pub enum Ids {
    /// A range of their workspace's own.
    OfWorkspace {
        /// Where it is noted which workspace has which.
        directory: PathBuf,
        /// Where they begin.
        first_id: u32,
    },
    /// The machine's own.
    Machine,
}
