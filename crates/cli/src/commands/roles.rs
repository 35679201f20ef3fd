//! The hidden roles that holdfast starts itself as. They answer to their parent, not to a person.

use std::path::Path;
use std::process::ExitCode;

use crate::failure::chain;

/// The role that holds the root key.
pub(crate) const KEY_KEEPER: &str = "key-keeper";
/// The role that runs containers of functions.
pub(crate) const WORKER_SERVER: &str = "worker-server";

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

/// Holds the root key for the command that started it.
pub(crate) fn key_keeper() -> ExitCode {
    match vault::keep_root_key() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Takes the mount off when the pipe on standard input breaks.
pub(crate) fn mount_janitor(directory: &Path) -> ExitCode {
    match image_mount::watch_inherited(directory) {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody is left to be told.
        Err(_) => ExitCode::FAILURE,
    }
}
