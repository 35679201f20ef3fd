//! The mount itself, on the parent's side: `mount(2)` on `/dev/fuse`, the kernel's read-ahead, and
//! taking it off again.
//!
//! Done directly, as root: no helper program, nothing from the environment. The process that serves
//! the mount gets the open device and no way to mount anything. Set-id bits and device nodes stay
//! in force, because an overlay on top gives a container no more than its lower layer has.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};

use crate::process::MountError;

const DEVICE: &str = "/dev/fuse";

/// What the kernel reads ahead of a program, in KiB. Its default of 128 gets 0.4 GB/s out of a
/// warm cache where this gets the disk's own speed, and a span is 256 KiB anyway.
const READ_AHEAD_KIB: u32 = 4096;

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
    rustix::mount::mount(
        "holdfast",
        mountpoint,
        "fuse.holdfast",
        flags,
        options.as_c_str(),
    )
}

/// Widens the kernel's read-ahead for this mount. Blocks until the mount answers.
pub(crate) fn widen_read_ahead(mountpoint: &Path) -> io::Result<()> {
    let device = fs::metadata(mountpoint)?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let setting = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    fs::write(setting, READ_AHEAD_KIB.to_string())
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
