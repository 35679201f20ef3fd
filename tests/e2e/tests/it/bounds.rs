//! What holds for every command that meets something hostile: it says what is wrong in one error of
//! a known kind, within bounds of memory and time, and stores nothing.

use std::time::{Duration, Instant};

use e2e::{Finished, Home, home};

use crate::support::files_below;

/// What each of our processes may allocate, enforced by the kernel: less than the hundred megabytes
/// that a hostile registry sends, and nothing beside what hostile layers unpack to.
const MEMORY_MAX_BYTES: u64 = 96 << 20;

/// Retries and all, on a busy machine.
const TIME_MAX: Duration = Duration::from_mins(1);

/// Runs with bounds on memory and time.
#[track_caller]
pub(crate) fn run_bounded(home: &Home, words: &[&str]) -> Finished {
    let bound = format!("--data={MEMORY_MAX_BYTES}");
    let started = Instant::now();
    let bounded = home.command_by(&["prlimit", &bound], words);
    let finished = home::finish(home::spawn(bounded), "");
    let took = started.elapsed();
    assert!(took < TIME_MAX, "{words:?} took {took:?}");
    finished
}

/// What an error must be: its kind, and words that name the trouble.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) kind: &'static str,
    pub(crate) says: &'static str,
}

/// Indexes an image that must be refused. Tells everything that is not as it should be.
pub(crate) fn refuses(home: &Home, image: &str, expected: Expected) -> Result<(), String> {
    let words = ["image", "index", "--json", "--credential", "none", image];
    let finished = run_bounded(home, &words);
    let line = finished.stderr.lines().last().unwrap_or_default();
    let error: serde_json::Value = serde_json::from_str(line)
        .map_err(|error| format!("{error}: code {}: {}", finished.code, finished.stderr))?;
    let (kind, message) = (&error["error"]["kind"], &error["error"]["message"]);
    let message = message.as_str().unwrap_or_default();
    if kind != expected.kind || !message.contains(expected.says) {
        return Err(format!("{expected:?}, but {kind}: {message}"));
    }
    if finished.stderr.contains("panicked") {
        return Err(finished.stderr);
    }
    stores_nothing(home)
}

/// The next command works as ever.
pub(crate) fn indexes(home: &Home, image: &str) -> Result<(), String> {
    let next = home.run(&["image", "index", "--credential", "none", image]);
    if next.code == 0 {
        return Ok(());
    }
    Err(format!("the next command: {}", next.stderr))
}

/// No index, no cached layer, no image on record, nothing half-made.
pub(crate) fn stores_nothing(home: &Home) -> Result<(), String> {
    for place in ["indexes", "cache/layers", "cache/incoming", "cache/trash"] {
        let left = files_below(&home.data_dir().join(place));
        if !left.is_empty() {
            return Err(format!("left behind: {left:?}"));
        }
    }
    let listed = home.run(&["image", "list", "--json"]).ok().stdout;
    if listed.trim() != "[]" {
        return Err(format!("on record: {listed}"));
    }
    Ok(())
}

/// Runs every case at once, each in a home of its own, and tells all that failed. Most of their
/// time is spent waiting.
#[track_caller]
pub(crate) fn all<C: Send>(
    cases: Vec<(&'static str, C)>,
    check: impl Fn(C) -> Result<(), String> + Sync,
) {
    let check = &check;
    let failed: Vec<String> = std::thread::scope(|scope| {
        let started: Vec<_> = cases
            .into_iter()
            .map(|(name, case)| (name, scope.spawn(move || check(case))))
            .collect();
        let ended = started.into_iter().map(|(name, case)| (name, case.join()));
        let failed = ended.filter_map(|(name, ended)| match ended {
            Ok(Ok(())) => None,
            Ok(Err(problem)) => Some(format!("{name}: {problem}")),
            Err(_) => Some(format!("{name}: panicked")),
        });
        failed.collect()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
