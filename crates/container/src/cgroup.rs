//! Which control groups this machine has, and one container's own: limits that can be held, the
//! kernel's count of memory kills, killing everything in it, removing it.
//!
//! The runtime creates a container's groups; this module only finds them again by name, so that
//! they can be read and removed without the runtime and after a crash. The parents `holdfast` stay.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ids::ContainerId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::spec::Resources;

/// Parent of every container's group, below each hierarchy's root.
const PARENT: &str = "holdfast";

/// Rounds of killing before giving up on a group that keeps forking; each round waits for what it
/// killed, so only something that forks faster than it dies needs more.
const MAX_KILL_ROUNDS: usize = 64;

/// How long killed processes may take to end. One that waits for a device or a dead network
/// file system may never end.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// How the hierarchies are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupMode {
    /// Version 2 alone.
    Unified,
    /// Version 1 holds the controllers, version 2 is mounted beside it.
    Hybrid,
    /// Version 1 alone.
    Legacy,
    /// Nothing is mounted.
    Missing,
}

impl CgroupMode {
    /// A word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unified => "v2",
            Self::Hybrid => "v1 with v2 beside it",
            Self::Legacy => "v1",
            Self::Missing => "not mounted",
        }
    }
}

/// The hierarchies of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroups {
    mode: CgroupMode,
    mounts: Vec<PathBuf>,
    controllers: BTreeSet<String>,
    counts_swap: bool,
}

/// A limit that this machine cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a {limit} limit was asked for, but this machine's cgroups ({mode}) have no {controller} \
         controller"
)]
pub struct UnsupportedLimit {
    limit: &'static str,
    controller: &'static str,
    mode: &'static str,
}

impl Cgroups {
    /// Looks at this machine.
    pub fn detect() -> io::Result<Self> {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
        Ok(Self::from_mountinfo(&mountinfo, |path| {
            fs::read_to_string(path).ok()
        }))
    }

    /// The same for given texts: `read` answers for files of the hierarchies.
    fn from_mountinfo(mountinfo: &str, read: impl Fn(&Path) -> Option<String>) -> Self {
        let mut groups = Self {
            mode: CgroupMode::Missing,
            mounts: Vec::new(),
            controllers: BTreeSet::new(),
            counts_swap: false,
        };
        let (mut old, mut new) = (false, None);
        for mount in mountinfo.lines().filter_map(parse_mount) {
            groups.mounts.push(mount.point.clone());
            if mount.version_2 {
                new = Some(mount.point);
                continue;
            }
            old |= mount
                .controllers
                .iter()
                .any(|name| !name.starts_with("name="));
            let swap = mount.point.join("memory.memsw.limit_in_bytes");
            groups.counts_swap |= read(&swap).is_some();
            groups.controllers.extend(mount.controllers);
        }
        groups.mode = match (old, &new) {
            (false, None) => CgroupMode::Missing,
            (false, Some(_)) => CgroupMode::Unified,
            (true, None) => CgroupMode::Legacy,
            (true, Some(_)) => CgroupMode::Hybrid,
        };
        if groups.mode == CgroupMode::Unified {
            let root = new.unwrap_or_default();
            let list = read(&root.join("cgroup.controllers")).unwrap_or_default();
            groups
                .controllers
                .extend(list.split_whitespace().map(str::to_owned));
            // Without swap accounting the runtime would be refused a file that is not there; the
            // root group never has it, so a machine is taken to count swap where it has memory.
            groups.counts_swap = groups.controllers.contains("memory");
        }
        groups
    }

    /// A machine with these controllers.
    #[cfg(test)]
    pub(crate) fn fixture(controllers: &[&str], counts_swap: bool) -> Self {
        Self {
            mode: CgroupMode::Hybrid,
            mounts: Vec::new(),
            controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
            counts_swap,
        }
    }

    /// How the hierarchies are mounted.
    pub fn mode(&self) -> CgroupMode {
        self.mode
    }

    /// Whether a controller can be used.
    pub fn has_controller(&self, name: &str) -> bool {
        self.controllers.contains(name)
    }

    /// Whether a memory limit can include swap.
    pub(crate) fn counts_swap(&self) -> bool {
        self.counts_swap
    }

    /// Refuses limits that would silently not hold.
    pub fn check(&self, resources: &Resources) -> Result<(), UnsupportedLimit> {
        let is_cpu_asked = resources.cpus.or(resources.reserved_cpus).is_some();
        let needs = [
            ("memory", "memory", resources.memory_bytes.is_some()),
            ("processor", "cpu", is_cpu_asked),
        ];
        for (limit, controller, asked) in needs {
            if asked && !self.has_controller(controller) {
                return Err(UnsupportedLimit {
                    limit,
                    controller,
                    mode: self.mode.as_str(),
                });
            }
        }
        Ok(())
    }

    /// The name of a container's group, as the runtime takes it.
    pub(crate) fn path_of(id: &ContainerId) -> String {
        format!("/{PARENT}/{id}")
    }

    /// A container's directory in every hierarchy that has one.
    fn directories(&self, id: &ContainerId) -> impl Iterator<Item = PathBuf> {
        let name = id.to_string();
        self.mounts
            .iter()
            .map(move |mount| mount.join(PARENT).join(&name))
            .filter(|path| path.is_dir())
    }

    /// How many processes of the container the kernel killed for want of memory.
    pub(crate) fn memory_kills(&self, id: &ContainerId) -> u64 {
        self.directories(id)
            .flat_map(|path| [path.join("memory.oom_control"), path.join("memory.events")])
            .filter_map(|file| fs::read_to_string(file).ok())
            .map(|text| parse_kills(&text))
            .max()
            .unwrap_or(0)
    }

    /// Kills everything in the container's groups and waits until it is dead.
    pub(crate) fn kill(&self, id: &ContainerId) -> io::Result<()> {
        for _ in 0..MAX_KILL_ROUNDS {
            if self.kill_once(id)?.is_none() {
                return Ok(());
            }
        }
        Err(io::Error::other(format!(
            "the processes of {id} cannot be killed"
        )))
    }

    /// Kills what is in the container's groups now and waits until that is dead. Answers handles on
    /// it, and nothing when nobody is there.
    pub(crate) fn kill_once(&self, id: &ContainerId) -> io::Result<Option<Vec<OwnedFd>>> {
        let processes: BTreeSet<i32> = self.directories(id).flat_map(processes_of).collect();
        if processes.is_empty() {
            return Ok(None);
        }
        kill_and_wait(&processes).map(Some)
    }

    /// Removes the container's groups, which must be empty.
    pub(crate) fn remove(&self, id: &ContainerId) -> io::Result<()> {
        for path in self.directories(id) {
            remove_tree(&path)?;
        }
        Ok(())
    }
}

struct Mount {
    point: PathBuf,
    version_2: bool,
    controllers: Vec<String>,
}

/// One line of mountinfo, if it is a control group's.
fn parse_mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let point = before.split(' ').nth(4)?;
    let mut after = after.split(' ');
    let version_2 = match after.next()? {
        "cgroup" => false,
        "cgroup2" => true,
        _ => return None,
    };
    let options = after.nth(1)?;
    let controllers = options
        .split(',')
        .filter(|name| *name != "rw" && *name != "ro");
    Some(Mount {
        point: crate::mounts::unescape(point),
        version_2,
        controllers: controllers.map(str::to_owned).collect(),
    })
}

/// The `oom_kill N` line of version 1's `memory.oom_control` and version 2's `memory.events`.
fn parse_kills(text: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.strip_prefix("oom_kill "))
        .find_map(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

/// Processes of a group and of those below it; a group that vanishes meanwhile has none.
fn processes_of(directory: PathBuf) -> Vec<i32> {
    let mut found = Vec::new();
    let mut pending = vec![directory];
    while let Some(directory) = pending.pop() {
        let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        pending.extend(groups_in(&directory));
    }
    found
}

/// The groups right below one, by the kind that the listing itself tells.
fn groups_in(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
}

fn kill_and_wait(processes: &BTreeSet<i32>) -> io::Result<Vec<OwnedFd>> {
    let mut handles = Vec::new();
    for pid in processes.iter().filter_map(|pid| Pid::from_raw(*pid)) {
        // A process that is gone already is what is wanted.
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else {
            continue;
        };
        // The number could have been reused between reading the list and here; a group's list is
        // read again after the wait, and the runtime's containers are the only members.
        let _ = pidfd_send_signal(&handle, Signal::KILL);
        handles.push(handle);
    }
    let deadline = Instant::now() + KILL_TIMEOUT;
    for handle in &handles {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        // Readable when the process has exited.
        let ended = rustix::io::retry_on_intr(|| {
            poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&left))
        })?;
        if ended == 0 {
            let message = "a process of the container does not end: it waits for a device";
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
    }
    Ok(handles)
}

fn remove_tree(directory: &Path) -> io::Result<()> {
    for below in groups_in(directory) {
        remove_tree(&below)?;
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &str = "25 1 0:23 / /sys rw - sysfs sysfs rw\n\
        30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
    const LEGACY: &str =
        "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n";
    const NAMED_ONLY: &str = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup \
        rw,name=systemd\n41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    fn detect(mountinfo: &str, files: &[(&str, &str)]) -> Cgroups {
        Cgroups::from_mountinfo(mountinfo, |path| {
            let file = files.iter().find(|(name, _)| Path::new(name) == path);
            file.map(|(_, text)| (*text).to_owned())
        })
    }

    #[test]
    fn hierarchies() {
        let list = (
            "/sys/fs/cgroup/cgroup.controllers",
            "cpuset cpu io memory pids\n",
        );
        let swap = ("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", "9\n");
        let table = [
            (V2, vec![list], CgroupMode::Unified, "memory cpu swap"),
            (
                V2,
                vec![("/sys/fs/cgroup/cgroup.controllers", "cpu\n")],
                CgroupMode::Unified,
                "cpu",
            ),
            (V2, vec![], CgroupMode::Unified, ""),
            (HYBRID, vec![swap], CgroupMode::Hybrid, "memory cpu swap"),
            (HYBRID, vec![], CgroupMode::Hybrid, "memory cpu"),
            (LEGACY, vec![swap], CgroupMode::Legacy, "memory swap"),
            (
                "25 1 0:23 / /sys rw - sysfs sysfs rw\n",
                vec![],
                CgroupMode::Missing,
                "",
            ),
            ("", vec![], CgroupMode::Missing, ""),
            (
                "garbage\n - \n1 2 - cgroup2",
                vec![],
                CgroupMode::Missing,
                "",
            ),
        ];
        for (mountinfo, files, mode, expected) in table {
            let groups = detect(mountinfo, &files);
            assert_eq!(groups.mode(), mode, "{mountinfo}");
            let mut found: Vec<&str> = Vec::new();
            found.extend(
                ["memory", "cpu"]
                    .iter()
                    .filter(|name| groups.has_controller(name)),
            );
            found.extend(groups.counts_swap().then_some("swap"));
            assert_eq!(found.join(" "), expected, "{mountinfo}");
        }
        assert_eq!(detect(NAMED_ONLY, &[]).mode(), CgroupMode::Unified);
    }

    #[test]
    fn limits_that_cannot_be_held_are_refused() {
        let limits = Resources {
            memory_bytes: Some(1 << 20),
            cpus: Some(1.0),
            pids: None,
            reserved_cpus: None,
        };
        assert_eq!(detect(HYBRID, &[]).check(&limits), Ok(()));
        let error = detect(LEGACY, &[])
            .check(&limits)
            .expect_err("no cpu controller");
        assert_eq!(
            error.to_string(),
            "a processor limit was asked for, but this machine's cgroups (v1) have no cpu \
             controller"
        );
        assert!(detect("", &[]).check(&limits).is_err());
        assert_eq!(detect("", &[]).check(&Resources::default()), Ok(()));
    }

    #[test]
    fn memory_kills_are_counted_in_both_formats() {
        let version_1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        let version_2 = "low 0\nhigh 0\nmax 12\noom 2\noom_kill 1\noom_group_kill 0\n";
        for (text, expected) in [(version_1, 3), (version_2, 1), ("", 0), ("oom_kill x\n", 0)] {
            assert_eq!(parse_kills(text), expected);
        }
    }
}
