//! Windows made small, on another thread: only what the blocks after a checkpoint refer to stays.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use inflate_resume::{WINDOW_SIZE, referenced};
use layer_index::{BuildError, Builder, Piece, Scratch};

use crate::error::IndexerError;

/// Jobs on their way: each holds a window and some compressed bytes, about 64 KiB, and up to half a
/// megabyte where blocks are empty.
const QUEUE: usize = 8;

/// A checkpoint's window and the compressed bytes of the first 32 KiB of output after it.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) checkpoint: usize,
    pub(crate) bits: u8,
    pub(crate) window: Box<[u8; WINDOW_SIZE]>,
    pub(crate) compressed: Vec<u8>,
    /// Those bytes do not suffice to tell what is referred to.
    pub(crate) keeps_all: bool,
}

/// Checkpoints, and where their packed windows are kept.
pub(crate) type Frames = Vec<(usize, Piece)>;

#[derive(Debug)]
pub(crate) struct WindowPacker {
    jobs: SyncSender<Job>,
    thread: JoinHandle<Result<Frames, IndexerError>>,
}

impl WindowPacker {
    pub(crate) fn start(scratch: &Scratch) -> Self {
        let (jobs, incoming) = sync_channel::<Job>(QUEUE);
        let scratch = scratch.clone();
        let pack = move |job| pack(job, &scratch);
        let thread = std::thread::spawn(move || incoming.into_iter().map(pack).collect());
        Self { jobs, thread }
    }

    /// A thread that has failed tells why in `finish`.
    pub(crate) fn submit(&self, job: Job) {
        let _ = self.jobs.send(job);
    }

    pub(crate) fn finish(self) -> Result<Frames, IndexerError> {
        drop(self.jobs);
        let failed = |_| IndexerError::Process("the window thread panicked".to_owned());
        self.thread.join().map_err(failed)?
    }
}

fn pack(mut job: Job, scratch: &Scratch) -> Result<(usize, Piece), IndexerError> {
    if !job.keeps_all {
        let used = referenced(job.bits, &job.compressed);
        used.map_err(|error| IndexerError::Stream(error.to_string()))?
            .sparsify(&mut job.window);
    }
    let frame = Builder::window_frame(&job.window)?;
    let kept = scratch.keep(&frame).map_err(BuildError::Write)?;
    Ok((job.checkpoint, kept))
}
