//! The indexing process: a layer on standard input, its index to file descriptor 3, the
//! decompressed bytes to file descriptor 4 where asked for, and one line of JSON on standard
//! output.
//!
//! Confined before the first byte of the layer is read: what hostile bytes can make of a decoder
//! is a wrong answer, and the parent compares every answer that matters.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};

use confine::{Limits as Confinement, Profile, SystemCalls, confine};
use serde::{Deserialize, Serialize};

use crate::error::{IndexerError, WireError};
use crate::pass::{Indexed, Limits, index_layer};

/// Where the parent puts the index file.
pub(crate) const INDEX_FD: i32 = 3;

/// Where the parent puts the cache file.
pub(crate) const CACHE_FD: i32 = 4;

/// Address space: metadata at its limit, the same once more while it is compressed, and queues.
const MEMORY_MAX_BYTES: u64 = 4 << 30;

/// Its five descriptors, two of them opened anew, and what the standard library needs in passing.
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
    Indexed(Indexed),
    Failed(WireError),
}

/// Runs the pass and reports on standard output. Returns whether it succeeded. The cache file is
/// filled where a number of bytes is given that it may take.
pub fn main(cache_bytes: Option<u64>) -> bool {
    let result = run(cache_bytes);
    let succeeded = result.is_ok();
    let report = match result {
        Ok(indexed) => Report::Indexed(indexed),
        Err(error) => Report::Failed(error.into()),
    };
    let line = serde_json::to_string(&report).expect("a report is plain data");
    // A parent that is gone needs no report.
    let written = writeln!(std::io::stdout(), "{line}");
    succeeded && written.is_ok()
}

fn run(cache_bytes: Option<u64>) -> Result<Indexed, IndexerError> {
    let index = inherited(INDEX_FD)?;
    let cache = cache_bytes.map(|_| inherited(CACHE_FD)).transpose()?;
    let limits = Limits {
        cache_bytes: cache_bytes.unwrap_or(0),
        ..Limits::default()
    };
    confine(&PROFILE).map_err(|error| IndexerError::Process(error.to_string()))?;
    let mut output = BufWriter::new(&index);
    let indexed = index_layer(std::io::stdin().lock(), &mut output, cache, limits)?;
    output
        .flush()
        .map_err(|error| IndexerError::Write(error.to_string()))?;
    Ok(indexed)
}

/// Opens an inherited file anew, which needs no claim on the descriptor itself.
fn inherited(descriptor: i32) -> Result<File, IndexerError> {
    let path = format!("/proc/self/fd/{descriptor}");
    let opened = OpenOptions::new().write(true).open(path);
    opened.map_err(|error| IndexerError::Write(format!("descriptor {descriptor}: {error}")))
}
