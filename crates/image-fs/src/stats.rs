//! Counters of one mounted image. Written from any thread without a lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Buckets of the stall histogram: four to an octave of microseconds, up to about an hour.
const BUCKETS: usize = 128;

/// What an image's reads have cost so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FsStats {
    /// Compressed bytes that came from the source.
    pub bytes_fetched: u64,
    /// Answered requests to the source.
    pub requests: u64,
    /// Attempts that failed and were repeated.
    pub retries: u64,
    /// Reads by programs, and how many of them found all of their bytes in the cache.
    pub reads: u64,
    pub cache_hits: u64,
    /// Decoded bytes given to programs.
    pub bytes_served: u64,
    /// Spans that were decoded and kept, or found wrong.
    pub spans_decoded: u64,
    pub spans_corrupt: u64,
    /// 99 of 100 reads waited for the source no longer than this.
    pub stall_p99_us: u64,
    /// Compressed bytes that came from the source before anything asked for them, because the
    /// start was foretold to read them; they are in `bytes_fetched` too.
    pub bytes_prefetched: u64,
    /// Spans that were fetched so, and how many of them something has read since.
    pub spans_prefetched: u64,
    pub prefetch_hits: u64,
    /// Compressed bytes that came while nobody read anything, for the cache alone; they are in
    /// `bytes_fetched` too. And the spans that they were.
    pub bytes_filled: u64,
    pub spans_filled: u64,
    /// Compressed size of all layers.
    pub bytes_total: u64,
}

#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) bytes_fetched: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) reads: AtomicU64,
    pub(crate) cache_hits: AtomicU64,
    pub(crate) bytes_served: AtomicU64,
    pub(crate) spans_decoded: AtomicU64,
    pub(crate) spans_corrupt: AtomicU64,
    pub(crate) bytes_prefetched: AtomicU64,
    pub(crate) spans_prefetched: AtomicU64,
    pub(crate) prefetch_hits: AtomicU64,
    pub(crate) bytes_filled: AtomicU64,
    pub(crate) spans_filled: AtomicU64,
    stalls: [AtomicU64; BUCKETS],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            bytes_fetched: AtomicU64::default(),
            requests: AtomicU64::default(),
            retries: AtomicU64::default(),
            reads: AtomicU64::default(),
            cache_hits: AtomicU64::default(),
            bytes_served: AtomicU64::default(),
            spans_decoded: AtomicU64::default(),
            spans_corrupt: AtomicU64::default(),
            bytes_prefetched: AtomicU64::default(),
            spans_prefetched: AtomicU64::default(),
            prefetch_hits: AtomicU64::default(),
            bytes_filled: AtomicU64::default(),
            spans_filled: AtomicU64::default(),
            stalls: std::array::from_fn(|_| AtomicU64::default()),
        }
    }
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Relaxed);
    }

    /// A read was answered: how many bytes, and how long it waited for the source.
    pub(crate) fn served(&self, bytes: usize, stall: Duration) {
        Self::add(&self.reads, 1);
        Self::add(&self.bytes_served, bytes as u64);
        if stall.is_zero() {
            Self::add(&self.cache_hits, 1);
        }
        Self::add(&self.stalls[bucket(stall)], 1);
    }

    pub(crate) fn read(&self, bytes_total: u64) -> FsStats {
        FsStats {
            bytes_fetched: self.bytes_fetched.load(Relaxed),
            requests: self.requests.load(Relaxed),
            retries: self.retries.load(Relaxed),
            reads: self.reads.load(Relaxed),
            cache_hits: self.cache_hits.load(Relaxed),
            bytes_served: self.bytes_served.load(Relaxed),
            spans_decoded: self.spans_decoded.load(Relaxed),
            spans_corrupt: self.spans_corrupt.load(Relaxed),
            bytes_prefetched: self.bytes_prefetched.load(Relaxed),
            spans_prefetched: self.spans_prefetched.load(Relaxed),
            prefetch_hits: self.prefetch_hits.load(Relaxed),
            bytes_filled: self.bytes_filled.load(Relaxed),
            spans_filled: self.spans_filled.load(Relaxed),
            stall_p99_us: self.percentile(99),
            bytes_total,
        }
    }

    /// The upper edge of the bucket that holds this percentile, in microseconds.
    fn percentile(&self, percent: u64) -> u64 {
        let counts: Vec<u64> = self
            .stalls
            .iter()
            .map(|count| count.load(Relaxed))
            .collect();
        let total: u64 = counts.iter().sum();
        let wanted = (total * percent).div_ceil(100);
        let mut seen = 0;
        for (bucket, count) in counts.iter().enumerate() {
            seen += count;
            if wanted > 0 && seen >= wanted {
                return upper_edge(bucket);
            }
        }
        0
    }
}

/// Bucket 0 is "no wait"; above 4 µs each octave has four.
fn bucket(stall: Duration) -> usize {
    let micros = u64::try_from(stall.as_micros()).unwrap_or(u64::MAX);
    if micros < 4 {
        return usize::try_from(micros).unwrap_or(0);
    }
    let octave = micros.ilog2();
    let quarter = (micros >> (octave - 2)) & 3;
    let index = u64::from(octave - 1) * 4 + quarter;
    usize::try_from(index).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

fn upper_edge(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 4 {
        return bucket;
    }
    let (octave, quarter) = (bucket / 4 + 1, bucket % 4);
    ((4 + quarter + 1) << (octave - 2)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_hold_their_values() {
        let mut last = 0;
        for micros in (0..4000u64).chain((12..31).map(|power| (1 << power) + 17)) {
            let at = bucket(Duration::from_micros(micros));
            assert!(at >= last, "{micros}");
            assert!(upper_edge(at) >= micros, "{micros} is above bucket {at}");
            assert!(
                at < 4 || upper_edge(at - 1) < micros,
                "{micros} is below bucket {at}"
            );
            last = at;
        }
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn the_percentile_is_of_waits() {
        let counters = Counters::default();
        assert_eq!(counters.read(0).stall_p99_us, 0);
        for _ in 0..98 {
            counters.served(10, Duration::ZERO);
        }
        for _ in 0..2 {
            counters.served(10, Duration::from_millis(40));
        }
        let stats = counters.read(7);
        assert!(
            (40_000..50_000).contains(&stats.stall_p99_us),
            "{}",
            stats.stall_p99_us
        );
        assert_eq!(
            (stats.reads, stats.cache_hits, stats.bytes_served),
            (100, 98, 1000)
        );
        assert_eq!(stats.bytes_total, 7);
    }
}
