//! The kernel's list of mounts, as far as finding our own needs it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};

/// Unmounts everything at or below a directory, the newest mount first.
///
/// What is still in use disappears from view at once and ends with its last user.
pub(crate) fn unmount_below(directory: &Path) -> io::Result<usize> {
    let mountinfo = fs::read("/proc/self/mountinfo")?;
    let points = points_below(&mountinfo, directory);
    for point in points.iter().rev() {
        unmount_one(point)?;
    }
    Ok(points.len())
}

fn unmount_one(point: &Path) -> io::Result<()> {
    let result = match unmount(point, UnmountFlags::NOFOLLOW) {
        Err(rustix::io::Errno::BUSY | rustix::io::Errno::NOTCONN) => {
            unmount(point, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
        }
        other => other,
    };
    match result {
        // Someone else was faster, or a shared mount went with its peer.
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(errno) => Err(io::Error::new(
            io::Error::from(errno).kind(),
            format!("cannot unmount {}: {errno}", point.display()),
        )),
    }
}

/// Mount points at or below a directory, in the order in which they were mounted.
fn points_below(mountinfo: &[u8], directory: &Path) -> Vec<PathBuf> {
    mountinfo
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(unescape_bytes)
        .filter(|point| point.starts_with(directory))
        .collect()
}

/// A path of mountinfo, in which blanks and backslashes are written in octal.
pub(crate) fn unescape(text: &str) -> PathBuf {
    unescape_bytes(text.as_bytes())
}

fn unescape_bytes(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        if let (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..]) =
            (first, after)
        {
            bytes.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
            rest = tail;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points() {
        let mountinfo = b"1 0 0:1 / / rw - ext4 a rw\n\
            2 1 0:2 / /run/x rw - tmpfs a rw\n\
            3 1 0:2 / /run/xy rw - tmpfs a rw\n\
            4 1 0:2 / /run/x/a\\040b rw - tmpfs a rw\n\
            short\n\
            5 1 0:2 / /run/x/a\\040b/\\134c\\9 rw - tmpfs a rw\n";
        let expected = ["/run/x", "/run/x/a b", "/run/x/a b/\\c\\9"].map(PathBuf::from);
        assert_eq!(points_below(mountinfo, Path::new("/run/x")), expected);
    }
}
