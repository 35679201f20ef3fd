//! Writes an index: entries and spans in stream order, windows whenever they are ready.

use std::io::Write;

use inflate_resume::WINDOW_SIZE;

use crate::entry::Entry;
use crate::error::{BuildError, IndexError};
use crate::format::Prefix;
use crate::index::{Codec, Header};
use crate::limits::{
    MAX_ENTRIES, MAX_METADATA, MAX_SPAN, MAX_SPANS, MAX_UNCOMPRESSED, MAX_WINDOW_FRAME,
};
use crate::long_column::{LongColumn, Packed};
use crate::metadata;
use crate::scratch::{Piece, Scratch};
use crate::span_table::{self, NewStart, SpanDigests};

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

/// An index being made. Its parts are kept in a scratch, so that it may be larger than memory.
#[derive(Debug)]
pub struct Builder {
    scratch: Scratch,
    metadata: metadata::Writer,
    starts: Vec<NewStart>,
    /// Checkpoints that proved to be none.
    forgotten: Vec<usize>,
    span_lengths: LongColumn,
    span_count: u32,
    uncompressed: u64,
}

impl Builder {
    pub fn new(scratch: &Scratch) -> Self {
        Self {
            scratch: scratch.clone(),
            metadata: metadata::Writer::new(scratch),
            starts: Vec::new(),
            forgotten: Vec::new(),
            span_lengths: LongColumn::new(scratch),
            span_count: 0,
            uncompressed: 0,
        }
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
        self.starts.push(NewStart {
            compressed_offset,
            first_span: self.span_count,
            bits,
            window: Piece::EMPTY,
        });
        self.starts.len() - 1
    }

    /// Gives a checkpoint its window, as [`Builder::window_frame`] or [`SparseWindow::pack`] packed
    /// it, which is in the builder's scratch.
    ///
    /// [`SparseWindow::pack`]: crate::SparseWindow::pack
    pub fn window(&mut self, checkpoint: usize, frame: Piece) {
        self.starts[checkpoint].window = frame;
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
        if u64::from(self.span_count) >= MAX_SPANS {
            return Err(BuildError::Limit("too many spans"));
        }
        if self.starts.is_empty() {
            return Err(BuildError::Invalid("a span before any checkpoint"));
        }
        self.span_lengths.open().number(u64::from(length));
        self.span_lengths.settle()?;
        self.span_count += 1;
        self.uncompressed += u64::from(length);
        if self.uncompressed > MAX_UNCOMPRESSED {
            return Err(BuildError::Limit("the uncompressed layer is too large"));
        }
        Ok(())
    }

    pub fn spans(&self) -> u64 {
        u64::from(self.span_count)
    }

    pub fn entries(&self) -> u64 {
        self.metadata.count()
    }

    /// Writes the index and returns its root. There is one digest for each span.
    pub fn finish(
        mut self,
        layer: Layer,
        digests: SpanDigests,
        out: &mut impl Write,
    ) -> Result<[u8; 32], BuildError> {
        if digests.count() != self.spans() {
            return Err(BuildError::Invalid("not one digest for each span"));
        }
        self.drop_forgotten_checkpoints();
        self.drop_empty_checkpoints();
        let (entry_count, span_count) = (self.entries(), self.spans());
        let (scratch, starts) = (&self.scratch, &self.starts);
        let metadata = Packed::new(&self.metadata.finish(), scratch)?;
        let columns = span_table::encode(starts, self.span_lengths, digests, scratch)?;
        let span_table = Packed::new(&columns, scratch)?;
        let windows = starts.iter().map(|start| start.window);
        let lengths = windows.clone().map(|window| u64::from(window.length()));
        let prefix = Prefix {
            header: Header {
                layer_digest: layer.layer_digest,
                diff_id: layer.diff_id,
                codec: layer.codec,
                compressed_size: layer.compressed_size,
                uncompressed_size: self.uncompressed,
                entry_count,
                span_count,
            },
            metadata: metadata.section,
            span_table: span_table.section,
            windows_stored: lengths.sum(),
        };
        let prefix = prefix.encode().map_err(|error| encode_error(&error))?;
        let mut write = || {
            out.write_all(&prefix)?;
            metadata.write_to(out)?;
            span_table.write_to(out)?;
            windows
                .clone()
                .try_for_each(|window| out.write_all(&scratch.read(window)?))
        };
        write().map_err(BuildError::Write)?;
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
        let ends = self.starts.iter().skip(1).map(|start| start.first_span);
        let ends = ends.chain([self.span_count]);
        let starts = self.starts.iter().zip(ends);
        let keep: Vec<bool> = starts.map(|(start, end)| start.first_span < end).collect();
        self.retain_checkpoints(&keep);
    }

    fn retain_checkpoints(&mut self, keep: &[bool]) {
        let mut kept = keep.iter();
        self.starts
            .retain(|_| *kept.next().expect("one flag per checkpoint"));
    }
}

fn encode_error(error: &IndexError) -> BuildError {
    match error {
        IndexError::Format(what) => BuildError::Invalid(what),
        _ => BuildError::Invalid("the header does not encode"),
    }
}
