//! Where one contender runs once: namespaces and a cgroup of its own, so that all of its processes
//! are counted and none outlives its turn, whoever started them.
//!
//! The lane is a process with namespaces of processes, mounts and cgroups, in the client's network
//! and on a `/run` in memory. Runtimes inside make their cgroups below the lane's. When it is
//! killed, and it dies with this process, so is everything inside, and its mounts go. What then
//! stays are empty cgroups; they are removed here or by the [`super::janitor`].

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::network::Namespace;
use crate::entry::Entry;
use crate::process::Service;

/// Joins cgroups by their `tasks` files, up to `--`, and becomes the program after it.
const JOIN: &str = r#"while [ "$1" != -- ]; do echo $$ > "$1"; shift; done; shift; exec "$@""#;

/// Shows each hierarchy from the lane's own cgroup down, then only keeps the namespaces.
const SETTLE: &str = r#"set -e
while [ $# -gt 0 ]; do umount "$1"; mount -t cgroup -o "$2" cgroup "$1"; shift 2; done
mount -t tmpfs -o mode=755 tmpfs /run
echo settled >&2
exec sleep infinity 2> /dev/null"#;

const ENDING: Duration = Duration::from_secs(10);
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// A hierarchy of cgroups, version 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    folder: PathBuf,
    /// What mounts it again.
    option: String,
}

/// A running lane.
#[derive(Debug)]
pub(super) struct Lane {
    name: String,
    hierarchies: Vec<Hierarchy>,
    keeper: Option<Service>,
}

impl Lane {
    pub(super) fn open(name: &str, network: &Namespace) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read the mounts")?;
        let hierarchies = hierarchies(&mounts);
        if !hierarchies.iter().any(|one| one.option.contains("cpuacct")) {
            bail!("this bench counts by cgroups of version 1, and there are none");
        }
        let mut lane = Self {
            name: name.to_owned(),
            hierarchies,
            keeper: None,
        };
        lane.make_cgroups()?;
        let mut command = lane.joining().command("setpriv");
        command.args(["--pdeathsig=KILL", "nsenter"]);
        command.arg(format!("--net={}", network.path()));
        command.args(["--", "unshare", "--mount", "--pid", "--cgroup", "--fork"]);
        command.args(["--kill-child", "--mount-proc", "sh", "-c", SETTLE, "sh"]);
        for one in &lane.hierarchies {
            command.arg(&one.folder).arg(&one.option);
        }
        let mut keeper = Service::start(command.stderr(Stdio::piped()))?;
        let said = keeper.take_stderr().expect("standard error was asked for");
        lane.keeper = Some(keeper);
        let mut last = String::new();
        for line in BufReader::new(said).lines() {
            last = line?;
            if last == "settled" {
                return Ok(lane);
            }
        }
        bail!("no lane for a contender: {last}")
    }

    /// How a program enters it.
    pub(super) fn entry(&self) -> Entry {
        let keeper = self.keeper.as_ref().map_or(0, Service::id);
        let mut words = self.joining_words();
        words.push("nsenter".to_owned());
        let namespaces = [
            ("net", "net"),
            ("mount", "mnt"),
            ("cgroup", "cgroup"),
            ("pid", "pid_for_children"),
        ];
        for (flag, file) in namespaces {
            words.push(format!("--{flag}=/proc/{keeper}/ns/{file}"));
        }
        // The caller's process group has no number in the lane, and programs ask for theirs.
        words.extend(["--", "setsid", "--wait"].map(str::to_owned));
        Entry::new(words)
    }

    /// Processor seconds of all that ran here.
    pub(super) fn cpu_seconds(&self) -> Result<f64> {
        let text = fs::read_to_string(self.cgroup("cpuacct")?.join("cpuacct.usage"))?;
        let nanoseconds: f64 = text.trim().parse().context("cpuacct.usage is no number")?;
        Ok(nanoseconds / 1e9)
    }

    /// The file that says how much memory is used here, in [`used_bytes`]'s format.
    pub(super) fn memory_file(&self) -> Result<PathBuf> {
        Ok(self.cgroup("memory")?.join("memory.stat"))
    }

    fn cgroup(&self, controller: &str) -> Result<PathBuf> {
        let named = |one: &&Hierarchy| one.option.split(',').any(|word| word == controller);
        let found = self.hierarchies.iter().find(named);
        let found = found.with_context(|| format!("no cgroups of {controller}"))?;
        Ok(found.folder.join(&self.name))
    }

    fn make_cgroups(&self) -> Result<()> {
        for one in &self.hierarchies {
            let folder = one.folder.join(&self.name);
            fs::create_dir_all(&folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
            // A new cpuset is empty, and nothing may run in it.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(all) = fs::read(one.folder.join(file)) {
                    fs::write(folder.join(file), all)?;
                }
            }
        }
        Ok(())
    }

    fn joining(&self) -> Entry {
        Entry::new(self.joining_words())
    }

    fn joining_words(&self) -> Vec<String> {
        let mut words = ["sh", "-c", JOIN, "sh"].map(str::to_owned).to_vec();
        let tasks = |one: &Hierarchy| one.folder.join(&self.name).join("tasks");
        let tasks = self.hierarchies.iter().map(tasks);
        words.extend(tasks.map(|path| path.to_string_lossy().into_owned()));
        words.push("--".to_owned());
        words
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.keeper = None;
        let begin = Instant::now();
        let mut left: Vec<PathBuf> = self
            .hierarchies
            .iter()
            .map(|one| one.folder.join(&self.name))
            .collect();
        while !left.is_empty() && begin.elapsed() < ENDING {
            left.retain(|folder| remove_tree(folder).is_err());
            std::thread::sleep(LOOK_PAUSE);
        }
        for folder in left {
            eprintln!("warning: cannot remove {}", folder.display());
        }
    }
}

/// Removes a cgroup and those below it; fails as long as something runs there.
fn remove_tree(folder: &Path) -> std::io::Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(folder)
}

/// The hierarchies of version 1 among the mounts.
fn hierarchies(mounts: &str) -> Vec<Hierarchy> {
    let one = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let [_, folder, "cgroup", options, ..] = words[..] else {
            return None;
        };
        let general = ["rw", "ro", "relatime", "nosuid", "nodev", "noexec", "xattr"];
        let own = |word: &&str| !general.contains(word) && !word.contains("release_agent");
        let own: Vec<&str> = options.split(',').filter(own).collect();
        let option = match own[..] {
            [name] if name.starts_with("name=") => format!("none,{name}"),
            _ => own.join(","),
        };
        Some(Hierarchy {
            folder: PathBuf::from(folder),
            option,
        })
    };
    mounts.lines().filter_map(one).collect()
}

/// Bytes that are nobody's file: what `memory.stat` says is anonymous or shared, here and below.
pub(super) fn used_bytes(stat: &str) -> u64 {
    let field = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        let counts = ["total_rss", "total_shmem"].contains(&name);
        counts.then(|| value.parse::<u64>().ok())?
    };
    stat.lines().filter_map(field).sum()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{hierarchies, used_bytes};

    #[test]
    fn hierarchies_are_mounted_again_by_their_controllers() {
        let found = hierarchies(
            "tmpfs /sys/fs/cgroup tmpfs rw,mode=755 0 0\n\
             cgroup /sys/fs/cgroup/cpu cgroup rw,nosuid,nodev,relatime,cpu,cpuacct 0 0\n\
             cgroup /sys/fs/cgroup/systemd cgroup rw,relatime,xattr,name=systemd 0 0\n\
             cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n",
        );
        let shown: Vec<(&Path, &str)> = found
            .iter()
            .map(|one| (one.folder.as_path(), one.option.as_str()))
            .collect();
        assert_eq!(
            shown,
            [
                (Path::new("/sys/fs/cgroup/cpu"), "cpu,cpuacct"),
                (Path::new("/sys/fs/cgroup/systemd"), "none,name=systemd"),
            ]
        );
    }

    #[test]
    fn files_in_memory_that_are_somebodys_do_not_count() {
        let stat = "cache 900\nrss 5\ntotal_cache 4000\ntotal_rss 70\ntotal_rss_huge 9\n\
                    total_shmem 30\n";
        assert_eq!(used_bytes(stat), 100);
        assert_eq!(used_bytes("nonsense\ntotal_rss many\n"), 0);
    }
}
