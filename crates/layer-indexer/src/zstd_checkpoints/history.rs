//! The last decoded bytes, to which blocks may refer.

use std::collections::VecDeque;
use std::ops::Range;

#[derive(Debug, Default)]
pub(super) struct History {
    bytes: VecDeque<u8>,
    /// Where the first byte is in the decoded layer.
    start: u64,
    most: usize,
}

impl History {
    /// Says how much is kept from now on. More is not looked for than was kept when it came.
    pub(super) fn keep(&mut self, most: u64) {
        self.most = usize::try_from(most).unwrap_or(usize::MAX);
        self.make_room(0);
        self.bytes.shrink_to(self.most);
        // At once: what grows by and by is moved about, and leaves holes. Pages that nothing is
        // written to take no memory.
        self.bytes.reserve_exact(self.most - self.bytes.len());
    }

    pub(super) fn push(&mut self, decoded: &[u8]) {
        let skipped = decoded.len().saturating_sub(self.most);
        self.make_room(decoded.len() - skipped);
        if skipped > 0 {
            self.start += self.bytes.len() as u64 + skipped as u64;
            self.bytes.clear();
        }
        self.bytes.extend(&decoded[skipped..]);
    }

    fn make_room(&mut self, added: usize) {
        let surplus = (self.bytes.len() + added).saturating_sub(self.most);
        let surplus = surplus.min(self.bytes.len());
        self.bytes.drain(..surplus);
        self.start += surplus as u64;
    }

    /// The bytes in a range of the decoded layer, in two parts. Nothing if they are not all there.
    pub(super) fn get(&self, range: &Range<u64>) -> Option<[&[u8]; 2]> {
        let place = |at: u64| usize::try_from(at.checked_sub(self.start)?).ok();
        let (from, to) = (place(range.start)?, place(range.end)?);
        if from > to || to > self.bytes.len() {
            return None;
        }
        let (first, second) = self.bytes.as_slices();
        let middle = first.len();
        let in_first = &first[from.min(middle)..to.min(middle)];
        let in_second = &second[from.saturating_sub(middle)..to.saturating_sub(middle)];
        Some([in_first, in_second])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_are_found() {
        let layer: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        let mut history = History::default();
        history.keep(1000);
        let mut pushed = 0;
        for length in [10, 900, 90, 500, 1, 1000, 3000, 7, 999] {
            history.push(&layer[pushed..pushed + length]);
            pushed += length;
            let first = pushed.saturating_sub(1000);
            for (from, to) in [
                (first, pushed),
                (pushed - 1, pushed),
                (first + 3, pushed - 4),
            ] {
                let range = from as u64..to as u64;
                let found = history.get(&range).expect("kept").concat();
                assert_eq!(found, layer[from..to], "{from} to {to} of {pushed}");
            }
            let end = pushed as u64;
            assert!(history.get(&(end - 1..end + 1)).is_none());
            assert!(first == 0 || history.get(&(first as u64 - 1..end)).is_none());
        }
        history.keep(0);
        assert!(history.get(&(pushed as u64 - 1..pushed as u64)).is_none());
    }
}
