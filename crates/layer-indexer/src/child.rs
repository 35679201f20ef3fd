//! The indexing process: a layer on standard input, its index to file descriptor 3, the
//! decompressed bytes to file descriptor 4 where asked for, and one line of JSON on standard
//! output.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};

use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::set_no_new_privs;
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

/// The child's last word.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    Indexed(Indexed),
    Failed(WireError),
}

/// Runs the pass and reports on standard output. Returns whether it succeeded.
pub fn main(fill_cache: bool) -> bool {
    let result = run(fill_cache);
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

fn run(fill_cache: bool) -> Result<Indexed, IndexerError> {
    confine().map_err(|error| IndexerError::Process(error.to_string()))?;
    let index = inherited(INDEX_FD)?;
    let cache = if fill_cache {
        Some(inherited(CACHE_FD)?)
    } else {
        None
    };
    let mut output = BufWriter::new(&index);
    let indexed = index_layer(
        std::io::stdin().lock(),
        &mut output,
        cache,
        Limits::default(),
    )?;
    output
        .flush()
        .map_err(|error| IndexerError::Write(error.to_string()))?;
    Ok(indexed)
}

/// Bounds what a layer can make of this process, before the first byte of it is read.
fn confine() -> io::Result<()> {
    let limit = |resource, most| {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, limit)
    };
    limit(Resource::As, MEMORY_MAX_BYTES)?;
    limit(Resource::Nofile, FILES_MAX)?;
    limit(Resource::Core, 0)?;
    set_no_new_privs(true)?;
    Ok(())
}

/// Opens an inherited file anew, which needs no claim on the descriptor itself.
fn inherited(descriptor: i32) -> Result<File, IndexerError> {
    let path = format!("/proc/self/fd/{descriptor}");
    let opened = OpenOptions::new().write(true).open(path);
    opened.map_err(|error| IndexerError::Write(format!("descriptor {descriptor}: {error}")))
}
