//! The indexing process: a layer on standard input, its index to file descriptor 3, the
//! decompressed bytes to file descriptor 4 where asked for, what is too much for memory to file
//! descriptor 5, and one line of JSON on standard output.
//!
//! Confined before the first byte of the layer is read: what hostile bytes can make of a decoder
//! is a wrong answer, and the parent compares every answer that matters.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read, Write};

use confine::{Limits as Confinement, Profile, SystemCalls, confine};
use layer_index::Scratch;
use serde::{Deserialize, Serialize};

use crate::error::{IndexerError, WireError};
use crate::pass::{Files, Indexed, Limits, index_layer};

/// Where the parent puts the index file.
pub(crate) const INDEX_FD: i32 = 3;

/// Where the parent puts the cache file.
pub(crate) const CACHE_FD: i32 = 4;

/// Where the parent puts an empty file that can be read again.
pub(crate) const SCRATCH_FD: i32 = 5;

/// Address space. What a layer takes is a sixteenth of it; stacks and arenas of four threads are
/// address space that is never touched.
const MEMORY_MAX_BYTES: u64 = 1 << 30;

/// Its six descriptors, three of them opened anew, its own status, and what the standard library
/// needs in passing.
const FILES_MAX: u64 = 16;

/// No file, no network, no other process: descriptors, memory and threads.
pub const PROFILE: Profile<'static> = Profile {
    limits: Confinement {
        memory_bytes: MEMORY_MAX_BYTES,
        descriptors: FILES_MAX,
    },
    readable: &[],
    system_calls: SystemCalls::Compute,
};

/// The child's last word.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    Indexed(Finished),
    Failed(WireError),
}

/// What came of it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Finished {
    #[serde(flatten)]
    pub indexed: Indexed,
    /// The most that the process had in memory, its program included; nothing where the kernel does
    /// not say.
    pub peak_memory_bytes: Option<u64>,
}

/// Runs the pass and reports on standard output. Returns whether it succeeded. The cache file is
/// filled where a number of bytes is given that it may take.
pub fn main(cache_bytes: Option<u64>) -> bool {
    let result = run(cache_bytes);
    let succeeded = result.is_ok();
    let report = match result {
        Ok(finished) => Report::Indexed(finished),
        Err(error) => Report::Failed(error.into()),
    };
    let line = serde_json::to_string(&report).expect("a report is plain data");
    // A parent that is gone needs no report.
    let written = writeln!(std::io::stdout(), "{line}");
    succeeded && written.is_ok()
}

fn run(cache_bytes: Option<u64>) -> Result<Finished, IndexerError> {
    let index = inherited(INDEX_FD, OpenOptions::new().write(true))?;
    let cache = cache_bytes.map(|_| inherited(CACHE_FD, OpenOptions::new().write(true)));
    let scratch = inherited(SCRATCH_FD, OpenOptions::new().read(true).write(true))?;
    let files = Files {
        cache: cache.transpose()?,
        scratch: Scratch::new(scratch),
    };
    // Later nothing can be opened.
    let status = File::open("/proc/self/status");
    let limits = Limits {
        cache_bytes: cache_bytes.unwrap_or(0),
        ..Limits::default()
    };
    confine(&PROFILE).map_err(|error| IndexerError::Process(error.to_string()))?;
    let mut output = BufWriter::new(&index);
    let indexed = index_layer(std::io::stdin().lock(), &mut output, files, limits)?;
    output
        .flush()
        .map_err(|error| IndexerError::Write(error.to_string()))?;
    Ok(Finished {
        indexed,
        peak_memory_bytes: status.ok().and_then(peak_memory_bytes),
    })
}

/// The highest water mark, as the kernel tells it: `VmHWM:     1234 kB`.
fn peak_memory_bytes(mut status: File) -> Option<u64> {
    let mut text = String::new();
    status.read_to_string(&mut text).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// Opens an inherited file anew, which needs no claim on the descriptor itself.
fn inherited(descriptor: i32, options: &OpenOptions) -> Result<File, IndexerError> {
    let opened = options.open(format!("/proc/self/fd/{descriptor}"));
    opened.map_err(|error| IndexerError::Write(format!("descriptor {descriptor}: {error}")))
}
