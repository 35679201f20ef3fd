//! What a task must not leave behind: processes, mounts and network namespaces.
//!
//! A snapshot before, a look afterwards. Only names that this repository's programs use count, so
//! that a busy machine does not matter; two runs at the same time on one machine do.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Programs that tests, demo and benches start.
const PROGRAMS: &[&str] = &[
    "holdfast",
    "docker-registry",
    "runc",
    "umoci",
    "skopeo",
    "containerd",
];

/// A role of the binary ends when its parent has ended, which is a moment later.
const ENDING: Duration = Duration::from_secs(5);
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Processes, mounts and namespaces that were there.
#[derive(Debug)]
pub(crate) struct Snapshot {
    seen: BTreeSet<String>,
}

impl Snapshot {
    pub(crate) fn take() -> Result<Self> {
        let mut seen = processes()?;
        seen.extend(mounts()?);
        seen.extend(namespaces());
        Ok(Self { seen })
    }

    /// Fails, naming it, when something stays that was not there then.
    pub(crate) fn check(&self) -> Result<()> {
        let begin = Instant::now();
        loop {
            let now = Self::take()?;
            let left = self.missing_of(&now);
            if left.is_empty() {
                return Ok(());
            }
            if begin.elapsed() > ENDING {
                bail!("left behind: {}", left.join("; "));
            }
            std::thread::sleep(LOOK_PAUSE);
        }
    }

    /// What `now` has and this one has not.
    fn missing_of<'a>(&'a self, now: &'a Self) -> Vec<&'a str> {
        now.seen
            .difference(&self.seen)
            .map(String::as_str)
            .collect()
    }
}

fn processes() -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").context("cannot list processes")? {
        let entry = entry?;
        let id = entry.file_name().to_string_lossy().into_owned();
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if id.bytes().all(|byte| byte.is_ascii_digit()) && PROGRAMS.contains(&name.trim()) {
            found.insert(format!("process {id} {}", name.trim()));
        }
    }
    Ok(found)
}

fn mounts() -> Result<BTreeSet<String>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read the mounts")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let ours = points.filter(|point| point.contains("holdfast"));
    Ok(ours.map(|point| format!("mount {point}")).collect())
}

fn namespaces() -> BTreeSet<String> {
    let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .map(|name| format!("network namespace {name}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Snapshot;

    #[test]
    fn only_what_is_new_is_left_behind() {
        let snapshot = |names: &[&str]| Snapshot {
            seen: names
                .iter()
                .map(ToString::to_string)
                .collect::<BTreeSet<_>>(),
        };
        let before = snapshot(&["process 1 runc", "mount /a"]);
        let now = snapshot(&["process 1 runc", "process 2 runc"]);
        assert_eq!(before.missing_of(&now), ["process 2 runc"]);
        assert!(before.missing_of(&before).is_empty());
    }
}
