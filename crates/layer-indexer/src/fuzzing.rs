//! A door to the archive reader, for the repository's fuzz targets alone: no part of the interface.
//!
//! It is the pass without digests, windows and threads, so that an archive can be cut anywhere.

use layer_index::Entry;

use crate::error::IndexerError;
use crate::scan::Scanner;

/// The entries of an archive that arrives in these pieces.
pub fn scan<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Entry>, IndexerError> {
    let mut scanner = Scanner::new();
    let mut entries = Vec::new();
    for piece in pieces {
        scanner.push(piece, &mut |entry| {
            entries.push(entry.clone());
            Ok(())
        })?;
    }
    scanner.finish()?;
    Ok(entries)
}
