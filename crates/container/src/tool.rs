//! Starting the programs of the machine that this crate needs: the runtime, `ip` and `nft`.
//!
//! Every one gets an environment of `PATH` alone, and keeps its container's owner lock while it
//! runs, so that nobody clears the container away under a program that outlived us.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::sys;

/// Where programs of the machine are looked for; the caller's `PATH` has no say.
pub(crate) const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a message shows of a program's complaint.
const MAX_COMPLAINT: usize = 512;

/// Why a program of the machine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// Not installed.
    #[error("`{name}` is not installed: apt-get install {package}")]
    Missing {
        /// The program.
        name: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// Could not be run.
    #[error("cannot run {name}")]
    Spawn {
        /// The program.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Ran and failed.
    #[error("{name} failed: {complaint}")]
    Failed {
        /// The program.
        name: &'static str,
        /// The end of what it wrote, escaped.
        complaint: String,
    },
}

/// Finds a program of the machine where containers would find it; the caller's `PATH` has no say.
pub fn find(name: &str) -> Option<PathBuf> {
    let places = SYSTEM_PATH
        .split(':')
        .map(|place| Path::new(place).join(name));
    places.into_iter().find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// A command with a clean environment that keeps the owner lock, if there is one.
pub(crate) fn command(program: &Path, owner: Option<&OwnedFd>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", SYSTEM_PATH);
    if let Some(owner) = owner {
        sys::keep_across_exec(&mut command, owner);
    }
    command
}

/// Runs `ip` or `nft` with a script on its standard input.
pub(crate) fn run_script(
    name: &'static str,
    arguments: &[&str],
    script: &str,
    owner: Option<&OwnedFd>,
) -> Result<Output, ToolError> {
    let package = if name == "nft" {
        "nftables"
    } else {
        "iproute2"
    };
    let program = find(name).ok_or(ToolError::Missing { name, package })?;
    let spawn = |source| ToolError::Spawn { name, source };
    let mut child = command(&program, owner)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(spawn)?;
    let mut input = child.stdin.take().expect("standard input is a pipe");
    // Scripts are a few KiB, less than a pipe holds, and the program reads all before it writes.
    let written = input.write_all(script.as_bytes());
    drop(input);
    let output = child.wait_with_output().map_err(spawn)?;
    if output.status.success() {
        written.map_err(spawn)?;
        return Ok(output);
    }
    let complaint = excerpt(&output.stderr);
    Err(ToolError::Failed { name, complaint })
}

/// The end of a program's words, on one line and safe for a terminal.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = text
        .split('\n')
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let joined = line.collect::<Vec<_>>().join("; ");
    let escaped: String = joined.chars().flat_map(char::escape_debug).collect();
    let escaped = escaped.replace("\\\"", "\"").replace("\\'", "'");
    let start = escaped.len().saturating_sub(MAX_COMPLAINT);
    let start = (start..=escaped.len()).find(|at| escaped.is_char_boundary(*at));
    escaped[start.unwrap_or(0)..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_are_one_safe_line() {
        assert_eq!(excerpt(b"a \"q\"\n\n b\x1b[31m\n"), "a \"q\"; b\\u{1b}[31m");
        assert_eq!(excerpt(&[b'x'; 5000]).len(), MAX_COMPLAINT);
        assert_eq!(
            excerpt("é".repeat(5000).as_bytes()).chars().next(),
            Some('é')
        );
    }
}
