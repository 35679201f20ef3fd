//! The uncompressed stream cut into spans, and those into parts that are no longer than a buffer.
//!
//! A span ends at the first place after `TARGET_SPAN` where decoding could start, and at
//! `MAX_SPAN` in any case; then the next span shares the checkpoint. What compresses best has the
//! longest spans, and takes no more memory than any other.

use layer_index::limits::{MAX_SPAN, TARGET_SPAN};

/// Room that is offered to a decoder at a time. Blocks are about as long.
const ROOM: usize = 64 << 10;

/// A buffer: nearly every span is one part.
const PART_BYTES: usize = TARGET_SPAN as usize + ROOM;

/// The part of a span that is being filled.
#[derive(Debug)]
pub(crate) struct Chunk {
    bytes: Vec<u8>,
    filled: usize,
    /// What of the span was before this part.
    before: usize,
}

impl Chunk {
    /// The first part of a span, in a buffer with anything in it.
    pub(crate) fn new(buffer: Vec<u8>) -> Self {
        Self::after(0, buffer)
    }

    /// The part after so many bytes of the span.
    pub(crate) fn after(before: usize, mut buffer: Vec<u8>) -> Self {
        buffer.resize(PART_BYTES, 0);
        Self {
            bytes: buffer,
            filled: 0,
            before,
        }
    }

    /// Where to decode to; never empty before the part or the span is to end.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        let span_left = MAX_SPAN as usize - self.span_bytes();
        let end = self.bytes.len().min(self.filled + span_left);
        &mut self.bytes[self.filled..end]
    }

    pub(crate) fn advance(&mut self, produced: usize) {
        self.filled += produced;
    }

    /// What there is of the span.
    pub(crate) fn span_bytes(&self) -> usize {
        self.before + self.filled
    }

    /// True when the span should end at the next place that allows it.
    pub(crate) fn is_long_enough(&self) -> bool {
        self.span_bytes() >= TARGET_SPAN as usize
    }

    /// True when the span has to end here.
    pub(crate) fn is_full(&self) -> bool {
        self.span_bytes() == MAX_SPAN as usize
    }

    /// True when the span has to go on in another part.
    pub(crate) fn is_part_full(&self) -> bool {
        self.filled + ROOM > self.bytes.len()
    }

    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.truncate(self.filled);
        self.bytes
    }
}
