//! Which ids of the machine a workspace's containers have: a range of their own, so that root in a
//! container is nobody outside and two workspaces share no id.
//!
//! ```text
//! DIRECTORY/<slot>    holds the name of the workspace that has the slot, for good
//! DIRECTORY/first     holds the id with which slot 0 begins, for good
//! ```
//!
//! Ranges follow each other from the machine's first id. A slot is taken under a lock and is whole
//! or absent; none is ever given back, since files may still belong to its ids. A slot that is lost
//! goes to the next workspace that has none.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Ids in a range: all that programs of a distribution use, `nobody` (65534) included.
pub const IDS_PER_RANGE: u32 = 1 << 16;

/// First id where the machine's configuration names none: far above the ids that distributions
/// give to people (up to 60000) and to their subordinate ranges (from 100000, upwards in steps).
pub const DEFAULT_FIRST_ID: u32 = 0x7100_0000;

/// Workspaces on one machine; with the default start the last range ends below 2^31, above which
/// tools read ids as negative.
const MAX_SLOTS: u32 = 256;

/// The largest first id whose last slot stays below 2^31.
const LAST_FIRST_ID: u32 = i32::MAX.unsigned_abs() + 1 - MAX_SLOTS * IDS_PER_RANGE;

/// Where distributions give people ids of their own: `name:first:count`.
const SUBORDINATE: [&str; 2] = ["/etc/subuid", "/etc/subgid"];

/// Longer than any name of a workspace.
const MAX_NAME_BYTES: u64 = 4096;

/// A range of ids: container id 0 is the first of them outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    first: u32,
}

/// Why there is no range.
#[derive(Debug, thiserror::Error)]
pub enum IdRangeError {
    /// Would meet ids that the machine uses, or run past the largest.
    #[error(
        "ids from {0} cannot be given to containers: the first must be a multiple of \
         {IDS_PER_RANGE} between {IDS_PER_RANGE} and {LAST_FIRST_ID}"
    )]
    FirstId(u32),
    /// Ids would change their workspace.
    #[error("ids of containers began at {0} when {1} was made, and cannot begin at {2}")]
    Moved(u32, PathBuf, u32),
    /// Would meet ids that are given to a person.
    #[error("ids from {0} on are given to somebody by {1}: {2}")]
    Subordinate(u32, &'static str, String),
    /// Every slot has its workspace.
    #[error("all {MAX_SLOTS} ranges of ids have a workspace, as {0} shows")]
    Full(PathBuf),
    /// The disk said no.
    #[error("cannot keep track of the ids of workspaces")]
    Io(#[from] io::Error),
}

impl IdRange {
    /// The range of a workspace, the same at every call with one directory.
    pub fn of_workspace(
        directory: &Path,
        first_id: u32,
        workspace: &str,
    ) -> Result<Self, IdRangeError> {
        let is_free = (IDS_PER_RANGE..=LAST_FIRST_ID).contains(&first_id);
        if !is_free || !first_id.is_multiple_of(IDS_PER_RANGE) {
            return Err(IdRangeError::FirstId(first_id));
        }
        for path in SUBORDINATE {
            let text = fs::read_to_string(path).unwrap_or_default();
            check_subordinate(path, &text, first_id)?;
        }
        let slots = Slots::lock(directory)?;
        slots.keep_first(first_id)?;
        let slot = slots.take(workspace)?;
        let slot = slot.ok_or_else(|| IdRangeError::Full(directory.to_owned()))?;
        Ok(Self {
            first: first_id + slot * IDS_PER_RANGE,
        })
    }

    /// A range that starts at an id, for those who keep track themselves.
    pub const fn starting_at(first: u32) -> Self {
        Self { first }
    }

    /// What the container's root is outside.
    pub fn first(self) -> u32 {
        self.first
    }

    /// The line of `uid_map` and `gid_map`.
    pub(crate) fn map_line(self) -> String {
        format!("0 {} {IDS_PER_RANGE}\n", self.first)
    }
}

/// Refuses ids that a line of the file gives to somebody.
fn check_subordinate(path: &'static str, text: &str, first_id: u32) -> Result<(), IdRangeError> {
    let ours = u64::from(first_id)..u64::from(first_id) + u64::from(MAX_SLOTS * IDS_PER_RANGE);
    let meets = |line: &&str| {
        let mut numbers = line.rsplit(':').map(|part| part.trim().parse::<u64>());
        let (Some(Ok(count)), Some(Ok(first))) = (numbers.next(), numbers.next()) else {
            return false;
        };
        first < ours.end && first.saturating_add(count) > ours.start
    };
    match text.lines().find(meets) {
        Some(line) => Err(IdRangeError::Subordinate(first_id, path, line.to_owned())),
        None => Ok(()),
    }
}

/// The directory, held by this process alone.
struct Slots<'a> {
    directory: &'a Path,
    _lock: File,
}

impl<'a> Slots<'a> {
    fn lock(directory: &'a Path) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let lock = File::create(directory.join(".lock"))?;
        rustix::io::retry_on_intr(|| flock(&lock, FlockOperation::LockExclusive))?;
        Ok(Self {
            directory,
            _lock: lock,
        })
    }

    /// What was a workspace's stays its own: the first id is as it was at the beginning.
    fn keep_first(&self, first_id: u32) -> Result<(), IdRangeError> {
        let known = match read_name(&self.directory.join("first")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            known => Some(known?),
        };
        let known = known.and_then(|text| str::from_utf8(&text).ok()?.trim().parse().ok());
        match known {
            Some(known) if known == first_id => Ok(()),
            Some(known) => {
                let directory = self.directory.to_owned();
                Err(IdRangeError::Moved(known, directory, first_id))
            }
            None => Ok(self.write("first", &first_id.to_string())?),
        }
    }

    fn take(&self, workspace: &str) -> io::Result<Option<u32>> {
        let mut free = None;
        for slot in 0..MAX_SLOTS {
            match read_name(&self.directory.join(slot.to_string())) {
                Ok(holder) if holder == workspace.as_bytes() => return Ok(Some(slot)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    free = free.or(Some(slot));
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(slot) = free {
            self.write(&slot.to_string(), workspace)?;
        }
        Ok(free)
    }

    /// Whole or absent.
    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let draft = self.directory.join(".draft");
        let mut file = File::create(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(draft, self.directory.join(name))?;
        File::open(self.directory)?.sync_all()
    }
}

fn read_name(path: &Path) -> io::Result<Vec<u8>> {
    let mut name = Vec::new();
    File::open(path)?
        .take(MAX_NAME_BYTES)
        .read_to_end(&mut name)?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_keeps_its_range_and_shares_it_with_none() {
        let top = tempfile::tempdir().expect("a directory");
        let directory = top.path().join("ids");
        let first = |workspace: &str| {
            let range = IdRange::of_workspace(&directory, DEFAULT_FIRST_ID, workspace);
            range.expect("a range").first()
        };
        assert_eq!(first("default"), 0x7100_0000);
        assert_eq!(first("other"), 0x7101_0000);
        assert_eq!(first("default"), 0x7100_0000);
        fs::remove_file(directory.join("0")).expect("removed");
        assert_eq!(first("other"), 0x7101_0000, "a lost slot moves nobody");
    }

    #[test]
    fn workspaces_at_once_get_ranges_of_their_own() {
        let top = tempfile::tempdir().expect("a directory");
        let names: Vec<String> = (0..16).map(|number| format!("w{number}")).collect();
        let mut firsts = std::thread::scope(|scope| {
            let directory = top.path();
            let ask = |name| IdRange::of_workspace(directory, DEFAULT_FIRST_ID, name);
            let threads: Vec<_> = names
                .iter()
                .map(|name| scope.spawn(move || ask(name)))
                .collect();
            let ranges = threads
                .into_iter()
                .map(|thread| thread.join().expect("ends"));
            ranges
                .map(|range| range.expect("a range").first())
                .collect::<Vec<_>>()
        });
        firsts.sort_unstable();
        firsts.dedup();
        assert_eq!(firsts.len(), names.len());
    }

    #[test]
    fn ranges_that_meet_the_machines_ids_are_refused() {
        let top = tempfile::tempdir().expect("a directory");
        for first_id in [0, 1000, 65_535, 0x7100_0001, 0x7f01_0000, u32::MAX] {
            let range = IdRange::of_workspace(top.path(), first_id, "default");
            assert!(matches!(range, Err(IdRangeError::FirstId(_))), "{first_id}");
        }
        for slot in 0..MAX_SLOTS {
            fs::write(top.path().join(slot.to_string()), "taken").expect("written");
        }
        let range = IdRange::of_workspace(top.path(), 0x7f00_0000, "default");
        assert!(matches!(range, Err(IdRangeError::Full(_))));
    }

    #[test]
    fn ids_that_somebody_has_are_not_given_to_containers() {
        let check = |text, first| check_subordinate("/etc/subuid", text, first);
        let text = "# none\nalice:100000:65536\nbob:0x1:1\n1000:2000000000:1\n";
        for (first, free) in [
            (65_536, false),
            (131_072, false),
            (196_608, true),
            (DEFAULT_FIRST_ID, true),
            (1_999_962_112, false),
        ] {
            assert_eq!(check(text, first).is_ok(), free, "{first}");
        }
        let error = check("all:0:4294967295", DEFAULT_FIRST_ID).unwrap_err();
        assert!(error.to_string().ends_with("/etc/subuid: all:0:4294967295"));
    }

    #[test]
    fn the_first_id_stays_what_it_was() {
        let top = tempfile::tempdir().expect("a directory");
        let ask = |first, workspace| IdRange::of_workspace(top.path(), first, workspace);
        ask(0x7100_0000, "one").expect("a range");
        let error = ask(0x7000_0000, "two").unwrap_err();
        assert!(
            matches!(error, IdRangeError::Moved(0x7100_0000, _, _)),
            "{error}"
        );
        ask(0x7100_0000, "two").expect("a range");
    }
}
