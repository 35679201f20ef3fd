//! One turn of one contender: what it does to begin with is not counted, then everything is, until
//! its command has ended. The clock stops at the command's first line of output.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::calibration::{self, Observed};
use super::lane::{self, Lane};
use super::network::Network;
use super::plot::Phase;
use super::shaper::Passed;
use crate::bench::drop_page_cache;
use crate::entry::Entry;
use crate::lab::Registry;
use crate::process;

/// How often memory is looked at; a peak that is shorter is not seen.
const SAMPLE_PAUSE: Duration = Duration::from_millis(10);

/// What one turn took.
#[derive(Debug, Default)]
pub(super) struct Measured {
    pub(super) seconds: f64,
    pub(super) megabytes: f64,
    pub(super) requests: f64,
    pub(super) connections: f64,
    pub(super) cpu_seconds: f64,
    pub(super) peak_megabytes: f64,
    /// 99 of 100 reads of files waited no longer for the network, when the contender says so.
    pub(super) stall_p99_ms: Option<f64>,
    /// Why it does not count.
    pub(super) void: Option<String>,
    /// Where the time went, when the contender says so.
    pub(super) phases: Vec<Phase>,
}

/// A contender's turn before it is timed.
pub(super) struct Turn<'a> {
    pub(super) lane: &'a Lane,
    pub(super) network: &'a Network,
    pub(super) registry: &'a Registry,
}

/// Whether the machine still knows what it has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PageCache {
    Dropped,
    Kept,
}

impl<'a> Turn<'a> {
    pub(super) fn entry(&self) -> Entry {
        self.lane.entry()
    }

    /// Starts the clock.
    pub(super) fn begin(self, page_cache: PageCache) -> Result<Running<'a>> {
        if page_cache == PageCache::Dropped {
            drop_page_cache()?;
        }
        self.network.shaper.take_lateness();
        Ok(Running {
            requests: self.registry.requests()?,
            passed: self.network.shaper.passed(),
            cpu_seconds: self.lane.cpu_seconds()?,
            ticks: machine_ticks()?,
            sampler: Sampler::start(self.lane.memory_file()?),
            turn: self,
            began: Instant::now(),
        })
    }
}

/// A turn under the clock.
pub(super) struct Running<'a> {
    turn: Turn<'a>,
    requests: usize,
    passed: Passed,
    cpu_seconds: f64,
    ticks: (u64, u64),
    sampler: Sampler,
    began: Instant,
}

impl Running<'_> {
    /// Runs the last command of the turn, which has to print one line as expected.
    pub(super) fn finish(self, command: &mut Command, expected: &str) -> Result<Measured> {
        let printed = until_output(command, expected)?;
        let wall = self.began.elapsed();
        let ticks = machine_ticks()?;
        let (network, lane) = (self.turn.network, self.turn.lane);
        let cpu_seconds = lane.cpu_seconds()? - self.cpu_seconds;
        let passed = network.shaper.passed().since(self.passed);
        let observed = Observed {
            late_p99: percentile_99(network.shaper.take_lateness()),
            ..observed(self.ticks, ticks, cpu_seconds, wall)
        };
        Ok(Measured {
            seconds: printed.duration_since(self.began).as_secs_f64(),
            megabytes: millions(passed.bytes_down),
            requests: count(self.turn.registry.requests()? - self.requests),
            connections: count(usize::try_from(passed.connections)?),
            cpu_seconds,
            peak_megabytes: millions(self.sampler.stop()),
            stall_p99_ms: None,
            void: observed.void(network.shape),
            phases: Vec::new(),
        })
    }
}

fn observed(before: (u64, u64), after: (u64, u64), cpu_seconds: f64, wall: Duration) -> Observed {
    let all = count(usize::try_from(after.0 - before.0).unwrap_or(0)).max(1.0);
    let idle_share = count(usize::try_from(after.1 - before.1).unwrap_or(0)) / all;
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let own_share = cpu_seconds / (wall.as_secs_f64() * count(cores));
    Observed {
        late_p99: Duration::ZERO,
        idle_share,
        others_share: (1.0 - idle_share - own_share).max(0.0),
    }
}

fn machine_ticks() -> Result<(u64, u64)> {
    let stat = fs::read_to_string("/proc/stat").context("no /proc/stat")?;
    calibration::ticks(&stat).context("/proc/stat is not what it was")
}

/// Runs to the end; gives the moment at which the first line was there.
fn until_output(command: &mut Command, expected: &str) -> Result<Instant> {
    let shown = process::show(command);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let mut complaints = child.stderr.take().expect("standard error was asked for");
    let complaining = thread::spawn(move || {
        let mut text = Vec::new();
        let _ = complaints.read_to_end(&mut text);
        String::from_utf8_lossy(&text).trim().to_owned()
    });
    let mut output = BufReader::new(child.stdout.take().expect("standard output was asked for"));
    let mut line = String::new();
    output.read_line(&mut line)?;
    let printed = Instant::now();
    output.read_to_string(&mut line)?;
    let status = child.wait()?;
    let said = complaining.join().unwrap_or_default();
    if !status.success() || line.trim_end() != expected {
        bail!("`{shown}`: {status}, printed {line:?}, said: {said}");
    }
    Ok(printed)
}

fn percentile_99(mut late: Vec<Duration>) -> Duration {
    late.sort_unstable();
    let at = (late.len() * 99).div_ceil(100).saturating_sub(1);
    late.get(at).copied().unwrap_or_default()
}

fn millions(bytes: u64) -> f64 {
    count(usize::try_from(bytes / 1000).unwrap_or(usize::MAX)) / 1000.0
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

/// Looks at a cgroup's memory until it is stopped.
struct Sampler {
    stopped: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Sampler {
    fn start(file: PathBuf) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stopped);
        let thread = thread::spawn(move || {
            let mut peak = 0;
            while !seen.load(Ordering::Relaxed) {
                let stat = fs::read_to_string(&file).unwrap_or_default();
                peak = peak.max(lane::used_bytes(&stat));
                thread::sleep(SAMPLE_PAUSE);
            }
            peak
        });
        Self { stopped, thread }
    }

    fn stop(self) -> u64 {
        self.stopped.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{percentile_99, until_output};
    use crate::process::command;

    #[test]
    fn the_last_of_a_hundred_may_be_late() {
        let late = (0..100).map(|number| Duration::from_micros(number + 1));
        let late: Vec<Duration> = late.rev().collect();
        assert_eq!(percentile_99(late), Duration::from_micros(99));
        assert_eq!(percentile_99(Vec::new()), Duration::ZERO);
    }

    #[test]
    fn a_command_that_fails_or_prints_something_else_ends_the_bench() {
        let run = |script| until_output(&mut command("sh", &["-c", script]), "ready");
        assert!(run("echo ready").is_ok());
        for script in [
            "echo ready; exit 3",
            "echo other",
            "true",
            "echo ready; echo more",
        ] {
            assert!(run(script).is_err(), "{script}");
        }
        let error = run("echo why >&2; exit 3").unwrap_err().to_string();
        assert!(error.contains("said: why"), "{error}");
    }
}
