//! An index that can be asked: header, entries, spans, checkpoints.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::entry::Entry;
use crate::error::{DecodeError, IndexError};
use crate::span::{Checkpoint, Span};

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
}

/// The index of one layer. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LayerIndex {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    header: Header,
    root: [u8; 32],
    spans: Vec<Span>,
}

impl LayerIndex {
    /// Reads an index that is in memory. Metadata and span table are verified now, windows when
    /// they are used.
    pub fn decode(_bytes: Bytes) -> Result<Self, IndexError> {
        Err(IndexError::Format("not written yet"))
    }

    /// Reads an index from a file; windows stay in the file until they are used.
    pub fn open(_file: File) -> Result<Self, IndexError> {
        Err(IndexError::Format("not written yet"))
    }

    pub fn header(&self) -> &Header {
        &self.inner.header
    }

    /// The digest of the whole index.
    pub fn root(&self) -> [u8; 32] {
        self.inner.root
    }

    /// Entries in archive order.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        std::iter::empty()
    }

    /// Spans in order; together they are the whole uncompressed layer.
    pub fn spans(&self) -> &[Span] {
        &self.inner.spans
    }

    /// The span that holds `offset` of the uncompressed layer; the last one for an offset at or
    /// after its end.
    pub fn span_at(&self, offset: u64) -> usize {
        self.spans().partition_point(|span| span.end() <= offset)
    }

    /// Where to start in order to decode `span`.
    pub fn checkpoint(&self, span: usize) -> Result<Checkpoint, IndexError> {
        let _ = span;
        Err(IndexError::Format("not written yet"))
    }

    /// The bytes of the compressed layer that are needed to decode spans `first` to `last`
    /// (inclusive): from the checkpoint of `first` on.
    pub fn compressed_range(&self, first: usize, last: usize) -> Range<u64> {
        let _ = (first, last);
        0..0
    }

    /// Decodes `compressed`, the bytes of `compressed_range(first, last)`, and hands each verified
    /// span to `each`, in order. Spans before `first` come too where decoding has to start there.
    pub fn decode_spans(
        &self,
        first: usize,
        last: usize,
        compressed: &[u8],
        each: impl FnMut(usize, &[u8]) -> std::io::Result<()>,
    ) -> Result<(), DecodeError> {
        let mut decoder = self.span_decoder(first, last)?;
        let mut each = each;
        decoder.push(compressed, &mut each)?;
        decoder.finish()
    }

    /// The same, for compressed bytes that arrive in pieces.
    pub fn span_decoder(&self, first: usize, last: usize) -> Result<SpanDecoder, DecodeError> {
        let _ = last;
        Err(DecodeError::NoSuchSpan { span: first })
    }
}

/// Decodes and verifies a run of spans from compressed bytes that arrive in pieces.
#[derive(Debug)]
pub struct SpanDecoder {
    next_span: usize,
}

impl SpanDecoder {
    /// Takes the next compressed bytes. Bytes after the last span are ignored.
    pub fn push(
        &mut self,
        _compressed: &[u8],
        _each: &mut dyn FnMut(usize, &[u8]) -> std::io::Result<()>,
    ) -> Result<(), DecodeError> {
        Err(DecodeError::NoSuchSpan {
            span: self.next_span,
        })
    }

    /// True when the last span has been handed out: no more bytes are needed.
    pub fn is_complete(&self) -> bool {
        false
    }

    /// Says whether every span was handed out.
    pub fn finish(self) -> Result<(), DecodeError> {
        Err(DecodeError::Truncated {
            span: self.next_span,
        })
    }
}
