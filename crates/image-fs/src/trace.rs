//! The trace: which spans were touched, in the order of their first touch. Bounded; what comes
//! after the bound is not recorded.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Longest trace: a start that touches more (12 GiB of files) gains nothing from one. It also
/// fits into one message of the mount process.
const MAX_ENTRIES: usize = 50_000;

/// One first touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceEntry {
    /// Position of the layer in the image, lowest first.
    pub layer: u32,
    pub span: u32,
}

#[derive(Debug)]
pub(crate) struct Trace {
    touched: Vec<Box<[AtomicBool]>>,
    entries: Mutex<Vec<TraceEntry>>,
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
            entries: Mutex::default(),
        }
    }

    pub(crate) fn touch(&self, layer: usize, span: usize) {
        let Some(touched) = self.touched.get(layer).and_then(|spans| spans.get(span)) else {
            return;
        };
        if touched.load(Relaxed) || touched.swap(true, Relaxed) {
            return;
        }
        let (Ok(layer), Ok(span)) = (u32::try_from(layer), u32::try_from(span)) else {
            return;
        };
        let mut entries = self
            .entries
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if entries.len() < MAX_ENTRIES {
            entries.push(TraceEntry { layer, span });
        }
    }

    pub(crate) fn entries(&self) -> Vec<TraceEntry> {
        self.entries
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_touches_in_order_once_each() {
        let trace = Trace::new([3, 70_000].into_iter());
        for (layer, span) in [(1, 5), (0, 2), (1, 5), (0, 9), (2, 0), (0, 2), (0, 0)] {
            trace.touch(layer, span);
        }
        let entry = |layer, span| TraceEntry { layer, span };
        assert_eq!(trace.entries(), [entry(1, 5), entry(0, 2), entry(0, 0)]);
        (0..70_000).for_each(|span| trace.touch(1, span));
        assert_eq!(trace.entries().len(), MAX_ENTRIES);
    }
}
