//! The first oracle of the exactness tests: layers unpacked by GNU tar, their whiteouts translated
//! here, and stacked by the kernel. Nothing of ours takes part.
//!
//! Where containerd unpacks by other rules than tar, the rules are applied to what tar left: the
//! root is not the archive's, times outside of its clock are the beginning of time, `trusted.*` is
//! dropped, and a directory that no member names looks like the one below.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, XattrFlags, openat2,
};
use tempfile::TempDir;

use crate::compare::{
    Snapshot, Time, differences, now, snapshot, snapshot_of_overlay, snapshot_of_unpacked,
};
use crate::support::{Unmount, scratch, shell};

/// The last time that containerd can set.
const LAST: Time = (9_223_372_036, 854_775_807);

pub(crate) struct Oracle {
    pub(crate) root: PathBuf,
    since: Time,
    until: Time,
    _guard: Unmount,
    _directory: TempDir,
}

impl Oracle {
    /// Archives, lowest first; they may be compressed: `tar` sees by itself.
    pub(crate) fn new(archives: &[Vec<u8>]) -> Self {
        let directory = scratch();
        let at = |name: &str| directory.path().join(name);
        let (root, clock) = (at("root"), at("clock"));
        fs::create_dir(&root).unwrap();
        let since = now(&clock);
        // The topmost first, as the kernel takes them. It takes two at least.
        let mut lower = vec![at("empty")];
        fs::create_dir(&lower[0]).unwrap();
        for (number, archive) in archives.iter().enumerate() {
            let layer = at(&format!("layer-{number}"));
            let before = now(&clock);
            unpack(archive, &at("tar"), &layer);
            look_like_below(&layer, &lower, before);
            finish(&layer);
            lower.insert(0, layer);
        }
        let until = now(&clock);
        let names: Vec<_> = lower.iter().map(|path| path.to_str().unwrap()).collect();
        let options = format!("ro,lowerdir={}", names.join(":"));
        let guard = Unmount(root.clone());
        shell(
            directory.path(),
            &format!("mount -t overlay oracle -o '{options}' root"),
        );
        Self {
            root,
            since,
            until,
            _guard: guard,
            _directory: directory,
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        snapshot_of_unpacked(&self.root, self.since, self.until).unwrap()
    }
}

fn unpack(archive: &[u8], file: &Path, layer: &Path) {
    fs::create_dir(layer).unwrap();
    fs::write(file, archive).unwrap();
    let output = Command::new("tar")
        .args([
            "--extract",
            "--preserve-permissions",
            "--same-owner",
            "--numeric-owner",
        ])
        .args([
            "--xattrs",
            "--xattrs-include=*",
            "--xattrs-exclude=trusted.*",
        ])
        .args(["--delay-directory-restore", "--file"])
        .arg(file)
        .current_dir(layer)
        .env("LC_ALL", "C")
        .output()
        .expect("tar starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// Every path in a tree, a directory before what is in it.
fn paths(root: &Path) -> Vec<PathBuf> {
    let mut paths = vec![root.to_owned()];
    let mut at = 0;
    while let Some(path) = paths.get(at).cloned() {
        at += 1;
        if path.symlink_metadata().unwrap().is_dir() {
            let children = fs::read_dir(&path).unwrap();
            paths.extend(children.map(|child| child.unwrap().path()));
        }
    }
    paths
}

/// A directory that no member names was made just now.
fn look_like_below(layer: &Path, lower: &[PathBuf], before: Time) {
    for path in paths(layer).into_iter().skip(1) {
        let metadata = path.symlink_metadata().unwrap();
        let is_implied = metadata.is_dir() && modified(&metadata) >= before;
        if !is_implied || metadata.mtime() > before.0 + 1000 {
            continue;
        }
        let relative = path.strip_prefix(layer).unwrap();
        let Some(below) = lower.iter().find_map(|layer| inside(layer, relative)) else {
            continue;
        };
        let model = below.metadata().unwrap();
        if model.is_dir() {
            lchown(&path, Some(model.uid()), Some(model.gid())).unwrap();
            fs::set_permissions(&path, model.permissions()).unwrap();
            let below = format!("/proc/self/fd/{}", below.as_raw_fd());
            copy_xattrs(Path::new(&below), &path);
        }
    }
}

/// What a path leads to inside of a layer, whose root no symbolic link can leave.
fn inside(layer: &Path, relative: &Path) -> Option<fs::File> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let layer = fs::File::open(layer).unwrap();
    let found = openat2(layer, relative, flags, Mode::empty(), ResolveFlags::IN_ROOT);
    found.ok().map(fs::File::from)
}

fn copy_xattrs(from: &Path, to: &Path) {
    let mut names = vec![0; 64 * 1024];
    let length = rustix::fs::listxattr(from, &mut names).unwrap();
    let names = names[..length].split(|byte| *byte == 0);
    for name in names.filter(|name| !name.is_empty() && !name.starts_with(b"trusted.")) {
        let (name, mut value) = (OsStr::from_bytes(name), vec![0; 64 * 1024]);
        let length = rustix::fs::getxattr(from, name, &mut value).unwrap();
        rustix::fs::setxattr(to, name, &value[..length], XattrFlags::empty()).unwrap();
    }
}

/// Whiteouts as overlay wants them, and containerd's rules. Directories keep their times.
fn finish(layer: &Path) {
    for path in paths(layer).into_iter().rev() {
        let metadata = path.symlink_metadata().unwrap();
        let time = modified(&metadata);
        if time < (0, 0) || time > LAST {
            set_modified(&path, (0, 0));
        }
        let name = path.file_name().unwrap();
        if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
            translate(&path, OsStr::from_bytes(hidden));
        }
    }
    lchown(layer, Some(0), Some(0)).unwrap();
    fs::set_permissions(layer, fs::Permissions::from_mode(0o755)).unwrap();
}

fn translate(marker: &Path, hidden: &OsStr) {
    let parent = marker.parent().unwrap();
    let time = modified(&parent.symlink_metadata().unwrap());
    fs::remove_file(marker).unwrap();
    let target = parent.join(hidden);
    if hidden == ".wh..opq" {
        let (name, flags) = ("trusted.overlay.opaque", XattrFlags::empty());
        rustix::fs::setxattr(parent, name, b"y", flags).unwrap();
    } else if target.symlink_metadata().is_err() {
        rustix::fs::mknodat(CWD, &target, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    }
    set_modified(parent, time);
}

fn modified(metadata: &fs::Metadata) -> Time {
    (metadata.mtime(), metadata.mtime_nsec())
}

fn set_modified(path: &Path, (tv_sec, tv_nsec): Time) {
    let time = Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Fails with a line for every path that is not the same in both.
#[track_caller]
pub(crate) fn check_same(oracle: &Oracle, mount: &Path) {
    check_snapshot(&oracle.snapshot(), mount);
}

#[track_caller]
pub(crate) fn check_snapshot(expected: &Snapshot, mount: &Path) {
    let found = snapshot(mount).unwrap();
    let differences = differences(expected, &found);
    assert!(
        differences.is_empty(),
        "{} differ\n{}",
        differences.len(),
        differences.join("\n")
    );
}

/// How many paths the oracle has.
pub(crate) fn count(oracle: &Oracle) -> usize {
    snapshot_of_overlay(&oracle.root).unwrap().len()
}
