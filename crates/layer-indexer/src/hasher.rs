//! Digests of both streams and of every span, and the cache file, on another thread.
//!
//! Buffers go there and come back to be used again.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use layer_index::{Scratch, SpanDigests};
use sha2::{Digest, Sha256};

use crate::error::IndexerError;

/// Buffers on their way: enough to keep both threads busy, few enough to stay in a cache. Each is
/// as long as a chunk's, about 300 KiB.
const QUEUE: usize = 8;

/// Zeros at least this long become a hole in the cache file.
const HOLE_BYTES: usize = 4096;

enum Work {
    Compressed(Vec<u8>),
    Decoded(Vec<u8>),
    SpanEnd,
}

/// What the thread found.
#[derive(Debug)]
pub(crate) struct Digests {
    pub(crate) compressed: [u8; 32],
    pub(crate) compressed_size: u64,
    pub(crate) uncompressed: [u8; 32],
    pub(crate) uncompressed_size: u64,
    /// BLAKE3 of each span.
    pub(crate) spans: SpanDigests,
}

/// The thread's end that the pass holds.
#[derive(Debug)]
pub(crate) struct Hasher {
    work: SyncSender<Work>,
    returned: Receiver<Vec<u8>>,
    thread: JoinHandle<Result<Digests, IndexerError>>,
}

impl Hasher {
    /// `cache` receives the uncompressed stream at its own offsets, unless that takes more than
    /// `cache_bytes` of the disk: then it ends empty.
    pub(crate) fn start(cache: Option<File>, cache_bytes: u64, scratch: &Scratch) -> Self {
        let (work, incoming) = sync_channel(QUEUE);
        let (give_back, returned) = sync_channel(QUEUE);
        let spans = SpanDigests::new(scratch);
        let cache = cache.map(|file| Cache {
            file,
            room_bytes: Some(cache_bytes),
        });
        let thread = std::thread::spawn(move || run(&incoming, &give_back, cache, spans));
        Self {
            work,
            returned,
            thread,
        }
    }

    /// A buffer with anything in it: a used one where there is one, since clearing and zeroing
    /// cost as much as hashing.
    pub(crate) fn buffer(&self) -> Vec<u8> {
        self.returned.try_recv().unwrap_or_default()
    }

    /// A thread that has failed tells why in `finish`; what is sent to it is dropped.
    pub(crate) fn compressed(&self, bytes: Vec<u8>) {
        let _ = self.work.send(Work::Compressed(bytes));
    }

    /// The next part of a span.
    pub(crate) fn decoded(&self, bytes: Vec<u8>) {
        let _ = self.work.send(Work::Decoded(bytes));
    }

    pub(crate) fn end_span(&self) {
        let _ = self.work.send(Work::SpanEnd);
    }

    pub(crate) fn finish(self) -> Result<Digests, IndexerError> {
        drop(self.work);
        drop(self.returned);
        let failed = |_| IndexerError::Process("the hashing thread panicked".to_owned());
        self.thread.join().map_err(failed)?
    }
}

fn run(
    incoming: &Receiver<Work>,
    give_back: &SyncSender<Vec<u8>>,
    mut cache: Option<Cache>,
    mut spans: SpanDigests,
) -> Result<Digests, IndexerError> {
    let (mut compressed, mut uncompressed) = (Sha256::new(), Sha256::new());
    let (mut compressed_size, mut uncompressed_size) = (0, 0);
    let mut span = blake3::Hasher::new();
    for work in incoming {
        let buffer = match work {
            Work::Compressed(bytes) => {
                compressed.update(&bytes);
                compressed_size += bytes.len() as u64;
                bytes
            }
            Work::SpanEnd => {
                spans.push(span.finalize().as_bytes())?;
                span.reset();
                continue;
            }
            Work::Decoded(bytes) => {
                span.update(&bytes);
                uncompressed.update(&bytes);
                if let Some(cache) = &mut cache {
                    cache.write(uncompressed_size, &bytes)?;
                }
                uncompressed_size += bytes.len() as u64;
                bytes
            }
        };
        // A full queue means that buffers are plenty.
        let _ = give_back.try_send(buffer);
    }
    if let Some(cache) = cache {
        cache.finish(uncompressed_size)?;
    }
    Ok(Digests {
        compressed: compressed.finalize().into(),
        compressed_size,
        uncompressed: uncompressed.finalize().into(),
        uncompressed_size,
        spans,
    })
}

/// The cache file, as long as there is room for the layer.
struct Cache {
    file: File,
    /// What may still be written; nothing once the layer turned out to be too large.
    room_bytes: Option<u64>,
}

impl Cache {
    /// Writes all but long runs of zeros, which stay holes.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), IndexerError> {
        for (number, part) in bytes.chunks(64 << 10).enumerate() {
            let zeros = part.len() >= HOLE_BYTES && part.iter().all(|byte| *byte == 0);
            if !zeros {
                self.write_part(offset + (number * (64 << 10)) as u64, part)?;
            }
        }
        Ok(())
    }

    fn write_part(&mut self, offset: u64, part: &[u8]) -> Result<(), IndexerError> {
        let Some(room) = self.room_bytes else {
            return Ok(());
        };
        self.room_bytes = room.checked_sub(part.len() as u64);
        let written = match self.room_bytes {
            Some(_) => self.file.write_all_at(part, offset),
            None => self.file.set_len(0),
        };
        written.map_err(|error| write_error(&error))
    }

    fn finish(self, length: u64) -> Result<(), IndexerError> {
        if self.room_bytes.is_none() {
            return Ok(());
        }
        let sized = self.file.set_len(length);
        sized.map_err(|error| write_error(&error))
    }
}

fn write_error(error: &std::io::Error) -> IndexerError {
    IndexerError::Write(format!("cache file: {error}"))
}
