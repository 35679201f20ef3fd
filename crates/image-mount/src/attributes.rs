//! From an inode of the merged tree to what the kernel is told about it. Pure.
//!
//! With an id shift, every owner that the kernel learns is shifted: of files, inside access control
//! lists, and the root id of file capabilities.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo};
use layer_index::{Inode, InodeId, Mtime, NodeKind};

use crate::request::IdShift;

/// The block size of everything: the page size of the machines we run on.
pub(crate) const BLOCK_SIZE: u32 = 4096;

/// What a directory reports as its size, whatever is in it.
const DIRECTORY_SIZE: u64 = 4096;

/// An owner that the shift cannot hold is nobody's, as it is to a user namespace.
const NOBODY: u32 = 65534;

/// The file system's attributes that the kernel would obey as orders to overlay, not as data.
const HIDDEN: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

const CAPABILITY: &[u8] = b"security.capability";
const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];

pub(crate) fn file_attr(id: InodeId, inode: &Inode, shift: Option<IdShift>) -> FileAttr {
    let (size, rdev) = match &inode.kind {
        NodeKind::File { size, .. } => (*size, 0),
        NodeKind::Directory { .. } => (DIRECTORY_SIZE, 0),
        NodeKind::Symlink { target } => (target.len() as u64, 0),
        NodeKind::CharDevice { major, minor } | NodeKind::BlockDevice { major, minor } => {
            (0, device_number(*major, *minor))
        }
        NodeKind::Fifo => (0, 0),
    };
    let time = system_time(inode.mtime);
    FileAttr {
        ino: INodeNo(id.0),
        size,
        blocks: size.div_ceil(512),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: UNIX_EPOCH,
        kind: file_type(&inode.kind),
        perm: u16::try_from(inode.mode & 0o7777).unwrap_or(0),
        nlink: inode.nlink,
        uid: shifted(inode.uid, shift),
        gid: shifted(inode.gid, shift),
        rdev,
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

pub(crate) fn file_type(kind: &NodeKind) -> FileType {
    match kind {
        NodeKind::File { .. } => FileType::RegularFile,
        NodeKind::Directory { .. } => FileType::Directory,
        NodeKind::Symlink { .. } => FileType::Symlink,
        NodeKind::CharDevice { .. } => FileType::CharDevice,
        NodeKind::BlockDevice { .. } => FileType::BlockDevice,
        NodeKind::Fifo => FileType::NamedPipe,
    }
}

/// The number as the kernel takes it: 12 bits of major number, 20 of minor, the minor's upper part
/// above. What does not fit is cut off, as `mknod` does.
fn device_number(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xf_ff00) << 12)
}

fn system_time(mtime: Mtime) -> SystemTime {
    let seconds = Duration::from_secs(mtime.seconds.unsigned_abs());
    let whole = if mtime.seconds < 0 {
        UNIX_EPOCH.checked_sub(seconds)
    } else {
        UNIX_EPOCH.checked_add(seconds)
    };
    let nanoseconds = Duration::from_nanos(u64::from(mtime.nanoseconds));
    whole
        .and_then(|time| time.checked_add(nanoseconds))
        .unwrap_or(UNIX_EPOCH)
}

fn shifted(id: u32, shift: Option<IdShift>) -> u32 {
    let Some(shift) = shift else { return id };
    let inside = if id < shift.count {
        id
    } else {
        NOBODY.min(shift.count.saturating_sub(1))
    };
    shift.base.saturating_add(inside)
}

fn is_hidden(name: &[u8]) -> bool {
    HIDDEN.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether access control lists have to be enforced.
pub(crate) fn has_acl(inode: &Inode) -> bool {
    inode
        .xattrs
        .iter()
        .any(|(name, _)| ACLS.contains(&name.as_ref()))
}

/// Whether there is an attribute that is not hidden.
pub(crate) fn has_xattr(inode: &Inode) -> bool {
    inode.xattrs.iter().any(|(name, _)| !is_hidden(name))
}

/// The names of the attributes, each ended by a zero, as `listxattr` wants them.
pub(crate) fn xattr_names(inode: &Inode) -> Vec<u8> {
    let visible = inode.xattrs.iter().filter(|(name, _)| !is_hidden(name));
    visible
        .flat_map(|(name, _)| name.iter().copied().chain([0]))
        .collect()
}

/// The value of an attribute.
pub(crate) fn xattr_value<'a>(
    inode: &'a Inode,
    name: &[u8],
    shift: Option<IdShift>,
) -> Option<Cow<'a, [u8]>> {
    if is_hidden(name) {
        return None;
    }
    let at = inode
        .xattrs
        .binary_search_by(|(own, _)| own.as_ref().cmp(name))
        .ok()?;
    let value = inode.xattrs[at].1.as_ref();
    let Some(shift) = shift else {
        return Some(value.into());
    };
    let translated = match name {
        CAPABILITY => shifted_capability(value, shift),
        name if ACLS.contains(&name) => shifted_acl(value, shift),
        _ => None,
    };
    Some(translated.map_or(Cow::Borrowed(value), Cow::Owned))
}

/// Size of a capability attribute of revision 2, which belongs to the machine's root.
const CAPABILITY_V2: usize = 20;
/// And of revision 3, which ends with the id of the root that it belongs to.
const CAPABILITY_V3: usize = 24;
const REVISION_MASK: u32 = 0xff00_0000;
const REVISION_2: u32 = 0x0200_0000;
const REVISION_3: u32 = 0x0300_0000;

/// Capabilities as a user namespace takes them: bound to its root.
fn shifted_capability(value: &[u8], shift: IdShift) -> Option<Vec<u8>> {
    let magic = word(value, 0)?;
    let root = match (magic & REVISION_MASK, value.len()) {
        (REVISION_2, CAPABILITY_V2) => 0,
        (REVISION_3, CAPABILITY_V3) => word(value, CAPABILITY_V2)?,
        _ => return None,
    };
    let mut shifted_value = ((magic & !REVISION_MASK) | REVISION_3)
        .to_le_bytes()
        .to_vec();
    shifted_value.extend(&value[4..CAPABILITY_V2]);
    shifted_value.extend(shifted(root, Some(shift)).to_le_bytes());
    Some(shifted_value)
}

const ACL_HEADER: usize = 4;
const ACL_ENTRY: usize = 8;
const ACL_USER: u16 = 0x02;
const ACL_GROUP: u16 = 0x08;

/// An access control list with the ids of its named users and groups shifted.
fn shifted_acl(value: &[u8], shift: IdShift) -> Option<Vec<u8>> {
    let (header, entries) = value.split_at_checked(ACL_HEADER)?;
    let mut shifted_value = header.to_vec();
    for entry in entries.chunks(ACL_ENTRY) {
        let tag = u16::from_le_bytes([*entry.first()?, *entry.get(1)?]);
        let id = word(entry, 4)?;
        let id = if tag == ACL_USER || tag == ACL_GROUP {
            shifted(id, Some(shift))
        } else {
            id
        };
        shifted_value.extend(&entry[..4]);
        shifted_value.extend(id.to_le_bytes());
    }
    Some(shifted_value)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inode(kind: NodeKind, xattrs: &[(&[u8], &[u8])]) -> Inode {
        Inode {
            kind,
            mode: 0o4755,
            uid: 3,
            gid: 100_000,
            mtime: Mtime {
                seconds: -1,
                nanoseconds: 250_000_000,
            },
            nlink: 2,
            xattrs: xattrs
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
        }
    }

    const SHIFT: IdShift = IdShift {
        base: 1_000_000,
        count: 65_536,
    };

    #[test]
    fn attributes_of_every_kind() {
        let cases = [
            (NodeKind::Fifo, FileType::NamedPipe, 0, 0),
            (
                NodeKind::Symlink {
                    target: (*b"abc").into(),
                },
                FileType::Symlink,
                3,
                0,
            ),
            (
                NodeKind::Directory { parent: InodeId(1) },
                FileType::Directory,
                4096,
                0,
            ),
            (
                NodeKind::CharDevice { major: 1, minor: 3 },
                FileType::CharDevice,
                0,
                0x103,
            ),
            (
                NodeKind::BlockDevice {
                    major: 259,
                    minor: 70_000,
                },
                FileType::BlockDevice,
                0,
                0x1111_0370,
            ),
            (
                NodeKind::File {
                    size: 1 << 40,
                    layer: 0,
                    extents: Box::default(),
                },
                FileType::RegularFile,
                1 << 40,
                0,
            ),
        ];
        for (kind, file_type, size, rdev) in cases {
            let attr = file_attr(InodeId(7), &inode(kind.clone(), &[]), None);
            assert_eq!(
                (attr.kind, attr.size, attr.rdev),
                (file_type, size, rdev),
                "{kind:?}"
            );
            assert_eq!(
                (attr.perm, attr.uid, attr.gid, attr.nlink),
                (0o4755, 3, 100_000, 2)
            );
            assert_eq!(attr.mtime, UNIX_EPOCH - Duration::from_millis(750));
            let attr = file_attr(InodeId(7), &inode(kind, &[]), Some(SHIFT));
            assert_eq!((attr.uid, attr.gid), (1_000_003, 1_065_534));
        }
    }

    #[test]
    fn times_at_the_edges_do_not_panic() {
        for seconds in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX] {
            let _ = system_time(Mtime {
                seconds,
                nanoseconds: 999_999_999,
            });
        }
    }

    #[test]
    fn what_overlay_would_obey_is_hidden() {
        let node = inode(
            NodeKind::Fifo,
            &[
                (b"trusted.overlay.opaque", b"y"),
                (b"trusted.overlayx", b"1"),
                (b"user.overlay.redirect", b"/"),
                (b"user.x", b"2"),
            ],
        );
        assert_eq!(xattr_names(&node), b"trusted.overlayx\0user.x\0");
        assert_eq!(xattr_value(&node, b"trusted.overlay.opaque", None), None);
        assert_eq!(xattr_value(&node, b"user.overlay.redirect", None), None);
        assert_eq!(
            xattr_value(&node, b"user.x", None).as_deref(),
            Some(&b"2"[..])
        );
        assert_eq!(xattr_value(&node, b"user.y", None), None);
    }

    #[test]
    fn capabilities_belong_to_the_shifted_root() {
        let v2 = [&[1, 0, 0, 2][..], &[9; 16]].concat();
        let v3 = [&[1, 0, 0, 3][..], &[9; 16], &5u32.to_le_bytes()].concat();
        let shifted = |root: u32| [&[1, 0, 0, 3][..], &[9; 16], &root.to_le_bytes()].concat();
        let cases: &[(&[u8], Vec<u8>)] = &[
            (&v2, shifted(1_000_000)),
            (&v3, shifted(1_000_005)),
            (&v2[..19], v2[..19].to_vec()),
            (b"", Vec::new()),
        ];
        for (value, expected) in cases {
            let node = inode(NodeKind::Fifo, &[(CAPABILITY, value)]);
            assert_eq!(
                xattr_value(&node, CAPABILITY, Some(SHIFT)).as_deref(),
                Some(&expected[..])
            );
            assert_eq!(
                xattr_value(&node, CAPABILITY, None).as_deref(),
                Some(*value)
            );
        }
    }

    #[test]
    fn access_control_lists_name_shifted_ids() {
        let entry =
            |tag: u16, id: u32| [&tag.to_le_bytes()[..], &[7, 0], &id.to_le_bytes()].concat();
        let none = u32::MAX;
        let list = |user, group| {
            let entries = [
                entry(1, none),
                entry(2, user),
                entry(8, group),
                entry(32, none),
            ];
            [&[2, 0, 0, 0][..], &entries.concat()].concat()
        };
        let node = inode(NodeKind::Fifo, &[(ACLS[0], &list(10, 20))]);
        let value = xattr_value(&node, ACLS[0], Some(SHIFT));
        assert_eq!(value.as_deref(), Some(&list(1_000_010, 1_000_020)[..]));
        assert!(has_acl(&node));
        let damaged = inode(NodeKind::Fifo, &[(ACLS[0], &[2, 0, 0, 0, 1])]);
        assert_eq!(
            xattr_value(&damaged, ACLS[0], Some(SHIFT)).as_deref(),
            Some(&[2, 0, 0, 0, 1][..])
        );
    }
}
