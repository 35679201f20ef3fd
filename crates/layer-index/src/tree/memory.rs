//! What a tree takes of memory, counted while it grows.
//!
//! A layer of a few megabytes can describe a tree of many gigabytes: attributes that an index
//! stores once for all that have them, paths that share all but their ends, parents that no entry
//! names. What grows with the input is counted, near enough to bound the rest. What is replaced
//! stays counted.

use super::{Inode, NodeKind};
use crate::entry::{EntryKind, Xattr};

/// Most that one tree may take. The largest public images have about two million files, which come
/// to less than a gibibyte; a layer and the tree over it are held at once, in a process that has
/// eight.
pub(super) const MAX_TREE_BYTES: usize = 2 << 30;

/// One node with its maps and its number.
pub(super) const NODE_BYTES: usize = 384;

/// What a directory's children begin with: a map has room for eleven at once.
pub(super) const CHILDREN_BYTES: usize = 384;

/// An allocation of its own, beside what it holds.
const ALLOCATION_BYTES: usize = 32;

/// What an entry of a layer brings beside its node and its name.
pub(super) fn of_entry(kind: &EntryKind, xattrs: &[Xattr]) -> usize {
    let own = match kind {
        EntryKind::File { extents, .. } => size_of_val(extents.as_slice()),
        EntryKind::Symlink { target } => target.len(),
        _ => 0,
    };
    own + of_xattrs(xattrs)
}

/// An inode of the merged tree.
pub(super) fn of_inode(inode: &Inode) -> usize {
    let own = match &inode.kind {
        NodeKind::File { extents, .. } => size_of_val(&**extents),
        NodeKind::Symlink { target } => target.len(),
        NodeKind::Directory { .. } => CHILDREN_BYTES,
        _ => 0,
    };
    NODE_BYTES + own + of_xattrs(&inode.xattrs)
}

/// A name in a directory.
pub(super) fn of_name(name: &[u8]) -> usize {
    ALLOCATION_BYTES + name.len()
}

pub(super) fn of_xattrs(xattrs: &[Xattr]) -> usize {
    let one = |(name, value): &Xattr| name.len() + value.len() + 2 * ALLOCATION_BYTES;
    xattrs.iter().map(one).sum()
}
