//! What the demo insists on after each step.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::holdfast::{Answer, Timing};
use crate::lab::Login;

/// A lazy start fetches less than half of this image: an interpreter and one library.
const LAZY_PERCENT: u64 = 50;

/// The cold run was lazy, and its waterfall has phases.
pub(super) fn lazy(timing: &Timing) -> Result<()> {
    if !timing.cold {
        bail!("the run after pruning the cache does not call itself cold");
    }
    if timing.phases.is_empty() {
        bail!("the waterfall is empty");
    }
    let (fetched, total) = (timing.bytes_fetched, timing.bytes_total);
    if fetched == 0 || fetched * 100 > total * LAZY_PERCENT {
        bail!("the lazy run fetched {fetched} of {total} bytes");
    }
    Ok(())
}

/// A refused start has the right exit code, runs nothing, and says what to do about it.
pub(super) fn refused(answer: &Answer, code: i32, image: &str) -> Result<()> {
    if answer.status.code() != Some(code) {
        bail!(
            "a refused run ended with {} instead of {code}",
            answer.status
        );
    }
    if !answer.output.is_empty() {
        bail!("a refused run printed {:?}", answer.output);
    }
    let registry = image.split('/').next().unwrap_or(image);
    for expected in [registry, "holdfast login"] {
        if !answer.errors.contains(expected) {
            bail!("the error does not mention {expected}: {}", answer.errors);
        }
    }
    Ok(())
}

/// No file below `folder` holds a password, as it is or in base64 with its user name.
pub(super) fn no_secret_in(folder: &Path, logins: &[Login]) -> Result<()> {
    let needles: Vec<&[u8]> = logins
        .iter()
        .map(|login| login.password.as_bytes())
        .collect();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).context("cannot list the data directory")? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if entry.file_type()?.is_file() && entry.metadata()?.len() < MAX_SCANNED_BYTES {
                let bytes = fs::read(entry.path())?;
                if needles.iter().any(|needle| contains(&bytes, needle)) {
                    bail!("{} holds a password", entry.path().display());
                }
            }
        }
    }
    Ok(())
}

/// Databases, indexes and transcripts are smaller; larger files are cached layers.
const MAX_SCANNED_BYTES: u64 = 32 << 20;

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

/// No mount is left below the data directory, where running containers are.
pub(super) fn no_mount_below(folder: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read the mounts")?;
    let folder = folder.to_string_lossy();
    match mounts.lines().find(|line| line.contains(folder.as_ref())) {
        Some(mount) => bail!("a mount is left behind: {mount}"),
        None => Ok(()),
    }
}
