//! The trace: which spans were touched, in the order of their first touch, and when. Bounded; what
//! comes after a bound is not recorded.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Longest trace: a start that touches more (4 GiB of files) waits for the link whatever is known
/// of it. It also fits into one message of the mount process.
pub const MAX_TRACE_ENTRIES: usize = 16_384;

/// How long a start may take that is worth knowing: what reads later has begun its work.
pub const RECORD_FOR: Duration = Duration::from_secs(30);

/// A start that has read nothing new for so long is over. Importing what computes for longer
/// between two of its files is rare.
const QUIET_AFTER: Duration = Duration::from_secs(10);

/// One first touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceEntry {
    /// Position of the layer in the image, lowest first.
    pub layer: u32,
    pub span: u32,
    /// Since the filesystem was opened.
    pub at_ms: u32,
}

#[derive(Debug)]
pub(crate) struct Trace {
    touched: Vec<Box<[AtomicBool]>>,
    recorded: Mutex<Recorded>,
}

#[derive(Debug, Default)]
struct Recorded {
    entries: Vec<TraceEntry>,
    is_over: bool,
}

impl Trace {
    /// A trace of an image whose layers have this many spans each.
    pub(crate) fn new(spans: impl Iterator<Item = usize>) -> Self {
        let touched = spans
            .map(|count| {
                std::iter::repeat_with(AtomicBool::default)
                    .take(count)
                    .collect()
            })
            .collect();
        Self {
            touched,
            recorded: Mutex::default(),
        }
    }

    /// True the first time that this span is touched, however long that is after the start.
    pub(crate) fn touch(&self, layer: usize, span: usize, at: Duration) -> bool {
        let Some(touched) = self.touched.get(layer).and_then(|spans| spans.get(span)) else {
            return false;
        };
        if touched.load(Relaxed) || touched.swap(true, Relaxed) {
            return false;
        }
        let at_ms = u32::try_from(at.as_millis());
        if let (Ok(layer), Ok(span), Ok(at_ms)) = (u32::try_from(layer), u32::try_from(span), at_ms)
        {
            self.recorded().add(TraceEntry { layer, span, at_ms });
        }
        true
    }

    pub(crate) fn entries(&self) -> Vec<TraceEntry> {
        self.recorded().entries.clone()
    }

    fn recorded(&self) -> MutexGuard<'_, Recorded> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorded {
    fn add(&mut self, entry: TraceEntry) {
        let at = |entry: &TraceEntry| Duration::from_millis(entry.at_ms.into());
        let is_quiet = self
            .entries
            .last()
            .is_some_and(|last| at(&entry).saturating_sub(at(last)) > QUIET_AFTER);
        let is_full = self.entries.len() >= MAX_TRACE_ENTRIES;
        self.is_over |= is_quiet || is_full || at(&entry) > RECORD_FOR;
        if !self.is_over {
            self.entries.push(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(7);

    fn recorded(trace: &Trace) -> Vec<(u32, u32, u32)> {
        let entries = trace.entries().into_iter();
        entries
            .map(|entry| (entry.layer, entry.span, entry.at_ms))
            .collect()
    }

    #[test]
    fn first_touches_in_order_once_each() {
        let trace = Trace::new([3, 70_000].into_iter());
        for (layer, span, is_first) in [
            (1, 5, true),
            (0, 2, true),
            (1, 5, false),
            (0, 9, false),
            (2, 0, false),
            (0, 2, false),
            (0, 0, true),
        ] {
            assert_eq!(trace.touch(layer, span, SOON), is_first, "{layer} {span}");
        }
        assert_eq!(recorded(&trace), [(1, 5, 7), (0, 2, 7), (0, 0, 7)]);
        let many = (0..70_000).filter(|span| trace.touch(1, *span, SOON));
        assert_eq!(many.count(), 69_999);
        assert_eq!(trace.entries().len(), MAX_TRACE_ENTRIES);
    }

    #[test]
    fn what_comes_after_the_start_is_not_recorded() {
        let seconds = Duration::from_secs;
        for (name, times, expected) in [
            ("quiet", vec![0, 9, 19, 30, 30], 3),
            ("late", vec![0, 9, 18, 27, 31, 32], 4),
            ("a long wait before the first", vec![25, 26], 2),
        ] {
            let trace = Trace::new([100].into_iter());
            for (span, at) in times.into_iter().enumerate() {
                assert!(trace.touch(0, span, seconds(at)), "{name}: {span}");
            }
            assert_eq!(trace.entries().len(), expected, "{name}");
        }
    }
}
