//! The root that a container sees: an overlay that takes writes, over the image that takes none.
//!
//! Writes go to the run directory's own disk; where its filesystem cannot hold an upper layer they
//! go to memory. The upper directory's attributes become those of `/`, so they are copied from the
//! image. Nothing in it survives the container, which is why the overlay may skip syncing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, chmodat, chownat, utimensat,
};
use rustix::mount::{MountFlags, mount};

use crate::id_range::IdRange;
use crate::inside::{Made, Root, shown};
use crate::process::leads_to_descriptors;
use crate::run_dir::Layout;
use crate::user_namespace;
use crate::volume::Volume;

/// Where the kernel's own filesystems go, right below the root.
const KERNEL_MOUNTS: [&str; 3] = ["/proc", "/dev", "/sys"];

/// Why a root cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// The image's root is not there.
    #[error("cannot open the image's root")]
    Lower(#[source] io::Error),
    /// The directory for writes cannot be made.
    #[error("cannot prepare the container's writable layer")]
    Upper(#[source] io::Error),
    /// The kernel refuses the overlay.
    #[error("cannot mount the container's root over the image")]
    Overlay(#[source] io::Error),
    /// A volume's source cannot be used.
    #[error("cannot use volume source {path}")]
    VolumeSource {
        /// As typed.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Its filesystem cannot show other owners than it has.
    #[error("cannot show volume source {path} with its owners in a user namespace")]
    VolumeOwners {
        /// On the host.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The image has something in the way.
    #[error("cannot make {path} in the container")]
    Target {
        /// In the container.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// A link of the image leads to where something else is mounted, which the volume would change.
    #[error("volume target {path} leads to {place}, where something else is mounted")]
    TargetElsewhere {
        /// In the container, as it was given.
        path: String,
        /// In the container, links resolved.
        place: String,
    },
    /// The runtime would follow a link there, out of the root.
    #[error("{0} of the image is not a directory")]
    NotADirectory(&'static str),
    /// A link of the image leads to where descriptors of the machine are.
    #[error("working directory {0} leads into /proc")]
    WorkingDirInProc(String),
    /// The image has something in the way.
    #[error("cannot make working directory {path} in the container")]
    WorkingDir {
        /// In the container.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// A file of the image cannot be read.
    #[error("cannot read {path} of the image")]
    ImageFile {
        /// In the image.
        path: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// Mounts the overlay and opens it.
pub(crate) fn mount_overlay(dir: &Layout, lower: &Path) -> Result<Root, RootfsError> {
    let maker = dir.ids.map_or(0, IdRange::first);
    let image = Root::open(lower, maker).map_err(RootfsError::Lower)?;
    match try_overlay(dir, lower, &image) {
        Err(RootfsError::Overlay(refused)) if refused.kind() == io::ErrorKind::InvalidInput => {
            tracing::debug!(path = %dir.path.display(), "no upper layer there, using memory");
            let scratch = dir.scratch();
            let flags = MountFlags::NODEV | MountFlags::NOSUID;
            mount("holdfast", &scratch, "tmpfs", flags, c"mode=0700")
                .map_err(|errno| RootfsError::Upper(errno.into()))?;
            try_overlay(dir, lower, &image)?;
        }
        other => other?,
    }
    Root::open(&dir.rootfs(), maker).map_err(RootfsError::Lower)
}

fn try_overlay(dir: &Layout, lower: &Path, image: &Root) -> Result<(), RootfsError> {
    let scratch = dir.scratch();
    let (upper, work) = (scratch.join("upper"), scratch.join("work"));
    for path in [&upper, &work] {
        fs::create_dir_all(path).map_err(RootfsError::Upper)?;
    }
    copy_attributes(image, &upper).map_err(RootfsError::Upper)?;
    let options = format!(
        "lowerdir={},upperdir={},workdir={},volatile",
        lower.display(),
        upper.display(),
        work.display()
    );
    let options = std::ffi::CString::new(options).expect("paths hold no zero byte");
    let flags = overlay_flags(dir);
    mount(
        "overlay",
        dir.rootfs(),
        "overlay",
        flags,
        options.as_c_str(),
    )
    .map_err(|errno| RootfsError::Overlay(errno.into()))
}

/// In a user namespace of its own nobody can make device nodes, so only those of a hostile image
/// would ever work. With the machine's ids programs make their own, as in docker.
fn overlay_flags(dir: &Layout) -> MountFlags {
    match dir.ids {
        Some(_) => MountFlags::NODEV,
        None => MountFlags::empty(),
    }
}

/// Gives the upper directory the image root's owner, mode and times.
fn copy_attributes(image: &Root, upper: &Path) -> io::Result<()> {
    let stat = image.stat()?;
    let owner = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(
        CWD,
        upper,
        Some(owner.0),
        Some(owner.1),
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    chmodat(
        CWD,
        upper,
        Mode::from_raw_mode(stat.st_mode & 0o7777),
        AtFlags::empty(),
    )?;
    let time = |seconds, nanoseconds| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec.cast_signed()),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec.cast_signed()),
    };
    utimensat(CWD, upper, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

/// Refuses images that have something else where the kernel's own filesystems are mounted. Before
/// it enters the root the runtime makes links in its `/dev`, and would follow one of the image to
/// the machine's.
pub(crate) fn check_mountpoints(root: &Root) -> Result<(), RootfsError> {
    for path in KERNEL_MOUNTS {
        let kind = root.kind_of(&path[1..]);
        let kind = kind.map_err(|source| RootfsError::ImageFile { path, source })?;
        if kind.is_some_and(|kind| kind != FileType::Directory) {
            return Err(RootfsError::NotADirectory(path));
        }
    }
    Ok(())
}

/// Makes sure that every volume has a source, and inside the root something to be mounted on.
pub(crate) fn prepare_volumes(root: &Root, volumes: &[Volume]) -> Result<Vec<Volume>, RootfsError> {
    let mut ready: Vec<Volume> = Vec::with_capacity(volumes.len());
    let mut places = KERNEL_MOUNTS.map(PathBuf::from).to_vec();
    for volume in volumes {
        let failed = |source| RootfsError::VolumeSource {
            path: volume.source.clone(),
            source,
        };
        let source = fs::canonicalize(&volume.source).map_err(failed)?;
        if source.to_str().is_none() {
            return Err(failed(io::Error::other("its path is not UTF-8")));
        }
        let made = if fs::metadata(&source).map_err(failed)?.is_dir() {
            Made::Directory
        } else {
            Made::File
        };
        // What lies below a mount is made there by the runtime, not in the layer that it hides.
        if !is_hidden(&volume.target, &ready) {
            let place = create_target(root, &volume.target, made)?;
            check_place(&volume.target, &place, &places)?;
            places.push(place);
        }
        ready.push(Volume {
            source,
            ..volume.clone()
        });
    }
    Ok(ready)
}

/// Shows each source with the owners that it has outside, where the container's ids are others.
pub(crate) fn show_owners(dir: &Layout, volumes: &mut [Volume]) -> Result<(), RootfsError> {
    let Some(users) = dir.users() else {
        return Ok(());
    };
    for (number, volume) in volumes.iter_mut().enumerate() {
        let place = dir.path.join("volumes").join(number.to_string());
        show_one(&users, &volume.source, &place).map_err(|source| RootfsError::VolumeOwners {
            path: volume.source.clone(),
            source,
        })?;
        volume.source = place;
    }
    Ok(())
}

fn show_one(users: &Path, source: &Path, place: &Path) -> io::Result<()> {
    if fs::metadata(source)?.is_dir() {
        fs::create_dir(place)?;
    } else {
        fs::File::create(place)?;
    }
    user_namespace::show_with_owners(users, source, place)
}

/// A mount below another changes what that one shows: devices would be made in the caller's folder.
/// Who asks for it by name gets it, but no image does by a link.
fn check_place(target: &Path, place: &Path, mounted: &[PathBuf]) -> Result<(), RootfsError> {
    if place == target || !mounted.iter().any(|mount| place.starts_with(mount)) {
        return Ok(());
    }
    Err(RootfsError::TargetElsewhere {
        path: shown(target),
        place: shown(place),
    })
}

/// Makes something inside the root to be mounted on. Answers where that is, links resolved.
pub(crate) fn create_target(
    root: &Root,
    target: &Path,
    made: Made,
) -> Result<PathBuf, RootfsError> {
    root.create(target, made)
        .map_err(|source| RootfsError::Target {
            path: shown(target),
            source,
        })
}

/// Makes the working directory, unless a mount hides where it would be.
pub(crate) fn create_working_dir(
    root: &Root,
    cwd: &str,
    volumes: &[Volume],
) -> Result<(), RootfsError> {
    let path = Path::new(cwd);
    if is_hidden(path, volumes) {
        return Ok(());
    }
    let made = root.create(path, Made::Directory);
    let made = made.map_err(|source| RootfsError::WorkingDir {
        path: shown(path),
        source,
    })?;
    if leads_to_descriptors(&made) {
        return Err(RootfsError::WorkingDirInProc(shown(path)));
    }
    Ok(())
}

/// Whether a path lies on or below something that will be mounted over the root.
pub(crate) fn is_hidden(path: &Path, volumes: &[Volume]) -> bool {
    let fixed = KERNEL_MOUNTS.map(Path::new);
    let targets = volumes.iter().map(|volume| volume.target.as_path());
    fixed
        .into_iter()
        .chain(targets)
        .any(|target| path.starts_with(target))
}
