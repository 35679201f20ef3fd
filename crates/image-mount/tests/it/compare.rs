//! Two directory trees side by side, as the kernel shows them: everything that a program can see
//! of a file. Knows nothing of images, so any two trees can be compared.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What a program can see of one file. Directories have neither size nor link count: each file
/// system has its own idea of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) kind: &'static str,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) size: u64,
    pub(crate) links: u64,
    /// The first name of a file that has several.
    pub(crate) first_name: Option<PathBuf>,
    pub(crate) device: u64,
    /// Nothing where nobody says it: the time at which something was unpacked.
    pub(crate) modified: Option<(i64, i64)>,
    pub(crate) target: Option<PathBuf>,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) content: Option<blake3::Hash>,
}

pub(crate) type Snapshot = BTreeMap<PathBuf, Node>;

/// Everything below `root`, and `root` itself under the empty path.
pub(crate) fn snapshot(root: &Path) -> io::Result<Snapshot> {
    walk(root, |_| false)
}

/// The same of something unpacked between two times: what nothing says the time of has no time. The
/// kernel gives some files a finer time than others, so that their order is not that of events.
pub(crate) fn snapshot_of_unpacked(root: &Path, since: Time, until: Time) -> io::Result<Snapshot> {
    let of_now = since.0 - 1..=until.0 + 1;
    let mut snapshot = snapshot_of_overlay(root)?;
    for node in snapshot.values_mut() {
        node.modified = node.modified.filter(|(second, _)| !of_now.contains(second));
    }
    Ok(snapshot)
}

/// Seconds and nanoseconds.
pub(crate) type Time = (i64, i64);

/// The time that a file gets which is written now, at `path`.
pub(crate) fn now(path: &Path) -> Time {
    fs::write(path, "").unwrap();
    let metadata = fs::metadata(path).unwrap();
    (metadata.mtime(), metadata.mtime_nsec())
}

/// The same of an overlay. In a directory that only one layer has, the kernel lists whiteouts that
/// hide nothing, and says that they are not there when they are looked at.
pub(crate) fn snapshot_of_overlay(root: &Path) -> io::Result<Snapshot> {
    walk(root, |error| error.kind() == io::ErrorKind::NotFound)
}

fn walk(root: &Path, is_no_file: impl Fn(&io::Error) -> bool) -> io::Result<Snapshot> {
    let mut snapshot = Snapshot::new();
    let mut inodes = BTreeMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(relative) = pending.pop() {
        let path = root.join(&relative);
        let (inode, node) = match node(&path) {
            Err(error) if is_no_file(&error) => continue,
            node => node?,
        };
        if node.links > 1 {
            inodes.insert(relative.clone(), inode);
        }
        if node.kind == "directory" {
            for entry in fs::read_dir(&path)? {
                pending.push(relative.join(entry?.file_name()));
            }
        }
        snapshot.insert(relative, node);
    }
    let mut first_names = BTreeMap::new();
    for (path, inode) in inodes {
        let first = first_names.entry(inode).or_insert_with(|| path.clone());
        let node = snapshot.get_mut(&path).expect("seen");
        node.first_name = Some(first.clone());
    }
    Ok(snapshot)
}

/// Where two trees differ, a line each; nothing when they are the same.
pub(crate) fn differences(expected: &Snapshot, found: &Snapshot) -> Vec<String> {
    let paths = expected.keys().chain(found.keys());
    let paths: std::collections::BTreeSet<_> = paths.collect();
    paths
        .into_iter()
        .filter_map(|path| match (expected.get(path), found.get(path)) {
            (Some(expected), Some(found)) if agree(expected, found) => None,
            (expected, found) => Some(format!(
                "/{}:\n  expected {expected:?}\n  found    {found:?}",
                path.display()
            )),
        })
        .collect()
}

fn agree(expected: &Node, found: &Node) -> bool {
    let modified = expected.modified.and(found.modified);
    *expected
        == Node {
            modified,
            ..found.clone()
        }
}

/// A file, and what tells it from others.
fn node(path: &Path) -> io::Result<((u64, u64), Node)> {
    let metadata = path.symlink_metadata()?;
    let kind = metadata.file_type();
    let (name, has_size) = match kind {
        kind if kind.is_dir() => ("directory", false),
        kind if kind.is_file() => ("file", true),
        kind if kind.is_symlink() => ("symlink", true),
        kind if kind.is_char_device() => ("character device", false),
        kind if kind.is_block_device() => ("block device", false),
        kind if kind.is_fifo() => ("fifo", false),
        _ => ("something else", false),
    };
    let is_device = name.ends_with("device");
    let is_directory = name == "directory";
    let node = Node {
        kind: name,
        mode: metadata.mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
        size: if has_size { metadata.size() } else { 0 },
        links: if is_directory { 0 } else { metadata.nlink() },
        device: if is_device { metadata.rdev() } else { 0 },
        modified: Some((metadata.mtime(), metadata.mtime_nsec())),
        target: (name == "symlink")
            .then(|| fs::read_link(path))
            .transpose()?,
        xattrs: xattrs(path)?,
        content: (name == "file").then(|| content(path)).transpose()?,
        first_name: None,
    };
    Ok(((metadata.dev(), metadata.ino()), node))
}

fn content(path: &Path) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    io::copy(&mut fs::File::open(path)?, &mut hasher)?;
    Ok(hasher.finalize())
}

/// Longest list or value of attributes that Linux gives.
const MAX_XATTR: usize = 64 * 1024;

fn xattrs(path: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut names = vec![0; MAX_XATTR];
    let length = rustix::fs::llistxattr(path, &mut names)?;
    let names = names[..length].split(|byte| *byte == 0);
    names
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; MAX_XATTR];
            let key = std::ffi::OsStr::from_bytes(name);
            let length = rustix::fs::lgetxattr(path, key, &mut value)?;
            value.truncate(length);
            Ok((name.to_vec(), value))
        })
        .collect()
}
