//! The mount itself, on the parent's side: `mount(2)` on `/dev/fuse`, the kernel's read-ahead, and
//! taking it off again.
//!
//! Done directly, as root: no helper program, nothing from the environment. The process that serves
//! the mount gets the open device and no way to mount anything. Set-id bits and device nodes stay
//! in force, because an overlay on top gives a container no more than its lower layer has.

use std::ffi::{CString, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags};

use crate::process::MountError;

const DEVICE: &str = "/dev/fuse";

/// What the kernel's table of mounts calls ours.
const TYPE: &str = "fuse.holdfast";

/// A mount answers what it is from memory, also on a busy machine.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// What the kernel reads ahead of a program, and around a page of a mapping, in KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadAhead {
    /// The kernel's default. The mount process is not told which bytes of a request a program has
    /// asked for and which were read around them: what is read around is fetched, and recorded.
    Narrow = 128,
    /// Gets the disk's own speed out of a warm cache, where the default gets 0.4 GB/s.
    Wide = 4096,
}

/// Takes the mount off when it is dropped, in whatever state its server is.
#[derive(Debug)]
pub(crate) struct MountGuard {
    mountpoint: PathBuf,
}

impl MountGuard {
    pub(crate) fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }
}

impl Drop for MountGuard {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.mountpoint) {
            tracing::warn!(path = %self.mountpoint.display(), %error, "cannot unmount");
        }
    }
}

/// Mounts a device that nobody serves yet: whoever looks at the mountpoint now waits until somebody
/// does, or the device is closed.
pub(crate) fn mount(mountpoint: &Path) -> Result<(MountGuard, File), MountError> {
    let failed = |source: io::Error| MountError::Mountpoint {
        message: format!("cannot mount on {}: {source}", mountpoint.display()),
    };
    let mountpoint = mountpoint.canonicalize().map_err(failed)?;
    if !mountpoint.is_dir() {
        return Err(failed(io::ErrorKind::NotADirectory.into()));
    }
    let device = open_device()?;
    attach(&device, &mountpoint).map_err(|error| match error {
        rustix::io::Errno::PERM => not_permitted(),
        error => failed(error.into()),
    })?;
    Ok((MountGuard { mountpoint }, device))
}

fn open_device() -> Result<File, MountError> {
    let opened = OpenOptions::new().read(true).write(true).open(DEVICE);
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => not_permitted(),
        _ => MountError::NoFuse {
            message: format!("there is no {DEVICE} on this machine"),
        },
    })
}

fn not_permitted() -> MountError {
    MountError::NotPermitted {
        message: "mounting needs root and the capability CAP_SYS_ADMIN".to_owned(),
    }
}

fn attach(device: &File, mountpoint: &Path) -> rustix::io::Result<()> {
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions",
        device.as_raw_fd()
    );
    let options = CString::new(options).map_err(|_| rustix::io::Errno::INVAL)?;
    let flags = MountFlags::RDONLY | MountFlags::NOATIME;
    rustix::mount::mount("holdfast", mountpoint, TYPE, flags, options.as_c_str())
}

/// Takes off what a mount process that is gone left at `mountpoint`. True when there was something.
/// A mount that answers, or that is not ours, stays; one that neither answers nor is dead is an
/// error (`TimedOut`), since whoever looks at the directory would hang with it.
pub fn unmount_dead(mountpoint: &Path) -> io::Result<bool> {
    let mut found = false;
    while is_ours(mountpoint)? && is_dead(mountpoint)? {
        unmount(mountpoint)?;
        found = true;
    }
    Ok(found)
}

/// Whether the topmost mount there is one of ours.
pub(crate) fn is_ours(mountpoint: &Path) -> io::Result<bool> {
    let table = fs::read("/proc/self/mountinfo")?;
    let on_top = table
        .split(|byte| *byte == b'\n')
        .map(|line| line.split(|byte| *byte == b' ').collect::<Vec<_>>())
        .rfind(|fields| {
            fields
                .get(4)
                .is_some_and(|point| unescape(point) == mountpoint)
        });
    // Optional fields end with a dash; the type is the next one.
    let kind = on_top.as_ref().and_then(|fields| {
        let dash = fields.iter().position(|field| *field == b"-")?;
        fields.get(dash + 1)
    });
    Ok(kind.is_some_and(|kind| *kind == TYPE.as_bytes()))
}

/// Asks the filesystem, in a thread: the kernel waits while anybody could still give an answer.
fn is_dead(mountpoint: &Path) -> io::Result<bool> {
    let (sender, answer) = std::sync::mpsc::channel();
    let place = mountpoint.to_owned();
    // Whoever asked may have gone when the answer comes.
    let ask = move || {
        let _gone = sender.send(rustix::fs::statfs(&place));
    };
    std::thread::Builder::new().spawn(ask)?;
    let answer = answer.recv_timeout(ANSWERS_WITHIN).map_err(|_| {
        let problem = "an image is mounted there whose process does not answer";
        io::Error::new(io::ErrorKind::TimedOut, problem)
    })?;
    Ok(matches!(
        answer,
        Err(rustix::io::Errno::NOTCONN | rustix::io::Errno::CONNABORTED)
    ))
}

/// A path of mountinfo, in which blanks and backslashes are written in octal.
fn unescape(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let octal = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        let (byte, length) = match octal {
            Some(byte) if *first == b'\\' => (byte, 4),
            _ => (*first, 1),
        };
        bytes.push(byte);
        rest = &rest[length..];
    }
    OsString::from_vec(bytes).into()
}

/// The kernel's settings of one mount.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    read_ahead: PathBuf,
}

impl Settings {
    /// Blocks until the mount answers.
    pub(crate) fn of(mountpoint: &Path) -> io::Result<Self> {
        let device = fs::metadata(mountpoint)?.dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let read_ahead = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb").into();
        Ok(Self { read_ahead })
    }

    /// Counts for files that are opened from here on. Failing costs speed only.
    pub(crate) fn read_ahead(&self, width: ReadAhead) {
        let kib = width as u32;
        if let Err(error) = fs::write(&self.read_ahead, kib.to_string()) {
            tracing::warn!(%error, kib, "cannot set the mount's read-ahead");
        }
    }
}

/// Takes the mount at `mountpoint` off, at once and also while it is in use: those who use it keep
/// what they have open until the mount process ends. Nothing mounted there is no error.
pub fn unmount(mountpoint: &Path) -> io::Result<()> {
    let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
    match rustix::mount::unmount(mountpoint, flags) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_table_are_read_as_they_are() {
        for (written, meant) in [
            (r"/a/b", "/a/b"),
            (r"/with\040blank\134", r"/with blank\"),
            (r"/ends\04", r"/ends\04"),
            (r"/no\x41octal", r"/no\x41octal"),
        ] {
            assert_eq!(unescape(written.as_bytes()), Path::new(meant), "{written}");
        }
    }

    #[test]
    fn what_is_not_ours_stays() {
        for place in ["/proc", "/", "/nowhere at all"] {
            assert!(!unmount_dead(Path::new(place)).unwrap(), "{place}");
        }
    }
}
