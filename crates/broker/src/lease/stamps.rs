//! Which questions of a holder were asked before, so that a copy of a lease is noticed.
//!
//! A holder numbers its questions and makes random bytes for each. Several are under way at once,
//! so that they come in any order, and one whose answer was lost comes again with its own bytes.
//! The same number with other bytes is a second holder.

use std::collections::BTreeMap;

use vault::Stamp;

/// Questions that are remembered, and by how many one may be ahead of the last: more than a mount
/// has under way.
const WINDOW: u64 = 256;

/// The newest questions of one holder, by number.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    asked: BTreeMap<u64, Stamp>,
    /// Numbers up to this one are too old to be told apart.
    forgotten: u64,
}

/// A question that no single holder asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Copied;

impl Stamps {
    pub(super) fn admit(&mut self, stamp: Stamp) -> Result<(), Copied> {
        if let Some(known) = self.asked.get(&stamp.number) {
            return (*known == stamp).then_some(()).ok_or(Copied);
        }
        let last = self.asked.keys().next_back().copied().unwrap_or_default();
        if stamp.number <= self.forgotten || last.saturating_add(WINDOW) < stamp.number {
            return Err(Copied);
        }
        self.asked.insert(stamp.number, stamp);
        let newest = last.max(stamp.number);
        self.forgotten = self.forgotten.max(newest.saturating_sub(WINDOW));
        self.asked.retain(|number, _| self.forgotten < *number);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(number: u64, byte: u8) -> Stamp {
        Stamp {
            number,
            nonce: [byte; 16],
        }
    }

    fn check(questions: &[(u64, u8)]) -> Vec<bool> {
        let mut stamps = Stamps::default();
        let admitted = questions.iter().map(|(number, byte)| {
            let admitted = stamps.admit(stamp(*number, *byte));
            admitted.is_ok()
        });
        admitted.collect()
    }

    #[test]
    fn a_second_holder_is_known_by_its_first_number() {
        for (what, questions, admitted) in [
            ("one holder", vec![(1, 1), (2, 2), (3, 3)], vec![true; 3]),
            ("out of order", vec![(3, 3), (1, 1), (2, 2)], vec![true; 3]),
            (
                "lost replies",
                vec![(1, 1), (1, 1), (2, 2), (1, 1)],
                vec![true; 4],
            ),
            (
                "lost questions",
                vec![(1, 1), (5, 5), (9, 9)],
                vec![true; 3],
            ),
            ("a copy", vec![(1, 1), (1, 9)], vec![true, false]),
            (
                "a copy that is ahead",
                vec![(1, 1), (2, 9), (2, 2)],
                vec![true, true, false],
            ),
            ("no number", vec![(0, 1)], vec![false]),
            (
                "far ahead",
                vec![(1, 1), (1 + WINDOW, 2), (2 + 2 * WINDOW, 3)],
                vec![true, true, false],
            ),
            ("the end of numbers", vec![(u64::MAX, 1)], vec![false]),
            (
                "long ago",
                vec![(1, 1), (200, 2), (400, 3), (1, 1), (2, 4)],
                vec![true, true, true, false, false],
            ),
        ] {
            assert_eq!(check(&questions), admitted, "{what}");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut stamps = Stamps::default();
        for number in 1..=10 * WINDOW {
            stamps.admit(stamp(number, 1)).unwrap();
        }
        assert_eq!(stamps.asked.len() as u64, WINDOW);
    }
}
