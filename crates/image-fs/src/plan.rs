//! Pure arithmetic between a read and what is fetched for it: file offsets to pieces of the
//! layer, missing spans to runs that are worth one request.

use std::ops::Range;

use layer_index::Extent;

/// Bytes of a read that lie together in the layer. What no piece covers is zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Where the bytes go, from the start of the read.
    pub(crate) buffer_offset: usize,
    pub(crate) layer_offset: u64,
    pub(crate) length: usize,
}

/// The pieces of `length` bytes at `offset` of a file with these extents.
pub(crate) fn pieces(extents: &[Extent], offset: u64, length: usize) -> Vec<Piece> {
    let end = offset.saturating_add(length as u64);
    let start = extents.partition_point(|extent| extent_end(extent) <= offset);
    extents[start..]
        .iter()
        .take_while(|extent| extent.file_offset < end)
        .filter_map(|extent| piece(extent, offset, end))
        .collect()
}

fn extent_end(extent: &Extent) -> u64 {
    extent.file_offset.saturating_add(extent.length)
}

fn piece(extent: &Extent, offset: u64, end: u64) -> Option<Piece> {
    let from = extent.file_offset.max(offset);
    let to = extent_end(extent).min(end);
    Some(Piece {
        buffer_offset: usize::try_from(from - offset).ok()?,
        layer_offset: extent.layer_offset.checked_add(from - extent.file_offset)?,
        length: usize::try_from(to.checked_sub(from)?)
            .ok()
            .filter(|length| *length > 0)?,
    })
}

/// Spans that are fetched and decoded together, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: usize,
    pub(crate) last: usize,
}

/// What the planner has to know about a layer.
pub(crate) trait Layout {
    fn span_count(&self) -> usize;
    /// The spans that share this span's checkpoint: decoding starts only at the first of them.
    fn group(&self, span: usize) -> Run;
    fn compressed_range(&self, run: Run) -> Range<u64>;
}

/// What is worth one request, in compressed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Joining {
    /// Between two groups that are wanted.
    pub(crate) gap: u64,
    /// Of the request, unless one group alone is longer.
    pub(crate) most: u64,
}

/// The fewest runs that fetch all of `wanted` (ascending): whole groups, near ones joined.
pub(crate) fn runs(layout: &impl Layout, wanted: &[usize], joining: Joining) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for span in wanted {
        let group = layout.group(*span);
        match runs.last_mut() {
            Some(run) if group.last <= run.last => {}
            Some(run) if is_joinable(layout, *run, group, joining) => run.last = group.last,
            _ => runs.push(group),
        }
    }
    runs
}

fn is_joinable(layout: &impl Layout, run: Run, group: Run, joining: Joining) -> bool {
    let (before, after) = (layout.compressed_range(run), layout.compressed_range(group));
    let gap = after.start.saturating_sub(before.end);
    gap <= joining.gap && after.end.saturating_sub(before.start) <= joining.most
}

/// The run, lengthened by groups that are missing from the cache for as long as the request stays
/// within `floor` bytes. The bytes that a round trip costs anyway bring neighbours for nothing.
pub(crate) fn lengthen(
    layout: &impl Layout,
    run: Run,
    floor: u64,
    is_missing: impl Fn(usize) -> bool,
) -> Run {
    let mut run = run;
    while run.last + 1 < layout.span_count() {
        let group = layout.group(run.last + 1);
        let longer = Run {
            first: run.first,
            last: group.last,
        };
        let range = layout.compressed_range(longer);
        let all_missing = (group.first..=group.last).all(&is_missing);
        if !all_missing || range.end.saturating_sub(range.start) > floor {
            break;
        }
        run = longer;
    }
    run
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{MAX_GAP, MAX_RANGE};

    fn extent(file_offset: u64, layer_offset: u64, length: u64) -> Extent {
        Extent {
            file_offset,
            layer_offset,
            length,
        }
    }

    /// Extents, offset and length of a read; its pieces.
    type Case<'a> = (&'a [Extent], u64, usize, &'a [(usize, u64, usize)]);

    #[test]
    fn reads_become_pieces() {
        let whole = [extent(0, 512, 1000)];
        let sparse = [extent(10, 100, 10), extent(40, 110, 5), extent(45, 500, 5)];
        let (far, last) = ([extent(1 << 33, 7, 3)], u64::MAX);
        let cases: &[Case] = &[
            (&whole, 0, 1000, &[(0, 512, 1000)]),
            (&whole, 10, 20, &[(0, 522, 20)]),
            (&whole, 990, 100, &[(0, 1502, 10)]),
            (&whole, 1000, 10, &[]),
            (&whole, last, 10, &[]),
            (&[], 0, 10, &[]),
            (&sparse, 0, 60, &[(10, 100, 10), (40, 110, 5), (45, 500, 5)]),
            (&sparse, 15, 27, &[(0, 105, 5), (25, 110, 2)]),
            (&sparse, 20, 20, &[]),
            (&far, (1 << 33) - 1, 4, &[(1, 7, 3)]),
        ];
        for (extents, offset, length, expected) in cases {
            let found: Vec<_> = pieces(extents, *offset, *length)
                .into_iter()
                .map(|piece| (piece.buffer_offset, piece.layer_offset, piece.length))
                .collect();
            assert_eq!(
                &found, expected,
                "{length} bytes at {offset} of {extents:?}"
            );
        }
    }

    /// Spans in groups of the given sizes; each span is `span_bytes` long when compressed.
    struct Even {
        groups: Vec<usize>,
        span_bytes: u64,
    }

    impl Layout for Even {
        fn span_count(&self) -> usize {
            self.groups.iter().sum()
        }

        fn group(&self, span: usize) -> Run {
            let mut first = 0;
            for size in &self.groups {
                if span < first + size {
                    return Run {
                        first,
                        last: first + size - 1,
                    };
                }
                first += size;
            }
            panic!("no span {span}");
        }

        fn compressed_range(&self, run: Run) -> Range<u64> {
            run.first as u64 * self.span_bytes..(run.last as u64 + 1) * self.span_bytes
        }
    }

    #[test]
    fn missing_spans_become_runs() {
        let single = |span_bytes| Even {
            groups: vec![1; 100],
            span_bytes,
        };
        let grouped = Even {
            groups: vec![1, 3, 1, 95],
            span_bytes: 64 * 1024,
        };
        let cases = [
            (single(100_000), vec![], vec![]),
            (single(100_000), vec![4], vec![(4, 4)]),
            (single(100_000), vec![4, 5, 6], vec![(4, 6)]),
            (single(100_000), vec![4, 6], vec![(4, 6)]),
            (single(100_000), vec![4, 7], vec![(4, 4), (7, 7)]),
            (
                single(2_000_000),
                vec![1, 2, 3, 4, 5],
                vec![(1, 2), (3, 4), (5, 5)],
            ),
            (single(9_000_000), vec![1, 2], vec![(1, 1), (2, 2)]),
            (grouped, vec![0, 2, 3, 50], vec![(0, 3), (5, 99)]),
        ];
        for (layout, wanted, expected) in cases {
            let joining = Joining {
                gap: MAX_GAP,
                most: MAX_RANGE,
            };
            let found: Vec<_> = runs(&layout, &wanted, joining)
                .into_iter()
                .map(|run| (run.first, run.last))
                .collect();
            assert_eq!(found, expected, "{wanted:?} of {} bytes", layout.span_bytes);
        }
    }

    #[test]
    fn runs_grow_into_what_is_missing() {
        let layout = Even {
            groups: vec![1, 1, 1, 2, 1, 1],
            span_bytes: 100,
        };
        let cases = [
            (0, 100, 9, 0),
            (0, 300, 9, 2),
            (0, 400, 9, 2),
            (0, 500, 9, 4),
            (0, 500, 4, 2),
            (0, 10_000, 9, 6),
            (6, 10_000, 9, 6),
        ];
        for (first, floor, present, last) in cases {
            let run = Run { first, last: first };
            let found = lengthen(&layout, run, floor, |span| span != present);
            assert_eq!(
                found,
                Run { first, last },
                "floor {floor}, {present} present"
            );
        }
    }
}
