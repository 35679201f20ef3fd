//! Removes what a bench leaves when it is interrupted or killed: empty cgroups and its folder.
//!
//! A shell that waits on a pipe, which breaks when this process ends, however it ends. Processes,
//! mounts and devices need nobody: they die with their owners.

use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};

use anyhow::{Context, Result};

use crate::process;

/// Waits for the pipe to break, then for the cgroups to become empty, for five seconds.
const SWEEP: &str = r#"trap "" INT TERM HUP
cat > /dev/null
for try in $(seq 50); do
  find /sys/fs/cgroup -depth -type d -path "/sys/fs/cgroup/*/$1*" -exec rmdir {} ";" 2> /dev/null
  [ -z "$(find /sys/fs/cgroup -mindepth 2 -maxdepth 2 -name "$1*")" ] && break
  sleep 0.1
done
rm -rf --one-file-system -- "$2""#;

#[derive(Debug)]
pub(super) struct Janitor {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Janitor {
    /// For cgroups whose names begin with `cgroups`, and a folder.
    pub(super) fn start(cgroups: &str, folder: &Path) -> Result<Self> {
        let mut command = process::command("sh", &["-c", SWEEP, "sh", cgroups]);
        command.arg(folder).stdin(Stdio::piped());
        let mut shell = command.spawn().context("cannot start sh")?;
        let pipe = shell.stdin.take();
        Ok(Self { shell, pipe })
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        self.pipe = None;
        let _ = self.shell.wait();
    }
}
