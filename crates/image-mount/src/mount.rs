//! The mount itself: `mount(2)` on `/dev/fuse`, the kernel's read-ahead, and taking it off again.
//!
//! Done directly, as root: no helper program, nothing from the environment. Set-id bits and device
//! nodes stay in force, because an overlay on top gives a container no more than its lower layer
//! has.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use fuser::{Config, Session, SessionACL};
use rustix::mount::{MountFlags, UnmountFlags};

use crate::filesystem::Adaptor;

const DEVICE: &str = "/dev/fuse";

/// What the kernel reads ahead of a program, in KiB. Its default of 128 gets 0.4 GB/s out of a
/// warm cache where this gets the disk's own speed, and a span is 256 KiB anyway.
const READ_AHEAD_KIB: u32 = 4096;

/// Threads that read requests. More than four gained nothing in measurements, and one leaves a
/// core idle.
const MAX_THREADS: usize = 4;
const MIN_THREADS: usize = 2;

/// Why an image could not be mounted, by what a person would do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountFailure {
    #[error("there is no {DEVICE} on this machine")]
    NoDevice,
    #[error("mounting needs root and the capability CAP_SYS_ADMIN")]
    NotPermitted,
    #[error("cannot mount on {path}")]
    Mountpoint {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("the kernel's FUSE does not answer as it should")]
    Handshake(#[source] io::Error),
}

/// A mounted filesystem whose requests nobody answers yet. Unmounts when it is dropped.
pub(crate) struct Mounted {
    session: Option<Session<Adaptor>>,
    guard: MountGuard,
}

/// Takes the mount off when it is dropped.
#[derive(Debug)]
pub(crate) struct MountGuard {
    mountpoint: std::path::PathBuf,
}

impl Drop for MountGuard {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.mountpoint) {
            tracing::warn!(path = %self.mountpoint.display(), %error, "cannot unmount");
        }
    }
}

/// Mounts and agrees with the kernel on what both can do.
pub(crate) fn mount(adaptor: Adaptor, mountpoint: &Path) -> Result<Mounted, MountFailure> {
    let failed = |source| MountFailure::Mountpoint {
        path: mountpoint.display().to_string(),
        source,
    };
    let mountpoint = mountpoint.canonicalize().map_err(failed)?;
    if !mountpoint.is_dir() {
        return Err(failed(io::ErrorKind::NotADirectory.into()));
    }
    let device = open_device()?;
    attach(&device, &mountpoint).map_err(|error| match error {
        rustix::io::Errno::PERM => MountFailure::NotPermitted,
        error => failed(error.into()),
    })?;
    let guard = MountGuard { mountpoint };
    let mut config = Config::default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    config.n_threads = Some(cores.clamp(MIN_THREADS, MAX_THREADS));
    config.clone_fd = true;
    let device = OwnedFd::from(device);
    let session = Session::from_fd(adaptor, device, SessionACL::All, config)
        .map_err(MountFailure::Handshake)?;
    Ok(Mounted {
        session: Some(session),
        guard,
    })
}

fn open_device() -> Result<File, MountFailure> {
    let opened = OpenOptions::new().read(true).write(true).open(DEVICE);
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => MountFailure::NotPermitted,
        _ => MountFailure::NoDevice,
    })
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

impl Mounted {
    /// Answers requests on threads of its own until the mount is gone. `ended` hears of that.
    pub(crate) fn serve(
        mut self,
        ended: impl FnOnce(io::Result<()>) + Send + 'static,
    ) -> MountGuard {
        let session = self.session.take();
        let run = move || ended(session.map_or(Ok(()), Session::run));
        if let Err(error) = std::thread::Builder::new()
            .name("fuse".to_owned())
            .spawn(run)
        {
            // The session is gone with the closure; requests fail at once.
            tracing::error!(%error, "cannot start a thread for the mount");
        }
        self.guard
    }
}

impl MountGuard {
    pub(crate) fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// Takes the mount off now.
    pub(crate) fn unmount(self) {
        drop(self);
    }
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
