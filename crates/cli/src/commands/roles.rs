//! The hidden roles that holdfast starts itself as. They answer to their parent, not to a person.

use std::process::ExitCode;

use crate::failure::chain;

/// Serves one mounted image over the inherited socket.
pub(crate) fn mount_server() -> ExitCode {
    match image_mount::serve_inherited() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Indexes the layer on standard input.
pub(crate) fn layer_indexer(cache_bytes: Option<u64>) -> ExitCode {
    if layer_indexer::child::main(cache_bytes) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
