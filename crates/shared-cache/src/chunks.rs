//! Where a layer's chunks lie, and what seals them.

use std::ops::Range;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::key::LayerKey;

/// Decoded at once. Small, since reading a stretch takes the whole of its first chunk and of its
/// last; large enough for a tag to be a thousandth of it.
pub(crate) const CHUNK_BYTES: u64 = 16 << 10;
const TAG_LENGTH: usize = 16;
pub(crate) const TAG_BYTES: u64 = TAG_LENGTH as u64;
/// A chunk as it lies in the store.
pub(crate) const SEALED_CHUNK_BYTES: u64 = CHUNK_BYTES + TAG_BYTES;

const CHUNK_DOMAIN: &[u8] = b"holdfast/shared-cache/chunk/v1";
const NONCE_BYTES: usize = 12;
const NUMBER_BYTES: usize = 8;

/// Bytes of a layer of this size as it lies in the store; nothing for more than can be counted.
pub fn sealed_size(size: u64) -> Option<u64> {
    count(size).checked_mul(TAG_BYTES)?.checked_add(size)
}

/// How many chunks a layer of this size has.
pub(crate) fn count(size: u64) -> u64 {
    size.div_ceil(CHUNK_BYTES)
}

/// Bytes of this chunk, which is one of the layer's, without its tag.
pub(crate) fn length(size: u64, number: u64) -> u64 {
    CHUNK_BYTES.min(size - number * CHUNK_BYTES)
}

/// Of a chunk at most.
pub(crate) fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a chunk is in memory")
}

/// The chunks that have a part of this stretch, which lies within a layer.
pub(crate) fn of_stretch(range: &Range<u64>) -> Range<u64> {
    range.start / CHUNK_BYTES..count(range.end)
}

/// What seals and opens the chunks of one layer.
pub(crate) struct Cipher {
    key: LessSafeKey,
    aad: [u8; CHUNK_DOMAIN.len() + NUMBER_BYTES],
}

/// A chunk was sealed otherwise, or changed since.
pub(crate) struct Unopened;

impl Cipher {
    pub(crate) fn new(key: &LayerKey, size: u64) -> Self {
        let key = UnboundKey::new(&AES_256_GCM_SIV, key.bytes()).expect("a key has its length");
        let mut aad = [0; CHUNK_DOMAIN.len() + NUMBER_BYTES];
        aad[..CHUNK_DOMAIN.len()].copy_from_slice(CHUNK_DOMAIN);
        aad[CHUNK_DOMAIN.len()..].copy_from_slice(&size.to_le_bytes());
        Self {
            key: LessSafeKey::new(key),
            aad,
        }
    }

    /// Seals a chunk where it is, and gives its tag.
    pub(crate) fn seal(&self, number: u64, chunk: &mut [u8]) -> [u8; TAG_LENGTH] {
        let aad = Aad::from(&self.aad);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(number), aad, chunk);
        let tag = tag.expect("a chunk is within what the cipher takes");
        tag.as_ref().try_into().expect("a tag has its length")
    }

    /// Opens a sealed chunk where it is: what is in front of its tag.
    pub(crate) fn open(&self, number: u64, sealed: &mut [u8]) -> Result<(), Unopened> {
        let opened = self
            .key
            .open_in_place(nonce(number), Aad::from(&self.aad), sealed);
        opened.map(|_plain| ()).map_err(|_| Unopened)
    }
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; NONCE_BYTES];
    bytes[..NUMBER_BYTES].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_have_their_places() {
        for (size, chunks, sealed) in [
            (0, 0, 0),
            (1, 1, 17),
            (CHUNK_BYTES, 1, SEALED_CHUNK_BYTES),
            (CHUNK_BYTES + 1, 2, SEALED_CHUNK_BYTES + 17),
        ] {
            assert_eq!((count(size), sealed_size(size)), (chunks, Some(sealed)));
        }
        assert_eq!(sealed_size(u64::MAX), None);
        assert_eq!(length(CHUNK_BYTES + 1, 0), CHUNK_BYTES);
        assert_eq!(length(CHUNK_BYTES + 1, 1), 1);
        assert_eq!(of_stretch(&(0..1)), 0..1);
        assert_eq!(of_stretch(&(CHUNK_BYTES - 1..CHUNK_BYTES + 1)), 0..2);
        assert_eq!(of_stretch(&(CHUNK_BYTES..CHUNK_BYTES * 2)), 1..2);
    }
}
