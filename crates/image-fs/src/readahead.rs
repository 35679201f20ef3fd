//! Noticing that a layer is read in order, and how far to fetch ahead of the reader then. Pure.

use crate::limits::{FIRST_WINDOW, WIDEST_WINDOW};

/// Streams per layer that are told apart: a few files read side by side.
const CURSORS: usize = 4;
/// Steps in order before it counts as a stream: one step is chance.
const STEPS: u32 = 2;

#[derive(Debug, Default)]
pub(crate) struct ReadAhead {
    cursors: [Cursor; CURSORS],
    clock: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    first_span: usize,
    last_span: usize,
    steps: u32,
    used: u64,
}

/// A reader that has just moved on within a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stream {
    /// Where it began.
    pub(crate) first_span: usize,
    /// Compressed bytes that are worth having, by the number of its steps.
    pub(crate) window: u64,
}

impl ReadAhead {
    /// The window that a read from `first` on would open, where it goes on with a stream.
    pub(crate) fn window_from(&self, first: usize) -> Option<u64> {
        let mut cursors = self.cursors.iter();
        let cursor = cursors.find(|cursor| cursor.used > 0 && first == cursor.last_span + 1)?;
        window(cursor.steps.saturating_add(1))
    }

    /// A read touched spans `first` to `last`. Says what is worth having after `last`, when the
    /// reader has just moved on within a stream.
    pub(crate) fn note(&mut self, first: usize, last: usize) -> Option<Stream> {
        self.clock += 1;
        let clock = self.clock;
        let follows = |cursor: &&mut Cursor| {
            cursor.used > 0 && (first == cursor.last_span || first == cursor.last_span + 1)
        };
        if let Some(cursor) = self.cursors.iter_mut().find(follows) {
            cursor.used = clock;
            if last <= cursor.last_span {
                return None;
            }
            cursor.last_span = last;
            cursor.steps = cursor.steps.saturating_add(1);
            let window = window(cursor.steps)?;
            return Some(Stream {
                first_span: cursor.first_span,
                window,
            });
        }
        let oldest = self.cursors.iter_mut().min_by_key(|cursor| cursor.used)?;
        *oldest = Cursor {
            first_span: first,
            last_span: last,
            steps: 0,
            used: clock,
        };
        None
    }
}

fn window(steps: u32) -> Option<u64> {
    let doublings = steps.checked_sub(STEPS)?;
    Some((FIRST_WINDOW << doublings.min(8)).min(WIDEST_WINDOW))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its name; reads, and the window that each of them opens.
    type Case<'a> = (&'a str, &'a [(usize, usize, Option<u64>)]);

    #[test]
    fn streams_are_noticed() {
        let (first, second) = (Some(FIRST_WINDOW), Some(FIRST_WINDOW * 2));
        let cases: &[Case] = &[
            (
                "in order",
                &[(0, 0, None), (1, 1, None), (2, 2, first), (3, 3, second)],
            ),
            (
                "small reads",
                &[
                    (0, 0, None),
                    (0, 0, None),
                    (0, 1, None),
                    (1, 1, None),
                    (2, 2, first),
                ],
            ),
            (
                "jumps",
                &[(0, 0, None), (9, 9, None), (4, 4, None), (70, 70, None)],
            ),
            (
                "two at once",
                &[
                    (0, 0, None),
                    (50, 50, None),
                    (1, 1, None),
                    (51, 51, None),
                    (2, 2, first),
                    (52, 52, first),
                ],
            ),
            (
                "backwards",
                &[(9, 9, None), (8, 8, None), (7, 7, None), (6, 6, None)],
            ),
        ];
        for (name, reads) in cases {
            let mut ahead = ReadAhead::default();
            for (first, last, expected) in *reads {
                let window = ahead.note(*first, *last).map(|stream| stream.window);
                assert_eq!(window, *expected, "{name}: {first}..={last}");
            }
        }
        let mut ahead = ReadAhead::default();
        let streams = (7..100).filter_map(|span| ahead.note(span, span));
        let last = streams
            .last()
            .map(|stream| (stream.first_span, stream.window));
        assert_eq!(last, Some((7, WIDEST_WINDOW)));
    }
}
