//! What windows may take of the index, and have taken.

/// Windows may take so much of a thousand compressed bytes. What is left of 4 % is for spans and
/// metadata.
const WINDOWS_PER_MILLE: u64 = 33;

/// What windows are taken to be packed to before any was: half, as if so many bytes had been.
const FIRST_RAW_BYTES: u64 = 64 << 10;

#[derive(Debug)]
pub(super) struct Budget {
    compressed: u64,
    spent: u64,
    /// All that was ever packed, and to what.
    raw: u64,
    packed: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            compressed: 0,
            spent: 0,
            raw: FIRST_RAW_BYTES,
            packed: FIRST_RAW_BYTES / 2,
        }
    }
}

impl Budget {
    /// Compressed bytes have come.
    pub(super) fn earn(&mut self, bytes: usize) {
        self.compressed += bytes as u64;
    }

    pub(super) fn spend(&mut self, raw: usize, packed: usize) {
        self.spent += packed as u64;
        self.raw += raw as u64;
        self.packed += packed as u64;
    }

    /// A window is given up.
    pub(super) fn return_window(&mut self, packed: usize) {
        self.spent = self.spent.saturating_sub(packed as u64);
    }

    /// Says whether windows of so many bytes can be paid as well, once they are packed.
    pub(super) fn covers(&self, raw: usize) -> bool {
        let packed = raw as u64 * self.packed / self.raw.max(1);
        self.spent + packed <= self.compressed * WINDOWS_PER_MILLE / 1000
    }
}
