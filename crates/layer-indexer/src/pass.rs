//! The one pass over a layer.
//!
//! This thread decompresses, cuts spans and parses the archive; digests, the cache file and windows
//! are made on two others. Memory is bounded by the queues between them: what grows with the layer
//! is kept in the scratch.

use std::fs::File;
use std::io::{self, Read, Write};

use layer_index::limits::MAX_UNCOMPRESSED;
use layer_index::{Builder, Codec, Layer, Scratch};
use reference::Digest;
use serde::{Deserialize, Serialize};

use crate::chunk::Chunk;
use crate::error::IndexerError;
use crate::hasher::Hasher;
use crate::scan::Scanner;
use crate::sparse_windows::{Job, WindowPacker};
use crate::stream::{Entrance, MAGIC_BYTES, Step, Stream, detect};
use crate::zstd_checkpoints::Mark;

/// What is read from the pipe at a time.
const INPUT_BYTES: usize = 64 << 10;

/// Output after a checkpoint that may refer to its window.
const WINDOW_REACH: usize = inflate_resume::WINDOW_SIZE;

/// Input that such an output can need, four times over: no code is longer than 15 bits. Beyond it
/// are empty blocks, which an encoder may write without end.
const WINDOW_REACH_INPUT: usize = 4 * 2 * WINDOW_REACH;

/// No deflate stream expands more than 1032-fold; a zstd stream that does is a bomb.
const EXPANSION_MAX: u64 = 1100;

/// Below this much output nothing is a bomb.
const EXPANSION_FLOOR_BYTES: u64 = 64 << 20;

/// How large a layer may become.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub uncompressed_bytes: u64,
    /// Of the disk, for the cache file. A layer that takes more leaves it empty.
    pub cache_bytes: u64,
}

impl Default for Limits {
    /// The format's own limit, and whatever disk there is.
    fn default() -> Self {
        Self {
            uncompressed_bytes: MAX_UNCOMPRESSED,
            cache_bytes: u64::MAX,
        }
    }
}

/// What the pass writes to beside the index.
#[derive(Debug)]
pub struct Files {
    /// Receives the decompressed bytes.
    pub cache: Option<File>,
    /// Has what the index is made of until that is known.
    pub scratch: Scratch,
}

impl Files {
    /// For layers that are small.
    pub fn in_memory() -> Self {
        Self {
            cache: None,
            scratch: Scratch::in_memory(),
        }
    }
}

/// What the pass found.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Indexed {
    /// Digest of what was read: `sha256:…`.
    pub layer_digest: String,
    /// Digest of what it decompresses to.
    pub diff_id: String,
    pub compressed_bytes: u64,
    pub uncompressed_bytes: u64,
    pub entries: u64,
    pub spans: u64,
    pub index_bytes: u64,
    /// The index's digest, in hex.
    pub root: String,
}

/// Indexes a layer that is in memory.
pub fn index_bytes(layer: &[u8]) -> Result<Vec<u8>, IndexerError> {
    let mut index = Vec::new();
    index_layer(layer, &mut index, Files::in_memory(), Limits::default())?;
    Ok(index)
}

/// Reads a layer to its end and writes its index.
pub fn index_layer(
    mut input: impl Read,
    output: &mut impl Write,
    files: Files,
    limits: Limits,
) -> Result<Indexed, IndexerError> {
    let start = read_start(&mut input)?;
    let codec = detect(&start);
    let mut pass = Pass::new(codec, files, limits)?;
    let mut buffer = start;
    while !buffer.is_empty() {
        pass.push(&buffer)?;
        pass.hasher.compressed(buffer);
        buffer = pass.hasher.buffer();
        fill(&mut input, &mut buffer)?;
    }
    pass.finish(codec, output)
}

fn read_start(input: &mut impl Read) -> Result<Vec<u8>, IndexerError> {
    let mut start = Vec::new();
    let mut limited = input.take(MAGIC_BYTES as u64);
    limited
        .read_to_end(&mut start)
        .map_err(IndexerError::Read)?;
    Ok(start)
}

fn fill(input: &mut impl Read, buffer: &mut Vec<u8>) -> Result<(), IndexerError> {
    buffer.resize(INPUT_BYTES, 0);
    loop {
        match input.read(buffer) {
            Ok(count) => {
                buffer.truncate(count);
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(IndexerError::Read(error)),
        }
    }
}

struct Pass {
    stream: Stream,
    scanner: Scanner,
    builder: Builder,
    hasher: Hasher,
    windows: WindowPacker,
    chunk: Chunk,
    /// The window of the last checkpoint, until what it needs has been seen.
    job: Option<PendingJob>,
    consumed: u64,
    produced: u64,
    last_byte: u8,
    limits: Limits,
}

struct PendingJob {
    job: Job,
    produced: usize,
}

impl Pass {
    fn new(codec: Codec, files: Files, limits: Limits) -> Result<Self, IndexerError> {
        let Files { cache, scratch } = files;
        let hasher = Hasher::start(cache, limits.cache_bytes, &scratch);
        let mut builder = Builder::new(&scratch);
        builder.checkpoint(0, 0);
        Ok(Self {
            stream: Stream::new(codec, &scratch)?,
            scanner: Scanner::new(),
            builder,
            chunk: Chunk::new(hasher.buffer()),
            hasher,
            windows: WindowPacker::start(&scratch),
            job: None,
            consumed: 0,
            produced: 0,
            last_byte: 0,
            limits,
        })
    }

    fn push(&mut self, mut input: &[u8]) -> Result<(), IndexerError> {
        loop {
            let step = self.stream.step(input, self.chunk.room())?;
            self.account(&input[..step.consumed], step)?;
            input = &input[step.consumed..];
            self.cut(step)?;
            let idle = step.consumed == 0 && step.produced == 0;
            if input.is_empty() && (idle || step.produced == 0) {
                return Ok(());
            }
            if idle && step.entrance == Entrance::None {
                return Err(IndexerError::Stream("the stream does not go on".to_owned()));
            }
        }
    }

    fn account(&mut self, consumed: &[u8], step: Step) -> Result<(), IndexerError> {
        self.chunk.advance(step.produced);
        self.consumed += consumed.len() as u64;
        self.produced += step.produced as u64;
        self.last_byte = consumed.last().copied().unwrap_or(self.last_byte);
        if let Some(pending) = &mut self.job {
            pending.job.compressed.extend_from_slice(consumed);
            pending.produced += step.produced;
            if pending.produced >= WINDOW_REACH || step.entrance == Entrance::Free {
                self.submit_job();
            } else if pending.job.compressed.len() > WINDOW_REACH_INPUT {
                pending.job.keeps_all = true;
                self.submit_job();
            }
        }
        let bomb =
            self.produced > EXPANSION_FLOOR_BYTES && self.produced / EXPANSION_MAX > self.consumed;
        if bomb || self.produced > self.limits.uncompressed_bytes {
            let size = self.produced;
            return Err(IndexerError::Limit(format!(
                "it decompresses to more than {size} bytes"
            )));
        }
        Ok(())
    }

    /// Ends the span where it is long enough and decoding could start.
    fn cut(&mut self, step: Step) -> Result<(), IndexerError> {
        let at_entrance = step.entrance != Entrance::None && self.chunk.is_long_enough();
        if at_entrance || self.chunk.is_full() {
            self.end_span()?;
        } else if self.chunk.is_part_full() {
            self.end_part(self.chunk.span_bytes())?;
        }
        match step.entrance {
            Entrance::Free if at_entrance => {
                self.builder.checkpoint(self.consumed, 0);
            }
            Entrance::Block { unused_bits } if at_entrance => self.block_checkpoint(unused_bits),
            Entrance::FrameBlock if at_entrance => {
                let checkpoint = self.builder.checkpoint(self.consumed, 0);
                let uncompressed = self.produced;
                self.stream.mark(Mark {
                    checkpoint,
                    uncompressed,
                });
            }
            _ => {}
        }
        Ok(())
    }

    fn block_checkpoint(&mut self, unused_bits: u8) {
        self.submit_job();
        let shared = unused_bits > 0;
        let offset = self.consumed - u64::from(shared);
        let bits = if shared { 8 - unused_bits } else { 0 };
        let checkpoint = self.builder.checkpoint(offset, bits);
        let window = self
            .stream
            .window()
            .expect("only deflate has block entrances");
        let compressed = if shared {
            vec![self.last_byte]
        } else {
            Vec::new()
        };
        let job = Job {
            checkpoint,
            bits,
            window,
            compressed,
            keeps_all: false,
        };
        self.job = Some(PendingJob { job, produced: 0 });
    }

    fn submit_job(&mut self) {
        if let Some(pending) = self.job.take() {
            self.windows.submit(pending.job);
        }
    }

    fn end_span(&mut self) -> Result<(), IndexerError> {
        let length = self.chunk.span_bytes();
        if length == 0 {
            return Ok(());
        }
        self.end_part(0)?;
        let length = u32::try_from(length).expect("a span is at most MAX_SPAN");
        self.builder.span(length)?;
        self.hasher.end_span();
        Ok(())
    }

    /// Hands on what was decoded. The next part stands after `before` bytes of its span.
    fn end_part(&mut self, before: usize) -> Result<(), IndexerError> {
        let next = Chunk::after(before, self.hasher.buffer());
        let bytes = std::mem::replace(&mut self.chunk, next).into_bytes();
        self.stream.decoded(&bytes);
        let builder = &mut self.builder;
        self.scanner
            .push(&bytes, &mut |entry| Ok(builder.entry(entry)?))?;
        self.hasher.decoded(bytes);
        Ok(())
    }

    fn finish(mut self, codec: Codec, output: &mut impl Write) -> Result<Indexed, IndexerError> {
        if !self.stream.may_end() {
            return Err(IndexerError::Stream("it ends in the middle".to_owned()));
        }
        self.end_span()?;
        self.submit_job();
        self.scanner.finish()?;
        self.stream.finish(&mut self.builder)?;
        for (checkpoint, frame) in self.windows.finish()? {
            self.builder.window(checkpoint, frame);
        }
        let digests = self.hasher.finish()?;
        let layer = Layer {
            layer_digest: Digest::sha256(digests.compressed).to_string(),
            diff_id: Digest::sha256(digests.uncompressed).to_string(),
            codec,
            compressed_size: digests.compressed_size,
        };
        let (entries, spans) = (self.builder.entries(), self.builder.spans());
        let mut counted = Counted {
            inner: output,
            bytes: 0,
        };
        let root = self
            .builder
            .finish(layer.clone(), digests.spans, &mut counted)?;
        Ok(Indexed {
            layer_digest: layer.layer_digest,
            diff_id: layer.diff_id,
            compressed_bytes: digests.compressed_size,
            uncompressed_bytes: digests.uncompressed_size,
            entries,
            spans,
            index_bytes: counted.bytes,
            root: blake3::Hash::from_bytes(root).to_hex().to_string(),
        })
    }
}

/// Counts what is written.
struct Counted<'a, W> {
    inner: &'a mut W,
    bytes: u64,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
