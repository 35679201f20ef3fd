//! Writes an index: entries and spans in stream order, windows whenever they are ready.

use std::io::Write;

use inflate_resume::WINDOW_SIZE;

use crate::entry::Entry;
use crate::error::{BuildError, IndexError};
use crate::format::{Prefix, Section};
use crate::index::{Codec, Header};
use crate::limits::{
    MAX_ENTRIES, MAX_METADATA, MAX_SPAN, MAX_SPANS, MAX_UNCOMPRESSED, MAX_WINDOW_FRAME,
};
use crate::metadata;
use crate::span::Span;
use crate::span_table::{self, Start, WindowFrame, frame_digest};

/// Level of zstd that is within a few percent of the best at a tenth of its time.
pub(crate) const ZSTD_LEVEL: i32 = 3;

/// What is known of a layer once it has been read to its end.
#[derive(Clone, Debug)]
pub struct Layer {
    pub layer_digest: String,
    pub diff_id: String,
    pub codec: Codec,
    pub compressed_size: u64,
}

/// An index being made.
#[derive(Debug, Default)]
pub struct Builder {
    metadata: metadata::Writer,
    starts: Vec<Start>,
    windows: Vec<Vec<u8>>,
    /// Checkpoints that proved to be none.
    forgotten: Vec<usize>,
    spans: Vec<Span>,
    uncompressed: u64,
}

impl Builder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry, in archive order.
    pub fn entry(&mut self, entry: &Entry) -> Result<(), BuildError> {
        if self.metadata.count() >= MAX_ENTRIES {
            return Err(BuildError::Limit("too many entries"));
        }
        self.metadata.push(entry)?;
        if self.metadata.bytes() > MAX_METADATA {
            return Err(BuildError::Limit("too much metadata"));
        }
        Ok(())
    }

    /// Says that the next span can be reached from here. Returns the checkpoint's number.
    pub fn checkpoint(&mut self, compressed_offset: u64, bits: u8) -> usize {
        let window = WindowFrame {
            offset: 0,
            length: 0,
            digest: [0; 16],
        };
        let first_span = self.spans.len();
        self.starts.push(Start {
            compressed_offset,
            bits,
            first_span,
            window,
        });
        self.windows.push(Vec::new());
        self.starts.len() - 1
    }

    /// Gives a checkpoint its window, as [`Builder::window_frame`] packed it.
    pub fn window(&mut self, checkpoint: usize, frame: Vec<u8>) {
        self.windows[checkpoint] = frame;
    }

    /// Says that decoding cannot start at a checkpoint after all: its spans are reached from the
    /// one before. The first one cannot be forgotten.
    pub fn forget(&mut self, checkpoint: usize) {
        self.forgotten.push(checkpoint);
    }

    /// Packs a window. Apart, so that it can be done on another thread.
    pub fn window_frame(window: &[u8; WINDOW_SIZE]) -> Result<Vec<u8>, BuildError> {
        let frame = zstd::bulk::compress(window, ZSTD_LEVEL).map_err(BuildError::Compress)?;
        match u32::try_from(frame.len()) {
            Ok(length) if length <= MAX_WINDOW_FRAME => Ok(frame),
            _ => Err(BuildError::Limit("a window is too long")),
        }
    }

    /// Adds a span: the next `length` bytes of the uncompressed layer. Its digest is given at the
    /// end, so that it can be made on another thread.
    pub fn span(&mut self, length: u32) -> Result<(), BuildError> {
        if length == 0 || length > MAX_SPAN {
            return Err(BuildError::Invalid("a span of a bad length"));
        }
        if self.spans.len() as u64 >= MAX_SPANS {
            return Err(BuildError::Limit("too many spans"));
        }
        let checkpoint = self.starts.len().checked_sub(1);
        let checkpoint = checkpoint.ok_or(BuildError::Invalid("a span before any checkpoint"))?;
        let checkpoint = u32::try_from(checkpoint).expect("no more checkpoints than spans");
        let uncompressed_offset = self.uncompressed;
        self.spans.push(Span {
            uncompressed_offset,
            length,
            checkpoint,
            digest: [0; 32],
        });
        self.uncompressed += u64::from(length);
        if self.uncompressed > MAX_UNCOMPRESSED {
            return Err(BuildError::Limit("the uncompressed layer is too large"));
        }
        Ok(())
    }

    pub fn spans(&self) -> usize {
        self.spans.len()
    }

    pub fn entries(&self) -> u64 {
        self.metadata.count()
    }

    /// Writes the index and returns its root. There is one BLAKE3 digest for each span.
    pub fn finish(
        mut self,
        layer: Layer,
        digests: &[[u8; 32]],
        out: &mut impl Write,
    ) -> Result<[u8; 32], BuildError> {
        if digests.len() != self.spans.len() {
            return Err(BuildError::Invalid("not one digest for each span"));
        }
        for (span, digest) in self.spans.iter_mut().zip(digests) {
            span.digest = *digest;
        }
        self.drop_forgotten_checkpoints();
        self.drop_empty_checkpoints();
        self.place_windows();
        let entry_count = self.metadata.count();
        let metadata = self.metadata.finish();
        let span_table = span_table::encode(&self.starts, &self.spans);
        let (metadata, metadata_section) = compress(&metadata)?;
        let (span_table, span_table_section) = compress(&span_table)?;
        let prefix = Prefix {
            header: Header {
                layer_digest: layer.layer_digest,
                diff_id: layer.diff_id,
                codec: layer.codec,
                compressed_size: layer.compressed_size,
                uncompressed_size: self.uncompressed,
                entry_count,
                span_count: self.spans.len() as u64,
            },
            metadata: metadata_section,
            span_table: span_table_section,
            windows_stored: self.windows.iter().map(|frame| frame.len() as u64).sum(),
        };
        let prefix = prefix.encode().map_err(|error| encode_error(&error))?;
        let mut write = |bytes: &[u8]| out.write_all(bytes).map_err(BuildError::Write);
        write(&prefix)?;
        write(&metadata)?;
        write(&span_table)?;
        self.windows.iter().try_for_each(|frame| write(frame))?;
        Ok(Prefix::root(&prefix))
    }

    fn drop_forgotten_checkpoints(&mut self) {
        let mut keep = vec![true; self.starts.len()];
        for checkpoint in std::mem::take(&mut self.forgotten) {
            keep[checkpoint] = checkpoint == 0;
        }
        self.retain_checkpoints(&keep);
    }

    /// A checkpoint at the very end of the stream leads to nothing.
    fn drop_empty_checkpoints(&mut self) {
        let ends: Vec<usize> = self
            .starts
            .iter()
            .skip(1)
            .map(|start| start.first_span)
            .collect();
        let ends = ends.into_iter().chain([self.spans.len()]);
        let keep: Vec<bool> = self
            .starts
            .iter()
            .zip(ends)
            .map(|(start, end)| start.first_span < end)
            .collect();
        self.retain_checkpoints(&keep);
        self.number_checkpoints();
    }

    fn retain_checkpoints(&mut self, keep: &[bool]) {
        let mut kept = keep.iter();
        self.starts
            .retain(|_| *kept.next().expect("one flag per checkpoint"));
        let mut kept = keep.iter();
        self.windows
            .retain(|_| *kept.next().expect("one flag per checkpoint"));
    }

    /// Tells each span its checkpoint again.
    fn number_checkpoints(&mut self) {
        let mut number = 0;
        for (at, span) in self.spans.iter_mut().enumerate() {
            while self
                .starts
                .get(number + 1)
                .is_some_and(|next| next.first_span <= at)
            {
                number += 1;
            }
            span.checkpoint = u32::try_from(number).expect("no more checkpoints than spans");
        }
    }

    fn place_windows(&mut self) {
        let mut offset = 0;
        for (start, frame) in self.starts.iter_mut().zip(&self.windows) {
            let length = u32::try_from(frame.len()).expect("bounded by window_frame");
            start.window = WindowFrame {
                offset,
                length,
                digest: frame_digest(frame),
            };
            offset += u64::from(length);
        }
    }
}

fn compress(raw: &[u8]) -> Result<(Vec<u8>, Section), BuildError> {
    let stored = zstd::bulk::compress(raw, ZSTD_LEVEL).map_err(BuildError::Compress)?;
    let digest = *blake3::hash(&stored).as_bytes();
    let section = Section {
        stored: stored.len() as u64,
        raw: raw.len() as u64,
        digest,
    };
    Ok((stored, section))
}

fn encode_error(error: &IndexError) -> BuildError {
    match error {
        IndexError::Format(what) => BuildError::Invalid(what),
        _ => BuildError::Invalid("the header does not encode"),
    }
}
