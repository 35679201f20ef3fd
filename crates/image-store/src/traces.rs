//! Traces: what starts have read, so that the next one can be given it ahead of its reads.
//!
//! By workspace, since a trace tells what its programs do; by origin and indexes, since span
//! numbers mean nothing elsewhere; and by command. The same is kept for each layer and program, for
//! images that have never started and share a layer with one that has. What is in a trace was
//! chosen by a container: it is bounded here, and whoever fetches by it passes over what the image
//! does not have. A damaged or foreign file is no trace, and no error: the next run makes another.

mod format;
mod merge;
mod packed;
mod start;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use reference::Digest;
use sha2::{Digest as _, Sha256};

use crate::{
    ImageStore, StoreError, hashed_name, io_error, is_absent, make_directory, remove_whatever,
};

pub use packed::{pack_touches, unpack_touches};
pub use start::{TracedLayer, TracedStart, existing};

/// Runs of which a trace is made: enough that one odd run changes nothing, few enough that a new
/// version of a program is known after three.
const KEPT_RUNS: usize = 5;

/// Touches of one run: what a mount process records at most.
const MAX_TOUCHES: usize = 16_384;

/// Files of one workspace: some hundred images and commands with a few layers each.
const MAX_FILES: usize = 2048;

/// All of them together. A start of Python takes some ten kilobytes.
const MAX_WORKSPACE_BYTES: u64 = 64 << 20;

/// A span that a run touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Touch {
    /// Position of the layer in the image, lowest first.
    pub layer: u32,
    pub span: u32,
    /// From the beginning of the run.
    pub at_ms: u32,
}

/// What a trace is of.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TraceKey([u8; 32]);

impl TraceKey {
    /// A command in an image, whose layers are given lowest first.
    fn of_command(origin: &str, layers: &[TracedLayer], command: &[String]) -> Self {
        let mut key = Fields::new("command", origin);
        for layer in layers {
            key.add(layer.digest.as_bytes());
            key.add(&layer.root);
        }
        key.add(b"");
        command.iter().for_each(|word| key.add(word.as_bytes()));
        key.finish()
    }

    /// A program in whatever image has this layer.
    fn of_program(origin: &str, layer: &TracedLayer, program: &str) -> Self {
        let mut key = Fields::new("program", origin);
        for field in [layer.digest.as_bytes(), &layer.root, program.as_bytes()] {
            key.add(field);
        }
        key.finish()
    }
}

/// Fields with their lengths, so that no two lists hash alike.
struct Fields(Sha256);

impl Fields {
    fn new(kind: &str, origin: &str) -> Self {
        let mut fields = Self(Sha256::new());
        fields.add(kind.as_bytes());
        fields.add(origin.as_bytes());
        fields
    }

    fn add(&mut self, field: &[u8]) {
        self.0.update((field.len() as u64).to_le_bytes());
        self.0.update(field);
    }

    fn finish(self) -> TraceKey {
        TraceKey(self.0.finalize().into())
    }
}

impl ImageStore {
    /// What most of the last runs touched, in the order in which they did. Nothing where nothing is
    /// known.
    fn trace(&self, workspace: &str, key: &TraceKey) -> Vec<Touch> {
        merge::merge(&read(&self.trace_path(workspace, key), key))
    }

    /// Adds a run, in the order of its touches. One that touched nothing says nothing. Whoever has
    /// added prunes.
    fn add_trace(
        &self,
        workspace: &str,
        key: &TraceKey,
        run: Vec<Touch>,
    ) -> Result<(), StoreError> {
        let mut run = run;
        run.truncate(MAX_TOUCHES);
        if run.is_empty() {
            return Ok(());
        }
        let path = self.trace_path(workspace, key);
        let mut runs = read(&path, key);
        if runs.len() == KEPT_RUNS && merge::foretells(&merge::merge(&runs), &run) {
            // Nothing new: that it is in use is all there is to note.
            return note_use(&path).map_err(|error| io_error(&path, error));
        }
        runs.push(run);
        let kept = &runs[runs.len().saturating_sub(KEPT_RUNS)..];
        self.write(&path, &format::encode(key, kept))
    }

    /// Brings the traces of a workspace within their limits. Looks at every one of them.
    fn prune_traces(&self, workspace: &str) -> Result<(), StoreError> {
        let directory = self.trace_directory(workspace);
        match prune(&directory) {
            Err(error) if !is_absent(&error) => Err(io_error(&directory, error)),
            _ => Ok(()),
        }
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let directory = path.parent().expect("a trace has a directory");
        for part in [&self.directory.join("traces"), directory] {
            make_way(part).map_err(|error| io_error(part, error))?;
        }
        make_directory(directory)?;
        if path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
            remove_whatever(path).map_err(|error| io_error(path, error))?;
        }
        let mut file = self.new_file()?;
        let written = file.write_all(bytes);
        written.map_err(|error| io_error(file.path(), error))?;
        let published = file.publish_unsynced(path);
        published.map_err(|error| io_error(path, error))
    }

    fn trace_path(&self, workspace: &str, key: &TraceKey) -> PathBuf {
        self.trace_directory(workspace)
            .join(Digest::sha256(key.0).hex())
    }

    fn trace_directory(&self, workspace: &str) -> PathBuf {
        self.directory.join("traces").join(hashed_name(workspace))
    }
}

/// Removes what is not a directory and has its name.
fn make_way(directory: &Path) -> io::Result<()> {
    if directory.is_dir() || directory.symlink_metadata().is_err() {
        return Ok(());
    }
    remove_whatever(directory)
}

/// The runs in a file; none where it is not there or not what it should be.
fn read(path: &Path, key: &TraceKey) -> Vec<Vec<Touch>> {
    let is_plausible = path
        .symlink_metadata()
        .is_ok_and(|found| found.is_file() && found.len() <= format::MAX_BYTES);
    if !is_plausible {
        return Vec::new();
    }
    let bytes = fs::read(path).unwrap_or_default();
    format::decode(key, &bytes).unwrap_or_default()
}

fn note_use(path: &Path) -> io::Result<()> {
    File::options()
        .write(true)
        .open(path)?
        .set_modified(SystemTime::now())
}

/// Removes what has not been used for longest, until the rest is within its limits.
fn prune(directory: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // What another process has removed meanwhile is gone.
        if let Ok(found) = entry.metadata() {
            let used = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            files.push((used, found.len(), entry.path()));
        }
    }
    files.sort_unstable_by(|a, b| b.cmp(a));
    let (mut count, mut bytes) = (0, 0_u64);
    for (_, size, path) in files {
        count += 1;
        bytes = bytes.saturating_add(size);
        if count > MAX_FILES || bytes > MAX_WORKSPACE_BYTES {
            let _gone = remove_whatever(&path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
