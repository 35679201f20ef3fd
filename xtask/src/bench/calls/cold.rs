//! The first call of a function whose image is built: with nothing cached, and with all cached.
//!
//! No container is there; the gateway and its worker are. A stage ends at a time that the gateway
//! tells of the task or its container. Of the phases of a start its metrics tell how long each
//! took; some run side by side.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::gateway::Gateway;
use super::http::{Address, Connection};
use crate::bench::lab::Lab;
use crate::bench::peer::Peer;
use crate::bench::report::{Row, Samples, Target};
use crate::bench::{drop_page_cache, timed};

/// What a container runs before it is asked anything: an interpreter that has started.
const PEER_WORDS: &[&str] = &["python3", "-c", "print('ready')"];
const PEER_EXPECTED: &str = "ready";

/// A container that is stopped has ten seconds for its calls, and here it has none.
const STOPPING: Duration = Duration::from_secs(15);
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Stages of a call, in their order.
const STAGES: &[&str] = &[
    "until a container was asked for",
    "until it was ready",
    "until the call began",
    "until it had ended",
];

/// Phases of a start, by the names of `docs/metrics.md`: the first three follow each other, and the
/// others are within the last of them.
const PHASES: &[&str] = &[
    "room",
    "hand-off",
    "worker",
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

/// Milliseconds of calls, whole, by stage, and by phase of their container's start.
#[derive(Default)]
struct Measured {
    whole: Samples,
    stages: [Samples; STAGES.len()],
    phases: [Samples; PHASES.len()],
    peer: Samples,
}

pub(super) fn rows(lab: &Lab) -> Result<Vec<Row>> {
    let gateway = Gateway::start(lab)?;
    // Builds the image and defines the function.
    gateway.sdk()?.make("call", 1)?;
    let function = gateway.function("with_holdfast:nothing")?;
    let watcher = Gateway::metrics_token(lab)?;
    let peer = Peer::new(&lab.folder("calls-peer"))?;
    let (mut empty, mut warm) = (Measured::default(), Measured::default());
    for _ in 0..lab.runs {
        stop_containers(&gateway)?;
        empty_cache(lab)?;
        empty.call(&gateway, &watcher, &function)?;
        stop_containers(&gateway)?;
        warm.call(&gateway, &watcher, &function)?;
        peer.forget()?;
        drop_page_cache()?;
        let pulled = timed(|| pull_and_run(lab, &gateway, &peer))?;
        empty.peer.push(pulled.1 * 1000.0);
        let run = timed(|| peer.run(PEER_EXPECTED))?;
        warm.peer.push(run.1 * 1000.0);
    }
    peer.forget()?;
    gateway.stop()?;
    let mut rows = empty.rows("cold call, nothing cached", "pull, unpack and runc run");
    rows.extend(warm.rows("cold call, all cached", "runc run of the unpacked tree"));
    Ok(rows)
}

fn pull_and_run(lab: &Lab, gateway: &Gateway, peer: &Peer) -> Result<()> {
    let auth_file = lab
        .registry
        .auth_file(&lab.registry.address(), &lab.login)?;
    peer.pull(gateway.image(), &auth_file)?;
    peer.unpack()?;
    peer.prepare(PEER_WORDS)?;
    peer.run(PEER_EXPECTED)
}

/// Has every container end, and waits until nothing of them is left.
fn stop_containers(gateway: &Gateway) -> Result<()> {
    let mut connection = Connection::open(gateway.address()?)?;
    for container in containers(&mut connection)? {
        let id = container["id"].as_str().context("a container has an id")?;
        connection.post(&format!("/v1/containers/{id}/stop"))?;
    }
    let begin = Instant::now();
    while !containers(&mut connection)?.is_empty() {
        if begin.elapsed() > STOPPING {
            bail!("a container does not stop");
        }
        std::thread::sleep(LOOK_PAUSE);
    }
    Ok(())
}

fn containers(connection: &mut Connection<'_>) -> Result<Vec<Value>> {
    let mut listed = connection.get("/v1/containers")?;
    let Value::Array(containers) = listed["containers"].take() else {
        bail!("no list of containers: {listed}");
    };
    Ok(containers)
}

/// Forgets what was fetched, and what the kernel keeps of it.
fn empty_cache(lab: &Lab) -> Result<()> {
    lab.ours.empty_cache()?;
    let usage: Value = serde_json::from_str(&lab.ours.output(&["--json", "cache", "du"])?)?;
    if usage["bytes"] != 0 {
        bail!("the cache is not empty: {usage}");
    }
    drop_page_cache()
}

impl Measured {
    fn call(&mut self, gateway: &Gateway, watcher: &str, function: &str) -> Result<()> {
        let mut connection = Connection::open(gateway.address()?)?;
        let key = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let before = phases(gateway, watcher)?;
        let (task, seconds) = timed(|| connection.call(function, key.as_nanos()))?;
        self.whole.push(seconds * 1000.0);
        let after = phases(gateway, watcher)?;
        for (phase, (before, after)) in self.phases.iter_mut().zip(before.iter().zip(after)) {
            phase.push((after - before) * 1000.0);
        }
        let mut containers = containers(&mut connection)?.into_iter();
        let container = containers.find(|container| container["id"] == task["container"]);
        let container = container.context("the container of the call is not there")?;
        let times = [
            time(&task, "created_at")?,
            time(&container, "requested_at")?,
            time(&container, "ready_at")?,
            time(&task, "started_at")?,
            time(&task, "ended_at")?,
        ];
        for (stage, times) in self.stages.iter_mut().zip(times.windows(2)) {
            stage.push((times[1] - times[0]) * 1000.0);
        }
        Ok(())
    }

    fn rows(self, what: &str, peer_name: &str) -> Vec<Row> {
        let peer = self.peer;
        let row = |what: String, ours| Row {
            what,
            unit: "ms",
            ours,
            peer: peer.clone(),
            peer_name: peer_name.to_owned(),
            target: Target::None,
        };
        let whole = row(what.to_owned(), self.whole);
        let stages = STAGES.iter().zip(self.stages);
        let stages = stages.map(|(stage, taken)| row(format!("  {stage}"), taken));
        let phases = PHASES.iter().zip(self.phases);
        let phases = phases.map(|(phase, taken)| row(format!("    phase {phase}"), taken));
        std::iter::once(whole).chain(stages).chain(phases).collect()
    }
}

/// Seconds that each phase has taken in all starts until now.
fn phases(gateway: &Gateway, watcher: &str) -> Result<[f64; PHASES.len()]> {
    let address = Address {
        token: watcher,
        ..gateway.address()?
    };
    let text = Connection::open(address)?.text("/metrics")?;
    let mut taken = [0.0; PHASES.len()];
    for (taken, phase) in taken.iter_mut().zip(PHASES) {
        let name =
            format!("holdfast_container_start_phase_duration_seconds_sum{{phase=\"{phase}\"}} ");
        // A phase that no start has had is not told.
        if let Some(value) = text.lines().find_map(|line| line.strip_prefix(&name)) {
            *taken = value.parse().context("a metric that is no number")?;
        }
    }
    Ok(taken)
}

fn time(record: &Value, field: &str) -> Result<f64> {
    let text = record[field].as_str();
    text.and_then(seconds_of)
        .with_context(|| format!("no time {field}: {record}"))
}

/// Seconds within the days of one month, of a time such as `2025-11-27T21:14:47.123456Z`.
fn seconds_of(text: &str) -> Option<f64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let (_, day) = date.rsplit_once('-')?;
    let mut parts = time.split(':').map(|part| part.parse::<f64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    Some(((day.parse::<f64>().ok()? * 24.0 + hours) * 60.0 + minutes) * 60.0 + seconds)
}

#[cfg(test)]
mod tests {
    use super::seconds_of;

    #[test]
    fn times_are_told_apart() {
        let between = |first: &str, second: &str| {
            let difference = seconds_of(second).unwrap() - seconds_of(first).unwrap();
            format!("{difference:.3}")
        };
        let midnight = ("2025-11-27T23:59:59.75Z", "2025-11-28T00:00:01Z");
        assert_eq!(between(midnight.0, midnight.1), "1.250");
        let minute = ("2025-11-27T21:14:59.999Z", "2025-11-27T21:15:00.001Z");
        assert_eq!(between(minute.0, minute.1), "0.002");
        for bad in [
            "",
            "2025-11-27",
            "2025-11-27T21:14Z",
            "2025-11-27T21:14:x0Z",
        ] {
            assert_eq!(seconds_of(bad), None, "{bad}");
        }
    }
}
