//! What a link really is, measured by TCP of our own before anybody is timed on it, and whether a
//! turn on it counts.
//!
//! Verdicts are pure: what was seen goes in, the reason why it is void comes out.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

use super::network::{Namespace, Network};
use super::shaper::{self, Shape};
use crate::bench::report::Samples;

const CONNECTS: usize = 9;
/// Long enough that slow start is a small part of it, which is left out besides.
const TRANSFER: Duration = Duration::from_secs(2);
const SLOW_START: Duration = Duration::from_millis(700);
const PORT: u16 = 5001;

/// Of the rate, what one connection has to reach: headers and a queue that overflows cost a little.
const MIN_RATE_SHARE: f64 = 0.85;
/// Of the round trip, and beyond it in milliseconds, what a connect may take.
const MAX_ROUND_TRIP_SHARE: f64 = 1.25;
const SLACK_MS: f64 = 1.0;
/// Of a turn's packets 99 in a hundred must be less late than this share of the round trip, or
/// than the slack.
const MAX_LATE_SHARE: f64 = 0.25;
/// A machine with less idle time than this has none for who is measured.
const MIN_IDLE_SHARE: f64 = 0.05;
/// Then a turn is void when others than the contender took more of the machine than this. The
/// shaper and the registry are others too.
const MAX_OTHERS_SHARE: f64 = 0.4;

/// What a link was measured to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Calibrated {
    pub(super) round_trip_ms: f64,
    pub(super) megabits_per_second: f64,
}

impl Calibrated {
    pub(super) fn measure(network: &Network) -> Result<Self> {
        let mut address = Network::registry_socket();
        address.set_port(PORT);
        let entered = |namespace: &Namespace| {
            let path = namespace.path();
            std::fs::File::open(&path).with_context(|| format!("cannot open {path}"))
        };
        let (server, client) = (entered(&network.server)?, entered(&network.client)?);
        let serving = thread::spawn(move || {
            setns(server, CloneFlags::CLONE_NEWNET)?;
            TcpListener::bind(address).context("no port to calibrate with")
        });
        let listener = serving.join().expect("it does not panic")?;
        thread::spawn(move || send(&listener));
        let measuring = thread::spawn(move || {
            setns(client, CloneFlags::CLONE_NEWNET)?;
            // The link is measured here; how busy the machine is, each turn says by itself.
            shaper::come_first()?;
            receive(address)
        });
        measuring.join().expect("it does not panic")
    }

    /// Why nothing on this link counts.
    pub(super) fn void(&self, shape: Shape) -> Option<String> {
        let nominal_ms = shape.round_trip.as_secs_f64() * 1000.0;
        let limit_ms = nominal_ms * MAX_ROUND_TRIP_SHARE + SLACK_MS;
        if !(nominal_ms..=limit_ms).contains(&self.round_trip_ms) {
            let measured = self.round_trip_ms;
            return Some(format!(
                "round trip {measured:.1} ms instead of {nominal_ms:.1}"
            ));
        }
        let nominal = megabits(
            shape
                .flow_bytes_per_second
                .unwrap_or(shape.bytes_per_second),
        );
        let share = self.megabits_per_second / nominal;
        // Above its rate a link does not shape.
        if !(MIN_RATE_SHARE..=1.02).contains(&share) {
            let measured = self.megabits_per_second;
            return Some(format!("{measured:.0} Mbit/s instead of {nominal:.0}"));
        }
        None
    }
}

/// Megabits of a number of bytes.
fn megabits(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes / 1000).unwrap_or(u32::MAX)) * 8.0 / 1000.0
}

/// Sends to whoever connects for as long as it reads; the listener ends with the process.
fn send(listener: &TcpListener) {
    let block = vec![0; 256 << 10];
    for stream in listener.incoming().flatten() {
        let block = block.clone();
        thread::spawn(move || {
            let mut stream = stream;
            while stream.write_all(&block).is_ok() {}
        });
    }
}

fn receive(address: SocketAddr) -> Result<Calibrated> {
    let mut connects = Samples::default();
    let mut stream = None;
    for _ in 0..CONNECTS {
        drop(stream.take());
        let begin = Instant::now();
        stream = Some(TcpStream::connect(address).context("nothing passes the link")?);
        connects.push(begin.elapsed().as_secs_f64() * 1000.0);
    }
    let mut stream = stream.context("there was at least one connect")?;
    let mut block = vec![0; 256 << 10];
    let begin = Instant::now();
    let (mut bytes, mut since) = (0, None);
    while begin.elapsed() < TRANSFER {
        let count = stream.read(&mut block)?;
        if count == 0 {
            bail!("the link broke while it was calibrated");
        }
        match since {
            Some(_) => bytes += count as u64,
            None if begin.elapsed() > SLOW_START => since = Some(Instant::now()),
            None => {}
        }
    }
    let seconds = since
        .context("the link is too slow to calibrate")?
        .elapsed();
    Ok(Calibrated {
        round_trip_ms: connects.median(),
        megabits_per_second: megabits(bytes) / seconds.as_secs_f64(),
    })
}

/// What was seen of the machine during one turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Observed {
    pub(super) late_p99: Duration,
    pub(super) idle_share: f64,
    /// Of the machine, what the contender did not use and nobody had idle.
    pub(super) others_share: f64,
}

impl Observed {
    /// Why a turn on such a link does not count.
    pub(super) fn void(&self, shape: Shape) -> Option<String> {
        let late_ms = self.late_p99.as_secs_f64() * 1000.0;
        let limit_ms = (shape.round_trip.as_secs_f64() * 1000.0 * MAX_LATE_SHARE).max(SLACK_MS);
        if late_ms > limit_ms {
            return Some(format!("the shaper was {late_ms:.1} ms late"));
        }
        if self.idle_share < MIN_IDLE_SHARE && self.others_share > MAX_OTHERS_SHARE {
            let percent = self.others_share * 100.0;
            return Some(format!("others took {percent:.0} % of the machine"));
        }
        None
    }
}

/// Of `/proc/stat`: all ticks of all processors, and the idle ones.
pub(super) fn ticks(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields: Option<Vec<u64>> = line
        .split_whitespace()
        .take(8)
        .map(|field| field.parse().ok())
        .collect();
    let fields = fields?;
    let idle = fields.get(3)? + fields.get(4)?;
    Some((fields.iter().sum(), idle))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Calibrated, Observed, ticks};
    use crate::bench::coldstart::shaper::Shape;

    const SHAPE: Shape = Shape {
        bytes_per_second: 25_000_000,
        round_trip: Duration::from_millis(20),
        flow_bytes_per_second: None,
    };

    #[test]
    fn a_link_that_is_another_one_is_void() {
        let capped = Shape {
            flow_bytes_per_second: Some(5_000_000),
            ..SHAPE
        };
        for (round_trip_ms, megabits_per_second, shape, void) in [
            (20.3, 190.0, SHAPE, None),
            (26.0, 171.0, SHAPE, None),
            (
                26.1,
                190.0,
                SHAPE,
                Some("round trip 26.1 ms instead of 20.0"),
            ),
            (
                19.9,
                190.0,
                SHAPE,
                Some("round trip 19.9 ms instead of 20.0"),
            ),
            (20.3, 160.0, SHAPE, Some("160 Mbit/s instead of 200")),
            (20.3, 300.0, SHAPE, Some("300 Mbit/s instead of 200")),
            (20.3, 38.0, capped, None),
            (20.3, 190.0, capped, Some("190 Mbit/s instead of 40")),
        ] {
            let calibrated = Calibrated {
                round_trip_ms,
                megabits_per_second,
            };
            assert_eq!(calibrated.void(shape).as_deref(), void, "{calibrated:?}");
        }
    }

    #[test]
    fn a_turn_is_void_when_the_shaper_or_the_machine_was_full() {
        let short = Shape {
            round_trip: Duration::from_millis(1),
            ..SHAPE
        };
        for (late_us, idle_share, others_share, shape, void) in [
            (4_900, 0.5, 0.3, SHAPE, None),
            (5_100, 0.5, 0.3, SHAPE, Some("the shaper was 5.1 ms late")),
            (900, 0.5, 0.3, short, None),
            (1_100, 0.5, 0.3, short, Some("the shaper was 1.1 ms late")),
            (100, 0.01, 0.2, SHAPE, None),
            (100, 0.2, 0.7, SHAPE, None),
            (
                100,
                0.01,
                0.7,
                SHAPE,
                Some("others took 70 % of the machine"),
            ),
        ] {
            let observed = Observed {
                late_p99: Duration::from_micros(late_us),
                idle_share,
                others_share,
            };
            assert_eq!(observed.void(shape).as_deref(), void, "{observed:?}");
        }
    }

    #[test]
    fn waiting_for_a_disk_is_idle() {
        let stat = "cpu  10 1 5 100 20 0 2 3 7 0\ncpu0 1 1 1 1\n";
        assert_eq!(ticks(stat), Some((141, 120)));
        for broken in ["", "cpu 1 2", "cpu0 1 2 3 4 5 6 7 8", "cpu a b c d e f g h"] {
            assert_eq!(ticks(broken), None, "{broken}");
        }
    }
}
