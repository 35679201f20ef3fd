//! What is counted and timed, for whoever runs the installation, as Prometheus reads it.
//!
//! Invariants: values are of the whole installation; no label has a word that a caller, an image, a
//! registry or a worker chose, so that there is a bounded number of them and none tells of a
//! workspace. What happens is counted where it happens; what there is now is asked of who has it
//! when somebody looks, and kept nowhere. There is no global: each gateway has its own.

use std::fmt::Debug;
use std::ops::Deref;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use broker::{Health, HealthChange};
use control_store::TaskOutcome;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry, Unit};

use crate::dispatch::Census;
use crate::lock::lock;
use crate::problem::Refusal;
use crate::watch::Operation;

/// What all names begin with.
const PREFIX: &str = "holdfast";
/// Up to which times are told apart: from a warm call to a long one. Each is a line in every
/// histogram.
const SECONDS: [f64; 16] = [
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
];
/// Parts of a start that workers speak of. What else one says is not counted.
const WORKER_PHASES: [&str; 10] = [
    "indexes",
    "directory",
    "network",
    "runtime",
    "mount process",
    "mount",
    "container",
    "code",
    "python",
    "load",
];

/// How starts end.
const STARTED: &str = "started";
const FAILED: &str = "failed";

/// A label and its value, of few.
type Label = [(&'static str, &'static str); 1];
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;
/// A number with a fraction.
type Fraction = Gauge<f64, AtomicU64>;

/// How a request was answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Answered {
    pub(crate) face: &'static str,
    pub(crate) operation: Operation,
    /// `ok`, or a kind of problem.
    pub(crate) result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    face: &'static str,
    operation: Operation,
}

/// Who is refused, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Caller(Refusal),
    /// A worker that asks about another's container, or for another's layer.
    Worker,
    /// A machine that is no worker.
    Stranger,
}

/// A part of a start that the gateway sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartPhase {
    /// Until a worker has room.
    Room,
    /// The image proven, the lease made, the secrets opened.
    HandOff,
    /// From the worker's being told until the container takes calls.
    Worker,
}

/// All that is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    requests: Family<Answered, Counter>,
    request_durations: Histograms<Asked>,
    refusals: Family<Label, Counter>,
    rows_unwritten: Counter,
    lease_alarms: Counter,
    read_through_bytes: Counter,
    shared_cache_asked: Family<Label, Counter>,
    shared_cache_written_bytes: Counter,
    calls_accepted: Counter,
    calls_ended: Family<Label, Counter>,
    call_waits: Histogram,
    call_runs: Histogram,
    starts: Family<Label, Counter>,
    start_durations: Histogram,
    start_phases: Histograms<Label>,
    credentials: Family<Label, Gauge>,
    credential_changes: Family<Label, Counter>,
    issuer_key_age: Gauge<u64, AtomicU64>,
    now: Now,
    /// Held while it is written, so that what there is now is of one moment.
    registry: Mutex<Registry>,
}

/// What there is now.
#[derive(Debug)]
struct Now {
    calls: Family<Label, Gauge>,
    containers: Family<Label, Gauge>,
    workers: Family<Label, Gauge>,
    cores: Fraction,
    free_cores: Fraction,
    memory: Gauge<u64, AtomicU64>,
    free_memory: Gauge<u64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "What this gateway was built of", version);
        let now = Now::of(&mut registry);
        let mut book = Book(&mut registry);
        let metrics = Self {
            requests: book.of(
                "requests",
                "Requests by the kind of their answer, events and streams when they begin",
            ),
            request_durations: book.times(
                "request_duration",
                "From a request to its answer, or to the beginning of that",
                Family::new_with_constructor(histogram),
            ),
            refusals: book.of(
                "refusals",
                "Refusals of callers, workers and other machines",
            ),
            rows_unwritten: book.of(
                "audit_rows_unwritten",
                "Refusals without a row of their own in the audit log, since there were too many",
            ),
            lease_alarms: book.of(
                "lease_alarms",
                "Leases that two have used, and that ended for both",
            ),
            read_through_bytes: book.of(
                "read_through_bytes",
                "Bytes of images that were read for mounts which are given nothing",
            ),
            shared_cache_asked: book.of(
                "shared_cache_questions",
                "Layers that mounts asked the shared cache for",
            ),
            shared_cache_written_bytes: book.of(
                "shared_cache_written_bytes",
                "Bytes of layers that were brought to the shared cache",
            ),
            calls_accepted: book.of("calls_accepted", "Calls that were accepted"),
            calls_ended: book.of("calls_ended", "Calls that have ended"),
            call_waits: book.times(
                "call_wait",
                "From the acceptance of a call to its first attempt",
                histogram(),
            ),
            call_runs: book.times("call_run", "How long attempts took", histogram()),
            starts: book.of("container_starts", "Starts of containers that had room"),
            start_durations: book.times(
                "container_start_duration",
                "From the wish for a container until it takes calls",
                histogram(),
            ),
            start_phases: book.times(
                "container_start_phase_duration",
                "Parts of starts, which overlap",
                Family::new_with_constructor(histogram),
            ),
            credentials: book.of(
                "credentials",
                "Registry credentials by their state when they were last looked at",
            ),
            credential_changes: book.of(
                "credential_changes",
                "Registry credentials that have come to be in another state",
            ),
            issuer_key_age: book.times(
                "issuer_key_age",
                "How long the issuer has signed with one key",
                Gauge::default(),
            ),
            now,
            registry: Mutex::new(registry),
        };
        metrics.begin_at_zero();
        metrics
    }
}

/// Where metrics are entered.
struct Book<'a>(&'a mut Registry);

impl Book<'_> {
    fn of<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        let metric = M::default();
        self.0.register(name, help, metric.clone());
        metric
    }

    fn times<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.with_unit(name, help, Unit::Seconds, metric)
    }

    fn with_unit<M: Metric + Clone>(&mut self, name: &str, help: &str, unit: Unit, metric: M) -> M {
        let entered = metric.clone();
        self.0.register_with_unit(name, help, unit, entered);
        metric
    }
}

fn histogram() -> Histogram {
    Histogram::new(SECONDS)
}

impl Metrics {
    /// What has never happened is there as zero, so that its first time is seen as a change.
    fn begin_at_zero(&self) {
        let callers = [Refusal::Token, Refusal::Scope, Refusal::Name].map(Refused::Caller);
        let others = [Refused::Worker, Refused::Stranger];
        for refused in callers.into_iter().chain(others) {
            let label = [("kind", refused.name())];
            self.refusals.get_or_create(&label).inc_by(0);
        }
        for outcome in TaskOutcome::ALL {
            let label = [("outcome", outcome.name())];
            self.calls_ended.get_or_create(&label).inc_by(0);
        }
        for is_there in [true, false] {
            self.asked(is_there).inc_by(0);
        }
        for result in [STARTED, FAILED] {
            self.starts.get_or_create(&[("result", result)]).inc_by(0);
        }
    }

    pub(crate) fn answered(&self, answered: &Answered, took: Duration) {
        let asked = Asked {
            face: answered.face,
            operation: answered.operation.clone(),
        };
        let times = self.request_durations.get_or_create(&asked);
        times.observe(took.as_secs_f64());
        self.requests.get_or_create(answered).inc();
    }

    pub(crate) fn refused(&self, refused: Refused) {
        let label = [("kind", refused.name())];
        self.refusals.get_or_create(&label).inc();
    }

    pub(crate) fn row_unwritten(&self) {
        self.rows_unwritten.inc();
    }

    /// So many there were.
    pub(crate) fn lease_alarms(&self, alarms: u64) {
        self.lease_alarms
            .inner()
            .store(alarms, std::sync::atomic::Ordering::Relaxed);
    }

    /// As the broker counts them.
    pub(crate) fn read_through_bytes(&self, bytes: u64) {
        self.read_through_bytes
            .inner()
            .store(bytes, std::sync::atomic::Ordering::Relaxed);
    }

    pub(crate) fn shared_cache_asked(&self, is_there: bool) {
        self.asked(is_there).inc();
    }

    fn asked(&self, is_there: bool) -> impl Deref<Target = Counter> {
        let answer = if is_there { "there" } else { "absent" };
        self.shared_cache_asked.get_or_create(&[("answer", answer)])
    }

    pub(crate) fn shared_cache_written(&self, bytes: u64) {
        self.shared_cache_written_bytes.inc_by(bytes);
    }

    pub(crate) fn call_accepted(&self) {
        self.calls_accepted.inc();
    }

    pub(crate) fn call_waited(&self, time: Duration) {
        self.call_waits.observe(time.as_secs_f64());
    }

    pub(crate) fn attempt_took(&self, time: Duration) {
        self.call_runs.observe(time.as_secs_f64());
    }

    pub(crate) fn call_ended(&self, outcome: TaskOutcome) {
        let label = [("outcome", outcome.name())];
        self.calls_ended.get_or_create(&label).inc();
    }

    pub(crate) fn container_started(&self, took: Duration) {
        self.starts.get_or_create(&[("result", STARTED)]).inc();
        self.start_durations.observe(took.as_secs_f64());
    }

    pub(crate) fn container_failed(&self) {
        self.starts.get_or_create(&[("result", FAILED)]).inc();
    }

    pub(crate) fn start_phase(&self, phase: StartPhase, took: Duration) {
        let name = match phase {
            StartPhase::Room => "room",
            StartPhase::HandOff => "hand-off",
            StartPhase::Worker => "worker",
        };
        let times = self.start_phases.get_or_create(&[("phase", name)]);
        times.observe(took.as_secs_f64());
    }

    /// A part of a start that a worker has told of.
    pub(crate) fn worker_phase(&self, name: &str, took: Duration) {
        let known = WORKER_PHASES.into_iter().find(|known| *known == name);
        if let Some(name) = known {
            let times = self.start_phases.get_or_create(&[("phase", name)]);
            times.observe(took.as_secs_f64());
        }
    }

    pub(crate) fn credentials(&self, health: &Health, changes: &[HealthChange]) {
        self.credentials.clear();
        for (state, count) in health.counts() {
            let gauge = self.credentials.get_or_create(&[("state", state)]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        for change in changes {
            let label = [("state", change.is)];
            self.credential_changes.get_or_create(&label).inc();
        }
    }

    /// Zero where there is no issuer.
    pub(crate) fn issuer_key(&self, age: Option<Duration>) {
        self.issuer_key_age.set(age.unwrap_or_default().as_secs());
    }

    /// All of it, in the text format of `OpenMetrics`.
    pub(crate) fn text(&self, census: &Census) -> String {
        let registry = lock(&self.registry);
        self.now.set(census);
        let mut out = String::new();
        text::encode(&mut out, &registry).expect("a text takes what is written to it");
        out
    }
}

impl Refused {
    fn name(self) -> &'static str {
        match self {
            Self::Caller(Refusal::Token) => "token",
            Self::Caller(Refusal::Scope) => "scope",
            Self::Caller(Refusal::Name) => "name",
            Self::Worker => "worker",
            Self::Stranger => "stranger",
        }
    }
}

impl Now {
    fn of(registry: &mut Registry) -> Self {
        let cores = || Unit::Other("cores".to_owned());
        let mut book = Book(registry);
        Self {
            calls: book.of("calls", "Calls that wait for a place, and that run"),
            containers: book.of("containers", "Containers of functions"),
            workers: book.of("workers", "Workers that are attached"),
            cores: book.with_unit(
                "workers_cpu_capacity",
                "Processors that attached workers give to containers",
                cores(),
                Fraction::default(),
            ),
            free_cores: book.with_unit(
                "workers_cpu_free",
                "Those of them that a new container could have",
                cores(),
                Fraction::default(),
            ),
            memory: book.with_unit(
                "workers_memory_capacity",
                "Memory that attached workers give to containers",
                Unit::Bytes,
                Gauge::default(),
            ),
            free_memory: book.with_unit(
                "workers_memory_free",
                "What of it a new container could have",
                Unit::Bytes,
                Gauge::default(),
            ),
        }
    }

    fn set(&self, census: &Census) {
        let states = [
            (&self.calls, "waiting", census.calls_waiting),
            (&self.calls, "running", census.calls_running),
            (&self.containers, "starting", census.containers_starting),
            (&self.containers, "idle", census.containers_idle),
            (&self.containers, "busy", census.containers_busy),
            (&self.containers, "ending", census.containers_ending),
            (&self.workers, "open", census.workers_open),
            (&self.workers, "draining", census.workers_draining),
        ];
        for (gauges, state, count) in states {
            let gauge = gauges.get_or_create(&[("state", state)]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.cores.set(cores(census.capacity_millicores));
        self.free_cores.set(cores(census.free_millicores));
        self.memory.set(census.capacity_bytes);
        self.free_memory.set(census.free_bytes);
    }
}

#[expect(clippy::cast_precision_loss, reason = "no fleet has 2^53 millicores")]
fn cores(millicores: u64) -> f64 {
    millicores as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_label_is_of_others_making() {
        let metrics = Metrics::default();
        metrics.worker_phase("mount", Duration::from_secs(1));
        metrics.worker_phase("a tenant's word", Duration::from_secs(1));
        let text = metrics.text(&Census::default());
        assert!(text.contains("_phase_duration_seconds_count{phase=\"mount\"} 1\n"));
        assert!(!text.contains("tenant"), "{text}");
    }

    #[test]
    fn what_never_happened_is_zero() {
        let text = Metrics::default().text(&Census::default());
        for line in [
            "holdfast_calls_accepted_total 0",
            "holdfast_calls_ended_total{outcome=\"returned\"} 0",
            "holdfast_container_starts_total{result=\"failed\"} 0",
            "holdfast_refusals_total{kind=\"name\"} 0",
            "holdfast_audit_rows_unwritten_total 0",
            "holdfast_lease_alarms_total 0",
            "holdfast_read_through_bytes_total 0",
            "holdfast_shared_cache_questions_total{answer=\"there\"} 0",
            "holdfast_shared_cache_written_bytes_total 0",
            "holdfast_workers_memory_free_bytes 0",
            "holdfast_containers{state=\"busy\"} 0",
        ] {
            assert!(text.lines().any(|own| own == line), "{line}: {text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
