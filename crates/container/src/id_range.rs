//! Which ids of the machine a workspace's containers have: a range of their own, so that root in a
//! container is nobody outside and two workspaces share no id.
//!
//! ```text
//! DIRECTORY/<slot>    holds the name of the workspace that has the slot, for good
//! ```
//!
//! Ranges follow each other from the machine's first id. A slot is taken under a lock and is whole
//! or absent; none is ever given back, since files may still belong to its ids. A slot that is lost
//! goes to the next workspace that has none.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

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
    /// Every slot has its workspace.
    #[error("all {MAX_SLOTS} ranges of ids have a workspace")]
    Full,
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
        let slot = take_slot(directory, workspace)?.ok_or(IdRangeError::Full)?;
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

fn take_slot(directory: &Path, workspace: &str) -> io::Result<Option<u32>> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let lock = File::create(directory.join(".lock"))?;
    rustix::io::retry_on_intr(|| flock(&lock, FlockOperation::LockExclusive))?;
    let mut free = None;
    for slot in 0..MAX_SLOTS {
        match read_name(&directory.join(slot.to_string())) {
            Ok(holder) if holder == workspace.as_bytes() => return Ok(Some(slot)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                free = free.or(Some(slot));
            }
            Err(error) => return Err(error),
        }
    }
    if let Some(slot) = free {
        claim(directory, &directory.join(slot.to_string()), workspace)?;
    }
    Ok(free)
}

fn claim(directory: &Path, slot: &Path, workspace: &str) -> io::Result<()> {
    let draft = directory.join(".draft");
    let mut file = File::create(&draft)?;
    file.write_all(workspace.as_bytes())?;
    file.sync_all()?;
    fs::rename(draft, slot)?;
    File::open(directory)?.sync_all()
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
        assert!(matches!(range, Err(IdRangeError::Full)));
    }
}
