//! Opening a stretch of a layer as it comes from the store.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::chunks::{self, CHUNK_BYTES, Cipher, SEALED_CHUNK_BYTES, TAG_BYTES};
use crate::key::LayerKey;

/// Takes the sealed chunks around a stretch, in their order and in whatever pieces they come.
pub struct Opening {
    cipher: Cipher,
    size: u64,
    /// What is wanted of the layer.
    range: Range<u64>,
    /// The chunk that comes next, and where they end.
    chunks: Range<u64>,
    /// What came of the next chunk: never more than one.
    sealed: BytesMut,
}

/// What came is not what was sealed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    #[error("it was not sealed with this key, or was changed since")]
    Changed,
    #[error("more came than the stretch has")]
    TooMuch,
}

impl Opening {
    /// Nothing where the layer has no such stretch.
    pub fn new(key: &LayerKey, size: u64, range: Range<u64>) -> Option<Self> {
        let is_within = range.start < range.end && range.end <= size;
        if !is_within || chunks_end(size).is_none() {
            return None;
        }
        Some(Self {
            cipher: Cipher::new(key, size),
            size,
            chunks: chunks::of_stretch(&range),
            range,
            sealed: BytesMut::new(),
        })
    }

    /// What is still to come from the store, as a stretch of the object.
    pub fn sealed_range(&self) -> Range<u64> {
        let came = self.sealed.len() as u64;
        let end = self.chunks.end * SEALED_CHUNK_BYTES;
        let end = chunks_end(self.size).map_or(end, |size| end.min(size));
        (self.chunks.start * SEALED_CHUNK_BYTES + came).min(end)..end
    }

    /// Takes the next bytes, and gives what they open of the stretch.
    pub fn push(
        &mut self,
        mut bytes: &[u8],
        opened: &mut dyn FnMut(Bytes),
    ) -> Result<(), UnsealError> {
        while !bytes.is_empty() {
            if self.chunks.is_empty() {
                return Err(UnsealError::TooMuch);
            }
            let number = self.chunks.start;
            let length = chunks::in_memory(chunks::length(self.size, number) + TAG_BYTES);
            let (taken, rest) = bytes.split_at(bytes.len().min(length - self.sealed.len()));
            self.sealed.extend_from_slice(taken);
            bytes = rest;
            if self.sealed.len() == length {
                opened(self.open(number)?);
            }
        }
        Ok(())
    }

    /// Whether all of it has come.
    pub fn is_done(&self) -> bool {
        self.chunks.is_empty()
    }

    /// What the chunk has of the stretch.
    fn open(&mut self, number: u64) -> Result<Bytes, UnsealError> {
        let mut chunk = self.sealed.split();
        let opened = self.cipher.open(number, &mut chunk);
        opened.map_err(|_| UnsealError::Changed)?;
        self.chunks.start += 1;
        let start = number * CHUNK_BYTES;
        let end = start + chunks::length(self.size, number);
        let within = |at: u64| chunks::in_memory(at.clamp(start, end) - start);
        let wanted = within(self.range.start)..within(self.range.end);
        Ok(chunk.freeze().slice(wanted))
    }
}

/// Where the last chunk of a layer ends in its object.
fn chunks_end(size: u64) -> Option<u64> {
    // The chunks are counted as if all had their whole length.
    chunks::count(size).checked_mul(SEALED_CHUNK_BYTES)?;
    chunks::sealed_size(size)
}

impl std::fmt::Debug for Opening {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Opening")
            .field("size", &self.size)
            .field("range", &self.range)
            .field("chunks", &self.chunks)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers")]
mod tests {
    use super::*;
    use crate::key::CacheSecret;
    use crate::sealing::Sealing;

    const SIZE: usize = 3 * CHUNK_BYTES as usize + 100;

    fn key(origin: &str) -> LayerKey {
        let secret = CacheSecret::from_text(&"07".repeat(32).into()).expect("a secret");
        secret.layer_key(origin, "digest")
    }

    fn layer() -> Vec<u8> {
        (0..SIZE).map(|at| (at * 31 % 251) as u8).collect()
    }

    fn object() -> Vec<u8> {
        let mut sealing = Sealing::new(&key("own"), SIZE as u64);
        let mut sealed = Vec::new();
        sealing.push(&layer(), &mut sealed).expect("its size");
        sealing.finish().expect("its size");
        sealed
    }

    /// The stretch as it comes from an object in pieces of so many bytes.
    fn open(
        object: &[u8],
        key: &LayerKey,
        range: Range<u64>,
        piece_bytes: usize,
    ) -> Result<Vec<u8>, UnsealError> {
        let mut opening = Opening::new(key, SIZE as u64, range).expect("a stretch");
        let sealed = opening.sealed_range();
        let sealed = &object[sealed.start as usize..sealed.end as usize];
        let mut all = Vec::new();
        for piece in sealed.chunks(piece_bytes) {
            opening.push(piece, &mut |bytes| all.extend_from_slice(&bytes))?;
        }
        assert!(opening.is_done());
        let nothing = opening.sealed_range();
        assert!(nothing.is_empty(), "{nothing:?}");
        Ok(all)
    }

    #[test]
    fn any_stretch_is_opened_by_itself_in_whatever_pieces_it_comes() {
        let (object, layer, chunk) = (object(), layer(), CHUNK_BYTES);
        let end = SIZE as u64;
        let ranges = [
            0..1,
            0..end,
            5..chunk,
            chunk - 1..chunk + 1,
            chunk..2 * chunk,
        ];
        let last = [end - 1..end, 3 * chunk..end, 3 * chunk - 1..end];
        for range in ranges.into_iter().chain(last) {
            let expected = &layer[range.start as usize..range.end as usize];
            for piece_bytes in [usize::MAX >> 1, 4096, 16_399, 1] {
                let opened = open(&object, &key("own"), range.clone(), piece_bytes);
                assert!(opened.as_deref() == Ok(expected), "{range:?} {piece_bytes}");
            }
        }
    }

    #[test]
    fn what_was_changed_moved_or_sealed_for_another_gives_nothing() {
        let range = 0..CHUNK_BYTES * 2;
        let sealed = SEALED_CHUNK_BYTES as usize;
        let changed = Err(UnsealError::Changed);
        assert_eq!(open(&object(), &key("other"), range.clone(), 4096), changed);
        for at in [0, sealed - 1, sealed, 2 * sealed - 1] {
            let mut object = object();
            object[at] ^= 1;
            assert_eq!(
                open(&object, &key("own"), range.clone(), 4096),
                changed,
                "{at}"
            );
        }
        let mut swapped = object();
        let (first, rest) = swapped.split_at_mut(sealed);
        first.swap_with_slice(&mut rest[..sealed]);
        assert_eq!(open(&swapped, &key("own"), range, 4096), changed);
        // Sealed as a layer of another size.
        let mut opening = Opening::new(&key("own"), SIZE as u64 + 1, 0..1).expect("a stretch");
        let pushed = opening.push(&object()[..sealed], &mut |_| panic!("nothing opens"));
        assert_eq!(pushed, Err(UnsealError::Changed));
    }

    #[test]
    fn there_are_no_stretches_outside_and_no_bytes_behind() {
        let key = key("own");
        for (size, range) in [(10, 0..11), (10, 5..5), (0, 0..0), (u64::MAX, 0..1)] {
            assert!(
                Opening::new(&key, size, range.clone()).is_none(),
                "{range:?} of {size}"
            );
        }
        let mut opening = Opening::new(&key, SIZE as u64, 0..1).expect("a stretch");
        let object = object();
        let mut count = 0;
        let pushed = opening.push(&object, &mut |bytes| count += bytes.len());
        assert_eq!((pushed, count), (Err(UnsealError::TooMuch), 1));
    }
}
