//! The merged tree of an image: the layers' entries applied in order, as containerd's overlay
//! extraction would leave them. Pure data, no I/O.

use crate::LayerIndex;
use crate::entry::{Extent, Mtime, Xattr};

mod attributes;
mod extraction;
mod layer;
mod memory;
mod merge;
mod resolve;

pub use merge::MergeError;

/// A file of the merged tree. Dense, from 1; the root is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeId(pub u64);

/// What an inode is. Names are with the directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeKind {
    File {
        size: u64,
        /// Which layer the extents lie in: a position in the slice that was merged.
        layer: usize,
        extents: Box<[Extent]>,
    },
    Directory {
        parent: InodeId,
    },
    Symlink {
        target: Box<[u8]>,
    },
    CharDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
}

/// Attributes of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    pub kind: NodeKind,
    /// The twelve permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Mtime,
    /// Names of this file; for a directory, 2 + its subdirectories.
    pub nlink: u32,
    /// Sorted by name.
    pub xattrs: Box<[Xattr]>,
}

/// One name in a directory.
pub type Child = (Box<[u8]>, InodeId);

/// The merged tree.
#[derive(Debug)]
pub struct Tree {
    inodes: Vec<Inode>,
    /// Children by inode, sorted by name; empty for what is not a directory.
    children: Vec<Box<[Child]>>,
}

impl Tree {
    /// Applies `layers`, lowest first.
    pub fn merge(layers: &[LayerIndex]) -> Result<Self, MergeError> {
        merge::merge(layers, memory::MAX_TREE_BYTES)
    }

    pub fn root(&self) -> InodeId {
        InodeId(1)
    }

    pub fn inode(&self, id: InodeId) -> Option<&Inode> {
        self.inodes.get(position(id)?)
    }

    /// Children of a directory, sorted by name; nothing for another kind or an unknown id.
    pub fn children(&self, id: InodeId) -> &[Child] {
        position(id)
            .and_then(|at| self.children.get(at))
            .map_or(&[], |children| children)
    }

    pub fn lookup(&self, parent: InodeId, name: &[u8]) -> Option<InodeId> {
        let children = self.children(parent);
        let at = children
            .binary_search_by(|(child, _)| child.as_ref().cmp(name))
            .ok()?;
        Some(children[at].1)
    }

    /// Number of inodes; ids run from 1 to this.
    pub fn len(&self) -> usize {
        self.inodes.len()
    }

    /// Never true: there is always a root.
    pub fn is_empty(&self) -> bool {
        self.inodes.is_empty()
    }
}

fn position(id: InodeId) -> Option<usize> {
    usize::try_from(id.0.checked_sub(1)?).ok()
}
