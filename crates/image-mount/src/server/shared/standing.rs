//! Whether the store is worth asking, as its and the registry's latest reads have shown.

use std::time::Duration;

use tokio::time::Instant;

/// First pause after a failure, doubled by each further one: long enough for a start to go on
/// without it.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// How long a store rests that is slower than the registry.
const SLOW_PAUSE: Duration = Duration::from_mins(1);
/// So many times slower it must be: reads share a link, and single ones tell little.
const MUCH_SLOWER: f64 = 2.0;
/// Shorter reads are mostly waiting, the registry's as much as the store's.
const TELLING_BYTES: u64 = 128 << 10;
/// Reads of both that are looked at before anything is concluded.
const TELLING_READS: u32 = 4;
/// What a new read counts beside those before it.
const WEIGHT: f64 = 0.25;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    Shared,
    Registry,
}

/// A read that brought all that it was to bring.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read {
    pub(super) bytes: u64,
    pub(super) took: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Standing {
    rests_until: Option<Instant>,
    /// Failures since it did well.
    failures: u32,
    shared: Rate,
    registry: Rate,
}

/// How fast reads were, in bytes a second.
#[derive(Debug, Default)]
struct Rate {
    bytes_per_second: f64,
    reads: u32,
}

impl Standing {
    pub(super) fn is_worth_it(&self, now: Instant) -> bool {
        self.rests_until.is_none_or(|until| until <= now)
    }

    pub(super) fn failed(&mut self, now: Instant) {
        // Those that were under way with it say nothing new.
        if !self.is_worth_it(now) {
            return;
        }
        let pause = FIRST_PAUSE * 2_u32.saturating_pow(self.failures.min(16));
        self.failures += 1;
        self.rests_until = Some(now + pause.min(LONGEST_PAUSE));
    }

    pub(super) fn succeeded(&mut self, now: Instant, whose: Whose, read: Read) {
        if whose == Whose::Shared {
            self.failures = 0;
        }
        if read.bytes < TELLING_BYTES {
            return;
        }
        match whose {
            Whose::Shared => self.shared.note(read),
            Whose::Registry => self.registry.note(read),
        }
        let is_known = self.shared.is_known() && self.registry.is_known();
        let is_slow = self.shared.bytes_per_second * MUCH_SLOWER < self.registry.bytes_per_second;
        if is_known && is_slow && self.is_worth_it(now) {
            self.rests_until = Some(now + SLOW_PAUSE);
            // It may be another time by then.
            self.shared = Rate::default();
        }
    }
}

impl Rate {
    #[allow(clippy::cast_precision_loss, reason = "an estimate")]
    fn note(&mut self, read: Read) {
        let seconds = read.took.as_secs_f64().max(1e-6);
        let rate = read.bytes as f64 / seconds;
        self.bytes_per_second = match self.reads {
            0 => rate,
            _ => self.bytes_per_second + (rate - self.bytes_per_second) * WEIGHT,
        };
        self.reads = self.reads.saturating_add(1);
    }

    fn is_known(&self) -> bool {
        self.reads >= TELLING_READS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: u64, millis: u64) -> Read {
        Read {
            bytes,
            took: Duration::from_millis(millis),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_fails_rests_longer_each_time_until_it_does_well() {
        let mut standing = Standing::default();
        let mut now = Instant::now();
        for seconds in [5, 10, 20, 40, 80, 160, 300, 300] {
            assert!(standing.is_worth_it(now));
            standing.failed(now);
            standing.failed(now);
            let pause = Duration::from_secs(seconds);
            assert!(!standing.is_worth_it(now + pause - Duration::from_millis(1)));
            now += pause;
        }
        standing.succeeded(now, Whose::Shared, read(1, 1));
        standing.failed(now);
        assert!(standing.is_worth_it(now + FIRST_PAUSE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_rests_that_is_much_slower_than_the_registry() {
        let now = Instant::now();
        let mib = 1 << 20;
        for (shared_ms, registry_ms, bytes, rests) in [
            (100, 100, mib, false),
            (190, 100, mib, false),
            (210, 100, mib, true),
            (100, 900, mib, false),
            (900, 100, TELLING_BYTES - 1, false),
        ] {
            let mut standing = Standing::default();
            for _ in 0..TELLING_READS {
                assert!(standing.is_worth_it(now), "too early");
                standing.succeeded(now, Whose::Registry, read(bytes, registry_ms));
                standing.succeeded(now, Whose::Shared, read(bytes, shared_ms));
            }
            assert_eq!(
                !standing.is_worth_it(now),
                rests,
                "{shared_ms} {registry_ms}"
            );
            assert!(standing.is_worth_it(now + SLOW_PAUSE));
        }
    }
}
