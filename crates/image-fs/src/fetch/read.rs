//! A read: bytes out of the cache, and where they are missing, once they were fetched.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Fetcher, Layer};
use crate::error::ReadError;
use crate::notice::NoticeKind;
use crate::plan::Piece;

/// How often a read may find its span gone from the disk after it was fetched. Something else is
/// then writing to the cache, and it is not a reader's place to outlast it.
const MAX_ROUNDS: usize = 4;

/// A span that had been verified is not in its file any more.
struct Gone;

impl Fetcher {
    /// The read's bytes, if all of them are in the cache. Blocks on the disk only.
    pub(crate) fn read_cached(
        self: &Arc<Self>,
        layer: usize,
        pieces: &[Piece],
        length: usize,
    ) -> Option<Bytes> {
        let bytes = self.peek(layer, pieces, length)?;
        self.read_ahead(layer, &self.spans_of(layer, pieces).ok()?);
        Some(bytes)
    }

    /// The same for who does not read on.
    pub(crate) fn peek(&self, layer: usize, pieces: &[Piece], length: usize) -> Option<Bytes> {
        let spans = self.spans_of(layer, pieces).ok()?;
        let cache = &self.layers.get(layer)?.cache;
        if !spans.iter().all(|span| cache.verify(*span)) {
            return None;
        }
        self.assemble(layer, pieces, length, &BTreeMap::new()).ok()
    }

    /// The read's bytes, fetched where they are missing.
    pub(crate) async fn read(
        self: &Arc<Self>,
        layer: usize,
        pieces: &[Piece],
        length: usize,
    ) -> Result<Bytes, ReadError> {
        let result = self.fetch_and_assemble(layer, pieces, length).await;
        if let Err(error) = &result {
            self.notice(NoticeKind::Failed, error.to_string());
        }
        result
    }

    async fn fetch_and_assemble(
        self: &Arc<Self>,
        layer: usize,
        pieces: &[Piece],
        length: usize,
    ) -> Result<Bytes, ReadError> {
        let spans = self.spans_of(layer, pieces)?;
        let deadline = Instant::now() + self.read_deadline;
        let mut held = BTreeMap::new();
        for _ in 0..MAX_ROUNDS {
            self.bring(layer, &spans, deadline, &mut held).await?;
            self.read_ahead(layer, &spans);
            match self.assemble(layer, pieces, length, &held) {
                Ok(bytes) => return Ok(bytes),
                // Something cut the file under us, and may have taken more than this read's bytes.
                Err(Gone) => self.layers[layer].cache.doubt(),
            }
        }
        Err(self.internal(layer, "the span cache loses what is written to it"))
    }

    /// The spans that hold the pieces, ascending, each once.
    pub(crate) fn spans_of(&self, layer: usize, pieces: &[Piece]) -> Result<Vec<usize>, ReadError> {
        let at = self.layers.get(layer).ok_or(ReadError::NoSuchInode)?;
        let size = at.index().header().uncompressed_size;
        let mut spans = Vec::new();
        for piece in pieces {
            let end = piece.layer_offset.saturating_add(piece.length as u64);
            if end > size {
                return Err(self.internal(layer, "a file lies outside its layer"));
            }
            let first = at.index().span_at(piece.layer_offset);
            spans.extend(first..=at.index().span_at(end - 1));
        }
        spans.sort_unstable();
        spans.dedup();
        Ok(spans)
    }

    /// Puts the read together, unless the cache does not have all of it after all.
    fn assemble(
        &self,
        layer: usize,
        pieces: &[Piece],
        length: usize,
        held: &BTreeMap<usize, Bytes>,
    ) -> Result<Bytes, Gone> {
        let at = &self.layers[layer];
        let mut buffer = vec![0; length];
        for piece in pieces {
            let target = &mut buffer[piece.buffer_offset..piece.buffer_offset + piece.length];
            at.copy(piece.layer_offset, target, held)?;
        }
        Ok(buffer.into())
    }
}

impl Layer {
    fn copy(
        &self,
        layer_offset: u64,
        target: &mut [u8],
        held: &BTreeMap<usize, Bytes>,
    ) -> Result<(), Gone> {
        let first = self.index().span_at(layer_offset);
        if held.is_empty() {
            let is_there = self.cache.read_at(target, layer_offset);
            return if is_there { Ok(()) } else { Err(Gone) };
        }
        let mut done = 0;
        for span in first.. {
            let Some(entry) = self
                .index()
                .spans()
                .get(span)
                .filter(|_| done < target.len())
            else {
                break;
            };
            let at = layer_offset + done as u64;
            let left = usize::try_from(entry.end() - at).unwrap_or(usize::MAX);
            let end = done.saturating_add(left).min(target.len());
            let part = &mut target[done..end];
            let from = usize::try_from(at - entry.uncompressed_offset).unwrap_or(usize::MAX);
            let bytes = held
                .get(&span)
                .and_then(|bytes| bytes.get(from..from + part.len()));
            match bytes {
                Some(bytes) => part.copy_from_slice(bytes),
                None if self.cache.read_at(part, at) => {}
                None => return Err(Gone),
            }
            done = end;
        }
        Ok(())
    }
}
