//! What the source gives, as requests saw it: how long the first byte takes, and how fast the
//! others follow.
//!
//! A few of the latest requests count, in whole numbers within bounds: an answer that came in no
//! time, or in a day, moves nothing but its own place among them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::backlog::Pressure;
use crate::limits::{
    AHEAD_TIME, ENOUGH_PACES, ENOUGH_SAMPLES, FASTEST, FIRST_FORETOLD, FIRST_UNIT, FIRST_WINDOW,
    FLIGHT_ROUND_TRIPS, FORETOLD_PARTS, FORETOLD_TIME, HASTE_TIME, LAG_PERIOD, LAG_SHARE,
    LEAST_STRETCH, LEAST_UNIT, MAX_FORETOLD_RANGE, MAX_RANGE, MIN_TIMED, PACE_PERIOD, REST_TIME,
    SAMPLED_BYTES, SAMPLES, STRETCH_TIME, STRETCH_UNITS, UNIT_TIME,
};

#[derive(Debug, Default)]
pub(super) struct Link {
    measured: Mutex<Measured>,
    /// Requests that are under way, and all bytes that ever came.
    flows: AtomicU64,
    came: AtomicU64,
}

#[derive(Debug, Default)]
struct Measured {
    /// From asking to the first byte, in microseconds.
    waits: Recent,
    /// Of one request, in bytes a second.
    rates: Recent,
    /// Of all requests together, while any is under way.
    paces: Recent,
    counting: Option<Counting>,
}

/// What has come since a moment.
#[derive(Clone, Copy, Debug)]
struct Counting {
    since: Instant,
    bytes: u64,
}

impl Link {
    /// Bytes for one request of a reader that jumps: as many as come in the time that another
    /// request would only wait.
    pub(super) fn unit(&self) -> u64 {
        let measured = self.measured();
        if let (Some(wait), Some(rate)) = (measured.waits.least(), measured.rates.upper()) {
            return bytes_in(rate, wait).clamp(LEAST_UNIT, MAX_RANGE);
        }
        let soon = measured.bring(UNIT_TIME).unwrap_or(FIRST_UNIT);
        soon.clamp(LEAST_UNIT, FIRST_UNIT)
    }

    /// Bytes for one request that nobody waits for the beginning of.
    pub(super) fn stretch(&self) -> u64 {
        let measured = self.measured();
        let (Some(wait), Some(rate)) = (measured.waits.least(), measured.rates.upper()) else {
            let soon = measured.bring(STRETCH_TIME).unwrap_or(MAX_RANGE);
            return soon.clamp(FIRST_UNIT, MAX_RANGE);
        };
        let units = bytes_in(rate, wait).saturating_mul(STRETCH_UNITS);
        let soon = bytes_in(rate, micros(STRETCH_TIME));
        units
            .max(soon.min(LEAST_STRETCH))
            .clamp(FIRST_UNIT, MAX_RANGE)
    }

    /// Bytes that are worth having ahead of a reader in order, at most.
    pub(super) fn ahead(&self) -> u64 {
        let ahead = self.measured().bring(AHEAD_TIME);
        ahead.map_or(u64::MAX, |ahead| ahead.max(FIRST_WINDOW))
    }

    /// Bytes for one request of what is foretold.
    pub(super) fn portion(&self) -> u64 {
        let most = self.measured().in_flight(FORETOLD_TIME);
        let part = most.unwrap_or(FIRST_FORETOLD) / FORETOLD_PARTS;
        part.clamp(LEAST_UNIT, MAX_FORETOLD_RANGE)
    }

    /// Whether one request more of what is foretold is in nobody's way.
    pub(super) fn carries_foretold(&self, pressure: Pressure) -> bool {
        let measured = self.measured();
        if !pressure.is_waited_for {
            let most = measured.in_flight(FORETOLD_TIME);
            return is_below(pressure.wanted, most.unwrap_or(FIRST_FORETOLD));
        }
        let most = measured.in_flight(HASTE_TIME).unwrap_or(FIRST_FORETOLD);
        if pressure.wanted.saturating_add(LEAST_UNIT) <= most {
            return true;
        }
        // It would run dry before the first bytes come of what is asked for now.
        let dry = measured.waits.least().zip(measured.pace());
        let dry = dry.map_or(0, |(wait, rate)| bytes_in(rate, wait));
        pressure.wanted <= dry.min(LEAST_UNIT)
    }

    /// The same of the rest of a layer.
    pub(super) fn carries_rest(&self, pressure: Pressure) -> bool {
        let most = self.measured().in_flight(REST_TIME);
        let pressure = pressure.wanted.saturating_add(pressure.spare);
        most.is_none_or(|most| is_below(pressure, most))
    }

    /// A request sets out.
    pub(super) fn flow(&self) -> Flow<'_> {
        if self.flows.fetch_add(1, Relaxed) == 0 {
            // Between the last one and this there was nothing to bring.
            self.measured().counting = None;
        }
        Flow {
            link: self,
            begun: Instant::now(),
            progress: Mutex::default(),
        }
    }

    /// What is usual for one of several requests.
    fn usual(&self, flows: u64) -> Option<Usual> {
        let measured = self.measured();
        Some(Usual {
            wait: measured.waits.least()?,
            bytes: bytes_in(measured.rates.middle()?, micros(LAG_PERIOD)) / flows,
        })
    }

    fn measured(&self) -> MutexGuard<'_, Measured> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Measured {
    /// What all requests get together, in bytes a second.
    fn pace(&self) -> Option<u64> {
        self.paces.upper_of(ENOUGH_PACES)
    }

    /// What the link brings in this time.
    fn bring(&self, time: Duration) -> Option<u64> {
        Some(bytes_in(self.pace()?, micros(time)))
    }

    /// What is brought in this time, and what is in flight before it comes.
    fn in_flight(&self, time: Duration) -> Option<u64> {
        let round_trips = self.waits.any_least().saturating_mul(FLIGHT_ROUND_TRIPS);
        let time = micros(time).saturating_add(round_trips);
        Some(bytes_in(self.pace()?, time))
    }

    fn came(&mut self, bytes: u64) {
        let now = Instant::now();
        let Some(counting) = &mut self.counting else {
            // What comes first had waited.
            self.counting = Some(Counting {
                since: now,
                bytes: 0,
            });
            return;
        };
        counting.bytes = counting.bytes.saturating_add(bytes);
        let took = now.duration_since(counting.since);
        if took >= PACE_PERIOD {
            let rate = counting.bytes.saturating_mul(1_000_000) / micros(took);
            self.paces.add(rate.min(FASTEST));
            self.counting = Some(Counting {
                since: now,
                bytes: 0,
            });
        }
    }
}

/// There is room for more, or there is nothing yet.
fn is_below(under_way: u64, most: u64) -> bool {
    under_way == 0 || under_way.saturating_add(LEAST_UNIT) <= most
}

/// Bytes that come in so many microseconds.
fn bytes_in(rate: u64, micros: u64) -> u64 {
    rate.saturating_mul(micros) / 1_000_000
}

struct Usual {
    /// For the first byte, in microseconds.
    wait: u64,
    /// Within a period.
    bytes: u64,
}

/// One request on its way. What it saw is noted when it is over, however it ends.
#[derive(Debug)]
pub(super) struct Flow<'a> {
    link: &'a Link,
    begun: Instant,
    progress: Mutex<Progress>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    first: Option<Instant>,
    came: u64,
    /// Those that came first had waited together.
    came_first: u64,
}

/// What there was to see at one moment.
struct Glance {
    progress: Progress,
    came_to_all: u64,
    flows: u64,
}

impl Flow<'_> {
    pub(super) fn came(&self, bytes: usize) {
        let bytes = bytes as u64;
        self.link.came.fetch_add(bytes, Relaxed);
        self.link.measured().came(bytes);
        let mut progress = self.progress();
        progress.came = progress.came.saturating_add(bytes);
        if progress.first.is_none() {
            progress.first = Some(Instant::now());
            progress.came_first = bytes;
        }
    }

    /// Returns once this request, for so many bytes, lags so far behind others that another one
    /// would have the rest long before it.
    pub(super) async fn lags(&self, length: u64) {
        let mut before = self.glance();
        loop {
            tokio::time::sleep(LAG_PERIOD).await;
            let now = self.glance();
            if self.is_behind(&before, &now, length) {
                return;
            }
            before = now;
        }
    }

    fn is_behind(&self, before: &Glance, now: &Glance, length: u64) -> bool {
        let flows = now.flows.max(before.flows).max(1);
        let Some(usual) = self.link.usual(flows) else {
            return false;
        };
        // An answer that is late may be one that was told to wait, or a token that is on its way.
        if before.progress.first.is_none() {
            return false;
        }
        let came = now.progress.came.saturating_sub(before.progress.came);
        let came_to_all = now.came_to_all.saturating_sub(before.came_to_all);
        let expected = usual.bytes.max(came_to_all / flows);
        if came.saturating_mul(LAG_SHARE) >= expected {
            return false;
        }
        let left = length.saturating_sub(now.progress.came);
        let time_at = |bytes: u64| left.saturating_mul(micros(LAG_PERIOD)) / bytes.max(1);
        time_at(came) / 2 > time_at(expected).saturating_add(usual.wait)
    }

    fn glance(&self) -> Glance {
        Glance {
            progress: *self.progress(),
            came_to_all: self.link.came.load(Relaxed),
            flows: self.link.flows.load(Relaxed),
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Flow<'_> {
    fn drop(&mut self) {
        self.link.flows.fetch_sub(1, Relaxed);
        let progress = *self.progress();
        let Some(first) = progress.first else { return };
        let mut measured = self.link.measured();
        measured.waits.add(micros(first.duration_since(self.begun)));
        let followed = progress.came.saturating_sub(progress.came_first);
        if followed >= SAMPLED_BYTES {
            let took = micros(first.elapsed().max(MIN_TIMED));
            let rate = followed.saturating_mul(1_000_000) / took;
            measured.rates.add(rate.min(FASTEST));
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The latest values of something.
#[derive(Debug, Default)]
struct Recent {
    samples: [u64; SAMPLES],
    added: usize,
}

impl Recent {
    fn add(&mut self, sample: u64) {
        self.samples[self.added % SAMPLES] = sample;
        self.added += 1;
    }

    /// None of them while they are too few to say anything.
    fn sorted(&self, enough: usize) -> Option<Vec<u64>> {
        let mut samples = self.samples.get(..self.added.min(SAMPLES))?.to_vec();
        samples.sort_unstable();
        (samples.len() >= enough).then_some(samples)
    }

    fn least(&self) -> Option<u64> {
        self.sorted(ENOUGH_SAMPLES)?.first().copied()
    }

    /// Of however few there are.
    fn any_least(&self) -> u64 {
        let samples = self.sorted(0).unwrap_or_default();
        samples.first().copied().unwrap_or_default()
    }

    fn middle(&self) -> Option<u64> {
        let samples = self.sorted(ENOUGH_SAMPLES)?;
        samples.get(samples.len() / 2).copied()
    }

    /// A quarter of them are more: what a request can have that has no slow start, or fewer others
    /// beside it, but for a few that are odd.
    fn upper(&self) -> Option<u64> {
        self.upper_of(ENOUGH_SAMPLES)
    }

    fn upper_of(&self, enough: usize) -> Option<u64> {
        let samples = self.sorted(enough)?;
        samples.get(samples.len() * 3 / 4).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests that each wait and then get so many bytes within a time.
    async fn saw(link: &Link, requests: &[(u64, usize, u64)]) {
        for (wait_us, bytes, took_us) in requests {
            let flow = link.flow();
            tokio::time::advance(Duration::from_micros(*wait_us)).await;
            flow.came(1);
            tokio::time::advance(Duration::from_micros(*took_us)).await;
            flow.came(*bytes);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_worth_the_wait_for_another() {
        let second = 1_000_000;
        let at_rate = |wait_ms: u64, rate: usize| (wait_ms * 1000, rate, second);
        let day = 86_400 * second;
        let cases = [
            ("unknown", vec![], FIRST_UNIT),
            ("too few", vec![at_rate(20, 25_000_000); 3], FIRST_UNIT),
            (
                "200 Mbit/s, 20 ms",
                vec![at_rate(20, 25_000_000); 4],
                500_000,
            ),
            (
                "800 Mbit/s, 20 ms",
                vec![at_rate(20, 100_000_000); 9],
                2_000_000,
            ),
            (
                "1 Gbit/s, 100 ms",
                vec![at_rate(100, 125_000_000); 4],
                MAX_RANGE,
            ),
            (
                "24 Mbit/s, 10 ms",
                vec![at_rate(10, 3_000_000); 4],
                LEAST_UNIT,
            ),
            ("in no time", vec![(0, 1 << 40, 0); 40], LEAST_UNIT),
            ("small ones", vec![(20_000, 1000, 10); 40], FIRST_UNIT),
            ("in a day", vec![(day, 1 << 40, day); 40], MAX_RANGE),
            (
                "beyond all",
                vec![(u64::MAX / 4096, usize::MAX, 1); 2],
                FIRST_UNIT,
            ),
        ];
        for (name, requests, expected) in cases {
            let link = Link::default();
            saw(&link, &requests).await;
            assert_eq!(link.unit(), expected, "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_waits_for_is_asked_for_at_length() {
        let second = 1_000_000;
        for (wait_us, rate, expected) in [
            (20_000, 25_000_000, 4_000_000),
            (1000, 125_000_000, LEAST_STRETCH),
            (200_000, 125_000_000, MAX_RANGE),
            // Half a second of it.
            (10_000, 3_000_000, 1_500_000),
            (10_000, 100_000, FIRST_UNIT),
        ] {
            let link = Link::default();
            assert_eq!(link.stretch(), MAX_RANGE);
            saw(&link, &[(wait_us, rate, second); 9]).await;
            assert_eq!(link.stretch(), expected, "{rate} bytes/s, {wait_us} us");
        }
    }

    /// Requests one after the other that each bring so much for a second, as packets do.
    async fn carried(link: &Link, requests: usize, wait: Duration, rate: u64) {
        for _ in 0..requests {
            let flow = link.flow();
            tokio::time::advance(wait).await;
            for _ in 0..100 {
                flow.came(usize::try_from(rate / 100).unwrap());
                tokio::time::advance(Duration::from_millis(10)).await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_of_what_is_foretold_is_under_way_than_the_link_carries() {
        let kib = 1024;
        // Rate; a portion, and what may be under way beside it: alone, and where somebody waits.
        for (rate, portion, alone, waited_for) in [
            (None, 256 * kib, 1024 * kib, 1024 * kib),
            (Some(500_000), 128 * kib, 270_000, 0),
            (Some(3_000_000), 405_000, 1_620_000, 495_000),
            (Some(25_000_000), 1024 * kib, 13_500_000, 4_125_000),
        ] {
            let link = Link::default();
            if let Some(rate) = rate {
                carried(&link, 4, Duration::from_millis(20), rate).await;
            }
            assert_eq!(link.portion(), portion, "{rate:?}");
            for (is_waited_for, most) in [(false, alone), (true, waited_for)] {
                let carries = |wanted: u64| {
                    link.carries_foretold(Pressure {
                        wanted,
                        // That is behind, and in nobody's way.
                        spare: 1 << 40,
                        is_waited_for,
                    })
                };
                let case = format!("{rate:?}, {is_waited_for}");
                let fits = most.saturating_sub(LEAST_UNIT);
                assert!(carries(fits), "{case}");
                // Of a slow one the last 20 ms are no more than this.
                assert!(!carries((fits + 1).max(11_000)), "{case}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_requests_over_a_slow_link_are_short() {
        let link = Link::default();
        assert_eq!((link.unit(), link.ahead()), (FIRST_UNIT, u64::MAX));
        carried(&link, 1, Duration::from_millis(20), 500_000).await;
        assert_eq!(link.unit(), LEAST_UNIT);
        assert_eq!(link.stretch(), FIRST_UNIT);
        assert_eq!(link.ahead(), 1_500_000);
        let rest = |spare| Pressure {
            spare,
            ..Pressure::default()
        };
        assert!(link.carries_rest(rest(800_000)) && !link.carries_rest(rest(1_000_000)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_long_ago_and_what_is_odd_counts_little() {
        let link = Link::default();
        let usual = (20_000, 25_000_000, 1_000_000);
        saw(&link, &[(900_000, 1_000_000, 9_000_000); 40]).await;
        saw(&link, &[usual; SAMPLES]).await;
        assert_eq!(link.unit(), 500_000);
        // New connections, and one that crawls.
        saw(&link, &[(300_000, 25_000_000, 1_000_000); 3]).await;
        saw(&link, &[(20_000, 100_000, 60_000_000); 3]).await;
        assert_eq!(link.unit(), 500_000);
    }
}
