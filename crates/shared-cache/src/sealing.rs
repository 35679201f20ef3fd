//! Sealing a layer as it comes.

use crate::chunks::{self, CHUNK_BYTES, Cipher};
use crate::key::LayerKey;

/// Takes a layer from its beginning to its end.
pub struct Sealing {
    cipher: Cipher,
    size: u64,
    /// The chunk that comes next.
    number: u64,
    /// What came of it.
    chunk: Vec<u8>,
}

/// More came than the layer has, or less.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a layer of {size} bytes has another size")]
pub struct WrongSize {
    size: u64,
}

impl Sealing {
    pub fn new(key: &LayerKey, size: u64) -> Self {
        Self {
            cipher: Cipher::new(key, size),
            size,
            number: 0,
            chunk: Vec::with_capacity(chunks::in_memory(CHUNK_BYTES)),
        }
    }

    /// Takes the next bytes, and appends what they make to `sealed`.
    pub fn push(&mut self, mut bytes: &[u8], sealed: &mut Vec<u8>) -> Result<(), WrongSize> {
        while !bytes.is_empty() {
            if self.number == chunks::count(self.size) {
                return Err(WrongSize { size: self.size });
            }
            let length = chunks::in_memory(chunks::length(self.size, self.number));
            let (taken, rest) = bytes.split_at(bytes.len().min(length - self.chunk.len()));
            self.chunk.extend_from_slice(taken);
            bytes = rest;
            if self.chunk.len() == length {
                self.seal(sealed);
            }
        }
        Ok(())
    }

    /// Whether all of it has come.
    pub fn finish(&self) -> Result<(), WrongSize> {
        if self.number == chunks::count(self.size) {
            Ok(())
        } else {
            Err(WrongSize { size: self.size })
        }
    }

    fn seal(&mut self, sealed: &mut Vec<u8>) {
        let tag = self.cipher.seal(self.number, &mut self.chunk);
        sealed.extend_from_slice(&self.chunk);
        sealed.extend_from_slice(&tag);
        self.chunk.clear();
        self.number += 1;
    }
}

impl std::fmt::Debug for Sealing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Sealing")
            .field("size", &self.size)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers")]
mod tests {
    use super::*;
    use crate::key::CacheSecret;

    #[test]
    fn a_layer_has_just_its_size() {
        let key = CacheSecret::random().layer_key("origin", "digest");
        let chunk = CHUNK_BYTES as usize;
        for (size, came, is_right) in [
            (0, 0, true),
            (1, 0, false),
            (1, 1, true),
            (chunk, chunk, true),
            (chunk, chunk - 1, false),
            (chunk + 1, chunk, false),
            (chunk + 1, chunk + 1, true),
            (chunk, chunk + 1, false),
            (0, 1, false),
        ] {
            let mut sealing = Sealing::new(&key, size as u64);
            let mut sealed = Vec::new();
            let bytes = vec![7; came];
            let pushed = sealing.push(&bytes, &mut sealed);
            let whole = pushed.and_then(|()| sealing.finish());
            assert_eq!(whole.is_ok(), is_right, "{came} of {size}");
            if is_right {
                assert_eq!(Some(sealed.len() as u64), crate::sealed_size(size as u64));
            }
        }
    }
}
