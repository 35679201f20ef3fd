//! Bytes before a place that are used after it, each kept once.

use layer_index::SparseWindow;
use layer_index::limits::MAX_SPARSE_WINDOW;
use zstd_resume::Entrance;

/// What a run takes beside its bytes, at most, when the window is written.
const RUN_BYTES: usize = 8;

/// What a window takes that uses nothing, and somewhat more.
const EMPTY_BYTES: usize = 64;

#[derive(Debug)]
pub(super) struct Used {
    window_bytes: usize,
    /// A bit for each byte of the window, the one before the place first. Made when it is needed.
    known: Vec<u64>,
    /// In the order in which they were used.
    runs: Vec<Run>,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    /// How far before the place it begins.
    distance: u32,
    length: u32,
    /// Where its bytes are.
    at: u32,
}

impl Used {
    pub(super) fn new(window_bytes: usize) -> Self {
        Self {
            window_bytes,
            known: Vec::new(),
            runs: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// Adds bytes that begin `distance` before the place. What is beyond the place, or beyond the
    /// window, is left out.
    pub(super) fn add(&mut self, distance: u64, bytes: &[u8]) {
        let Ok(distance) = usize::try_from(distance) else {
            return;
        };
        if distance > self.window_bytes {
            return;
        }
        if self.known.is_empty() {
            self.known = vec![0; self.window_bytes.div_ceil(64)];
        }
        let mut continues = false;
        for (at, byte) in (1..=distance).rev().zip(bytes) {
            let (word, bit) = ((at - 1) / 64, 1 << ((at - 1) % 64));
            if self.known[word] & bit != 0 {
                continues = false;
                continue;
            }
            self.known[word] |= bit;
            match self.runs.last_mut() {
                Some(run) if continues => run.length += 1,
                _ => self.runs.push(Run {
                    distance: narrow(at),
                    length: 1,
                    at: narrow(self.bytes.len()),
                }),
            }
            self.bytes.push(*byte);
            continues = true;
        }
    }

    /// How long the window is that is written, at most.
    pub(super) fn size_bytes(&self) -> usize {
        EMPTY_BYTES + self.bytes.len() + RUN_BYTES * self.runs.len()
    }

    /// More is used than a window may have. It is kept all the same, for the place before.
    pub(super) fn is_overfull(&self) -> bool {
        self.size_bytes() > MAX_SPARSE_WINDOW
    }

    /// The runs: how far before the place each begins, and what it is.
    pub(super) fn runs(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let bytes = |run: &Run| &self.bytes[run.at as usize..][..run.length as usize];
        let place = move |run: &Run| (run.distance as usize, bytes(run));
        self.runs.iter().map(place)
    }

    /// The window as it is stored: in order, and what touches as one.
    pub(super) fn window(&self, entrance: Entrance) -> SparseWindow {
        let mut runs: Vec<_> = self.runs().collect();
        runs.sort_unstable_by_key(|(distance, _)| std::cmp::Reverse(*distance));
        let mut window = SparseWindow::new(entrance);
        window.reserve(self.bytes.len());
        let (mut distance, mut joined) = (0, Vec::new());
        for (next, bytes) in runs {
            if !joined.is_empty() && distance - joined.len() != next {
                window.push(distance, &joined);
                joined.clear();
            }
            if joined.is_empty() {
                distance = next;
            }
            joined.extend_from_slice(bytes);
        }
        if !joined.is_empty() {
            window.push(distance, &joined);
        }
        window
    }
}

/// A window is at most `MAX_ZSTD_WINDOW` long.
fn narrow(place: usize) -> u32 {
    u32::try_from(place).expect("within a window")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_kept_once_and_in_order() {
        let mut used = Used::new(1024);
        // The byte that is `distance` before the place.
        let byte = |distance: u64| distance.to_le_bytes()[0];
        for (distance, length) in [(10, 4), (12, 5), (900, 3), (5, 9), (1024, 1), (1025, 2)] {
            let bytes: Vec<u8> = (0..length.min(distance))
                .map(|at| byte(distance - at))
                .chain([0; 9])
                .take(usize::try_from(length).unwrap())
                .collect();
            used.add(distance, &bytes);
        }
        let entrance = Entrance::from_parts(0, false, [1, 4, 8]).unwrap();
        let window = used.window(entrance);
        let runs: Vec<_> = window
            .runs()
            .map(|(at, bytes)| (at, bytes.to_vec()))
            .collect();
        let expected = |distance: u64, length: u64| {
            let bytes: Vec<u8> = (0..length).map(|at| byte(distance - at)).collect();
            (usize::try_from(distance).unwrap(), bytes)
        };
        assert_eq!(
            runs,
            [
                expected(1024, 1),
                expected(900, 3),
                expected(12, 6),
                expected(5, 5)
            ]
        );
        assert_eq!(used.bytes.len(), 15);
    }

    #[test]
    fn what_is_not_overfull_can_be_written() {
        let entrance = Entrance::from_parts(0x70, true, [1, 4, 1 << 20]).unwrap();
        // Runs as far from each other as makes them long to write.
        let (mut used, mut distance) = (Used::new(16 << 20), 16 << 20);
        while !used.is_overfull() {
            used.window(entrance).pack().unwrap();
            for _ in 0..10_000 {
                used.add(distance, &distance.to_le_bytes()[..1]);
                distance -= 2;
            }
            let room = MAX_SPARSE_WINDOW.saturating_sub(used.size_bytes());
            let bytes: Vec<u8> = vec![7; room.min(300_000)];
            used.add(distance, &bytes);
            distance -= bytes.len() as u64 + 5;
        }
    }
}
