//! Bits of entropy-coded data: forwards for tables, backwards for sequences.

use crate::FormatError;

const RAN_OUT: FormatError = FormatError("bits that end too early");

/// Reads from the first byte on, low bits first.
#[derive(Debug)]
pub(crate) struct ForwardBits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> ForwardBits<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next bits, at most 16, without going past them. Beyond the end are zeros.
    pub(crate) fn peek(&self, count: u32) -> u32 {
        let byte = |number| u32::from(self.bytes.get(self.at / 8 + number).copied().unwrap_or(0));
        let bits = byte(0) | byte(1) << 8 | byte(2) << 16;
        (bits >> (self.at % 8)) & ((1 << count) - 1)
    }

    pub(crate) fn skip(&mut self, count: u32) -> Result<(), FormatError> {
        self.at += count as usize;
        if self.at > self.bytes.len() * 8 {
            return Err(RAN_OUT);
        }
        Ok(())
    }

    pub(crate) fn read(&mut self, count: u32) -> Result<u32, FormatError> {
        let bits = self.peek(count);
        self.skip(count)?;
        Ok(bits)
    }

    /// Whole bytes that were read from.
    pub(crate) fn bytes_read(&self) -> usize {
        self.at.div_ceil(8)
    }
}

/// Reads from the last byte back, high bits first. The highest bit that is set marks the start.
#[derive(Debug)]
pub(crate) struct BackwardBits<'a> {
    bytes: &'a [u8],
    left: usize,
}

impl<'a> BackwardBits<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let last = bytes.last().filter(|last| **last != 0);
        let last = last.ok_or(FormatError("bits without a start"))?;
        let left = bytes.len() * 8 - 1 - last.leading_zeros() as usize;
        Ok(Self { bytes, left })
    }

    /// At most 32 bits.
    #[inline]
    pub(crate) fn read(&mut self, count: u32) -> Result<u32, FormatError> {
        let left = self.left.checked_sub(count as usize).ok_or(RAN_OUT)?;
        self.left = left;
        let shifted = self.load(left / 8) >> (left % 8);
        Ok(u32::try_from(shifted & ((1 << count) - 1)).expect("at most 32 bits"))
    }

    /// Eight bytes, of which those beyond the end are zeros.
    #[inline]
    fn load(&self, start: usize) -> u64 {
        let rest = &self.bytes[start.min(self.bytes.len())..];
        if let Some(whole) = rest.first_chunk::<8>() {
            return u64::from_le_bytes(*whole);
        }
        let mut padded = [0; 8];
        padded[..rest.len()].copy_from_slice(rest);
        u64::from_le_bytes(padded)
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.left == 0
    }
}
