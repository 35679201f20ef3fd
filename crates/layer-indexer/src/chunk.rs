//! The uncompressed stream cut into spans.
//!
//! A span ends at the first place after `TARGET_SPAN` where decoding could start, and at
//! `MAX_SPAN` in any case; then the next span shares the checkpoint.

use layer_index::limits::{MAX_SPAN, TARGET_SPAN};

/// Room that is offered to a decoder at a time. Blocks are about as long.
const ROOM: usize = 64 << 10;

/// The span being filled.
#[derive(Debug)]
pub(crate) struct Chunk {
    bytes: Vec<u8>,
    filled: usize,
}

impl Chunk {
    pub(crate) fn new(mut buffer: Vec<u8>) -> Self {
        let start = TARGET_SPAN as usize + ROOM;
        buffer.resize(buffer.capacity().clamp(start, MAX_SPAN as usize), 0);
        Self {
            bytes: buffer,
            filled: 0,
        }
    }

    /// Where to decode to; never empty.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if self.bytes.len() - self.filled < ROOM && self.bytes.len() < MAX_SPAN as usize {
            let longer = (self.bytes.len() * 2).min(MAX_SPAN as usize);
            self.bytes.resize(longer, 0);
        }
        &mut self.bytes[self.filled..]
    }

    pub(crate) fn advance(&mut self, produced: usize) {
        self.filled += produced;
    }

    pub(crate) fn filled(&self) -> usize {
        self.filled
    }

    /// True when the span should end at the next place that allows it.
    pub(crate) fn is_long_enough(&self) -> bool {
        self.filled >= TARGET_SPAN as usize
    }

    /// True when the span has to end here.
    pub(crate) fn is_full(&self) -> bool {
        self.filled == MAX_SPAN as usize
    }

    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.truncate(self.filled);
        self.bytes
    }
}
