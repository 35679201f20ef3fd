//! How many refusals of one source have a row of their own in the audit log.
//!
//! All that a mistake or a person makes; of a flood the rows count how many they stand for, since
//! whoever is refused must not fill the disk of who refuses. Pure: the time is given.

use std::time::{Duration, Instant};

/// More than anybody makes by hand.
const ROWS_AT_ONCE: u32 = 32;
/// One more is written so often: some thousand a day of who never ends.
const ROW_EVERY: Duration = Duration::from_secs(10);

/// What one source may still have written.
#[derive(Debug, Default)]
pub(crate) struct Allowance {
    used: u32,
    /// Since when what was used comes back.
    since: Option<Instant>,
    unwritten: u64,
}

impl Allowance {
    /// One refusal: whether it is to be written, and how many were not since the last that was.
    pub(crate) fn take(&mut self, now: Instant) -> Option<u64> {
        self.come_back(now);
        if self.used >= ROWS_AT_ONCE {
            self.unwritten += 1;
            return None;
        }
        self.used += 1;
        Some(std::mem::take(&mut self.unwritten))
    }

    /// What was to be written, and stood for so many, is not there.
    pub(crate) fn not_written(&mut self, refusals: u64) {
        self.unwritten += refusals;
    }

    /// Whether it is as good as a new one.
    pub(crate) fn is_whole(&mut self, now: Instant) -> bool {
        self.come_back(now);
        self.used == 0 && self.unwritten == 0
    }

    fn come_back(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let elapsed = now.saturating_duration_since(since);
        let back = u32::try_from(elapsed.as_secs() / ROW_EVERY.as_secs()).unwrap_or(u32::MAX);
        if back > 0 {
            self.used = self.used.saturating_sub(back);
            self.since = Some(now);
        }
    }
}

/// What a row says of those that have none.
pub(crate) fn with_unwritten(reason: &str, unwritten: u64) -> String {
    match unwritten {
        0 => reason.to_owned(),
        count => format!("{reason} (and {count} more before)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_not_written() {
        let (mut allowance, start) = (Allowance::default(), Instant::now());
        for _ in 0..ROWS_AT_ONCE {
            assert_eq!(allowance.take(start), Some(0));
        }
        for _ in 0..100 {
            assert_eq!(allowance.take(start), None);
        }
        let later = start + ROW_EVERY;
        assert_eq!(allowance.take(later), Some(100));
        assert_eq!(allowance.take(later), None);
        let much_later = later + ROW_EVERY * 1000;
        assert!(!allowance.is_whole(much_later), "one is still to be told");
        assert_eq!(allowance.take(much_later), Some(1));
        assert_eq!(allowance.take(much_later), Some(0));
        assert!(!allowance.is_whole(much_later));
        assert!(allowance.is_whole(much_later + ROW_EVERY * 2));
        assert_eq!(with_unwritten("no", 0), "no");
        assert_eq!(with_unwritten("no", 7), "no (and 7 more before)");
    }
}
