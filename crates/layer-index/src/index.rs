//! An index that can be asked: header, entries, spans, checkpoints.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use inflate_resume::WINDOW_SIZE;

use crate::entry::Entry;
use crate::error::{DecodeError, IndexError};
use crate::format::{PREFIX_BYTES, Prefix, Section};
use crate::metadata::Entries;
use crate::span::{Checkpoint, Span, Window};
use crate::span_decoder::SpanDecoder;
use crate::span_table::{self, Start, WindowFrame, frame_digest};
use crate::sparse_window::SparseWindow;
use crate::summary::IndexSummary;

/// How the layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    Tar,
    Gzip,
    Zstd,
}

/// What the index says about its layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Digest of the layer as it is in the registry: `sha256:…`.
    pub layer_digest: String,
    /// Digest of the uncompressed layer: `sha256:…`.
    pub diff_id: String,
    pub codec: Codec,
    pub compressed_size: u64,
    pub uncompressed_size: u64,
    pub entry_count: u64,
    pub span_count: u64,
}

/// The index of one layer. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LayerIndex {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    prefix: Prefix,
    root: [u8; 32],
    file_bytes: u64,
    metadata: Vec<u8>,
    starts: Vec<Start>,
    spans: Vec<Span>,
    windows: Windows,
}

/// Where section C is.
#[derive(Debug)]
enum Windows {
    Memory(Bytes),
    File(File),
}

impl LayerIndex {
    /// Reads an index that is in memory. Metadata and span table are verified now, windows when
    /// they are used.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the windows stay in these bytes"
    )]
    pub fn decode(bytes: Bytes) -> Result<Self, IndexError> {
        let length = bytes.len() as u64;
        let read = |range: Range<u64>| {
            let (start, end) = (to_usize(range.start)?, to_usize(range.end)?);
            let part = bytes
                .get(start..end)
                .ok_or(IndexError::Corrupt("the file is too short"))?;
            Ok(part.to_vec())
        };
        let parts = Parts::read(length, read)?;
        let start = to_usize(parts.prefix.windows_offset())?;
        Ok(parts.into_index(Windows::Memory(bytes.slice(start..))))
    }

    /// Reads an index from a file; windows stay in the file until they are used.
    pub fn open(file: File) -> Result<Self, IndexError> {
        let length = file.metadata()?.len();
        let read = |range: Range<u64>| {
            let mut part = vec![0; to_usize(range.end - range.start)?];
            file.read_exact_at(&mut part, range.start)?;
            Ok(part)
        };
        let parts = Parts::read(length, read)?;
        Ok(parts.into_index(Windows::File(file)))
    }

    pub fn header(&self) -> &Header {
        &self.inner.prefix.header
    }

    /// The digest of the whole index.
    pub fn root(&self) -> [u8; 32] {
        self.inner.root
    }

    pub fn summary(&self) -> IndexSummary {
        IndexSummary::new(&self.inner.prefix, self.inner.root)
    }

    /// How long the index itself is.
    pub fn file_bytes(&self) -> u64 {
        self.inner.file_bytes
    }

    /// Entries in archive order.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        let header = self.header();
        let entries = Entries::new(
            &self.inner.metadata,
            header.entry_count,
            header.uncompressed_size,
        );
        entries.into_iter().flatten()
    }

    /// Spans in order; together they are the whole uncompressed layer.
    pub fn spans(&self) -> &[Span] {
        &self.inner.spans
    }

    /// The span that holds `offset` of the uncompressed layer; the number of spans for an offset
    /// at or after its end.
    pub fn span_at(&self, offset: u64) -> usize {
        self.spans().partition_point(|span| span.end() <= offset)
    }

    /// Where to start in order to decode `span`.
    pub fn checkpoint(&self, span: usize) -> Result<Checkpoint, IndexError> {
        let start = self
            .start_of(span)
            .ok_or(IndexError::Corrupt("no such span"))?;
        Ok(Checkpoint {
            span: start.first_span,
            compressed_offset: start.compressed_offset,
            bits: start.bits,
            window: self.window(start.window)?,
        })
    }

    /// The bytes of the compressed layer that are needed to decode spans `first` to `last`
    /// (inclusive): from the checkpoint of `first` on. Empty for spans that are not there.
    pub fn compressed_range(&self, first: usize, last: usize) -> Range<u64> {
        let (Some(start), Some(last)) = (self.start_of(first), self.spans().get(last)) else {
            return 0..0;
        };
        let next = self.inner.starts.get(last.checkpoint as usize + 1);
        let end = next.map_or_else(
            || self.header().compressed_size,
            |next| {
                // A block that starts inside a byte shares it with the block before.
                next.compressed_offset + u64::from(next.bits > 0)
            },
        );
        start.compressed_offset..end
    }

    /// Decodes `compressed`, the bytes of `compressed_range(first, last)`, and hands each verified
    /// span to `each`, in order. Spans before `first` come too where decoding has to start there.
    pub fn decode_spans(
        &self,
        first: usize,
        last: usize,
        compressed: &[u8],
        mut each: impl FnMut(usize, &[u8]) -> std::io::Result<()>,
    ) -> Result<(), DecodeError> {
        let mut decoder = self.span_decoder(first, last)?;
        decoder.push(compressed, &mut each)?;
        decoder.finish()
    }

    /// The same, for compressed bytes that arrive in pieces.
    pub fn span_decoder(&self, first: usize, last: usize) -> Result<SpanDecoder, DecodeError> {
        for span in [first, last] {
            if span >= self.spans().len() {
                return Err(DecodeError::NoSuchSpan { span });
            }
        }
        let checkpoint = self.checkpoint(first)?;
        Ok(SpanDecoder::new(self.clone(), &checkpoint, last))
    }

    fn start_of(&self, span: usize) -> Option<&Start> {
        self.inner
            .starts
            .get(self.spans().get(span)?.checkpoint as usize)
    }

    fn window(&self, frame: WindowFrame) -> Result<Window, IndexError> {
        if frame.length == 0 {
            return Ok(Window::Empty);
        }
        let packed = self.window_frame(frame)?;
        if frame_digest(&packed) != frame.digest {
            return Err(IndexError::Digest("a window"));
        }
        if self.header().codec == Codec::Zstd {
            return Ok(Window::Sparse(Box::new(SparseWindow::unpack(&packed)?)));
        }
        let window = zstd::bulk::decompress(&packed, WINDOW_SIZE)?;
        let window: Box<[u8; WINDOW_SIZE]> = window
            .into_boxed_slice()
            .try_into()
            .map_err(|_| IndexError::Corrupt("a window of another size"))?;
        Ok(Window::Full(window))
    }

    fn window_frame(&self, frame: WindowFrame) -> Result<Vec<u8>, IndexError> {
        let length = frame.length as usize;
        match &self.inner.windows {
            Windows::Memory(bytes) => {
                let start = to_usize(frame.offset)?;
                let part = bytes.get(start..start + length);
                Ok(part
                    .ok_or(IndexError::Corrupt("the file is too short"))?
                    .to_vec())
            }
            Windows::File(file) => {
                let mut packed = vec![0; length];
                let offset = self.inner.prefix.windows_offset() + frame.offset;
                file.read_exact_at(&mut packed, offset)?;
                Ok(packed)
            }
        }
    }
}

/// The verified parts of an index, before it is known where its windows stay.
struct Parts {
    prefix: Prefix,
    root: [u8; 32],
    metadata: Vec<u8>,
    starts: Vec<Start>,
    spans: Vec<Span>,
}

impl Parts {
    fn read(
        length: u64,
        read: impl Fn(Range<u64>) -> Result<Vec<u8>, IndexError>,
    ) -> Result<Self, IndexError> {
        if length < PREFIX_BYTES as u64 {
            return Err(IndexError::Format("no layer index"));
        }
        let prefix_bytes = read(0..PREFIX_BYTES as u64)?;
        let prefix = Prefix::decode(&prefix_bytes)?;
        if prefix.file_bytes() != length {
            return Err(IndexError::Corrupt(
                "the file has another length than its header says",
            ));
        }
        let after_metadata = PREFIX_BYTES as u64 + prefix.metadata.stored;
        let metadata = read(PREFIX_BYTES as u64..after_metadata)?;
        let metadata = decompress(&metadata, &prefix.metadata)?;
        let span_table = read(after_metadata..prefix.windows_offset())?;
        let span_table = decompress(&span_table, &prefix.span_table)?;
        let header = &prefix.header;
        Entries::new(&metadata, header.entry_count, header.uncompressed_size)?.verify()?;
        let (starts, spans) = span_table::decode(&span_table, header, prefix.windows_stored)?;
        if spans.len() as u64 != header.span_count {
            return Err(IndexError::Corrupt(
                "there are more or fewer spans than the header says",
            ));
        }
        let root = Prefix::root(&prefix_bytes);
        Ok(Self {
            prefix,
            root,
            metadata,
            starts,
            spans,
        })
    }

    fn into_index(self, windows: Windows) -> LayerIndex {
        let Self {
            prefix,
            root,
            metadata,
            starts,
            spans,
        } = self;
        let file_bytes = prefix.file_bytes();
        let inner = Inner {
            prefix,
            root,
            file_bytes,
            metadata,
            starts,
            spans,
            windows,
        };
        LayerIndex {
            inner: Arc::new(inner),
        }
    }
}

/// Unpacks a section, never into more than its header says.
fn decompress(stored: &[u8], section: &Section) -> Result<Vec<u8>, IndexError> {
    if *blake3::hash(stored).as_bytes() != section.digest {
        return Err(IndexError::Digest("a section"));
    }
    let mut raw = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(stored)?;
    decoder.take(section.raw + 1).read_to_end(&mut raw)?;
    if raw.len() as u64 == section.raw {
        Ok(raw)
    } else {
        Err(IndexError::Corrupt(
            "a section has another length than the header says",
        ))
    }
}

fn to_usize(value: u64) -> Result<usize, IndexError> {
    usize::try_from(value).map_err(|_| IndexError::Limit("larger than memory"))
}
