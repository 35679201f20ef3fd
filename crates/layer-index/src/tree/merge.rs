//! Stacks layers as overlayfs does.
//!
//! A layer's directory hides nothing by itself: it takes over the attributes and merges with the
//! directory below, unless it is opaque. Everything else hides what has its name below. A
//! whiteout only hides. Inodes keep the link count that they have in their own layer, as
//! overlayfs shows it.

use std::collections::{BTreeMap, HashMap};

use super::attributes::{Attributes, IMPLICIT};
use super::layer::{LayerTree, Node, NodeBody};
use super::memory::{self, MAX_TREE_BYTES};
use super::resolve::Steps;
use super::{Child, Inode, InodeId, NodeKind, Tree};
use crate::LayerIndex;
use crate::entry::EntryKind;

/// Layers that do not make a tree.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    #[error("layer {layer} cannot be applied: {reason}: {path}")]
    Refused {
        layer: usize,
        reason: &'static str,
        path: String,
    },
    #[error("image has files that take more than {MAX_TREE_BYTES} bytes of memory")]
    TooLarge,
}

pub(super) fn merge(layers: &[LayerIndex], max_bytes: usize) -> Result<Tree, MergeError> {
    let mut stack = Stack::new(max_bytes);
    let (mut below, mut steps) = (Vec::new(), Steps::default());
    for (number, index) in layers.iter().enumerate() {
        let layer = LayerTree::build(index.entries(), &below, max_bytes, &mut steps);
        let mut layer = layer.map_err(|refused| MergeError::Refused {
            layer: number,
            reason: refused.reason,
            path: String::from_utf8_lossy(&refused.path).into_owned(),
        })?;
        stack.apply(number, &layer)?;
        layer.forget_contents();
        below.push(layer);
    }
    Ok(stack.into_tree())
}

/// The layers applied so far. Nodes that became unreachable stay until the end.
struct Stack {
    nodes: Vec<Merged>,
    /// What may still be added, as `memory` counts.
    bytes_left: usize,
}

struct Merged {
    inode: Inode,
    children: BTreeMap<Box<[u8]>, usize>,
}

impl Stack {
    fn new(max_bytes: usize) -> Self {
        let root = Merged {
            inode: directory(&IMPLICIT),
            children: BTreeMap::new(),
        };
        Self {
            nodes: vec![root],
            bytes_left: max_bytes,
        }
    }

    fn apply(&mut self, number: usize, layer: &LayerTree) -> Result<(), MergeError> {
        // Names of one inode of the layer become names of one inode here.
        let mut linked = HashMap::new();
        let mut pending = vec![(LayerTree::ROOT, 0)];
        while let Some((source, target)) = pending.pop() {
            let NodeBody::Directory(source) = &layer.node(source).body else {
                continue;
            };
            let inode = directory(&source.attributes);
            self.take(memory::of_inode(&inode))?;
            self.nodes[target].inode = inode;
            if source.opaque {
                self.nodes[target].children.clear();
            }
            for (name, child) in &source.children {
                self.apply_child(
                    number,
                    layer,
                    (target, name),
                    *child,
                    &mut linked,
                    &mut pending,
                )?;
            }
        }
        Ok(())
    }

    fn apply_child(
        &mut self,
        number: usize,
        layer: &LayerTree,
        (parent, name): (usize, &[u8]),
        child: usize,
        linked: &mut HashMap<usize, usize>,
        pending: &mut Vec<(usize, usize)>,
    ) -> Result<(), MergeError> {
        let node = layer.node(child);
        let below = self.nodes[parent].children.get(name).copied();
        let placed = match &node.body {
            NodeBody::Whiteout => {
                self.nodes[parent].children.remove(name);
                return Ok(());
            }
            NodeBody::Directory(_) => {
                let target = match below.filter(|below| self.is_directory(*below)) {
                    Some(below) => below,
                    None => self.add(directory(&IMPLICIT))?,
                };
                pending.push((child, target));
                target
            }
            NodeBody::Other { .. } => {
                if let Some(known) = linked.get(&child) {
                    *known
                } else {
                    let added = self.add(inode(number, node))?;
                    linked.insert(child, added);
                    added
                }
            }
        };
        if below != Some(placed) {
            self.take(memory::of_name(name))?;
            self.nodes[parent].children.insert(name.into(), placed);
        }
        Ok(())
    }

    fn add(&mut self, inode: Inode) -> Result<usize, MergeError> {
        self.take(memory::of_inode(&inode))?;
        self.nodes.push(Merged {
            inode,
            children: BTreeMap::new(),
        });
        Ok(self.nodes.len() - 1)
    }

    fn take(&mut self, bytes: usize) -> Result<(), MergeError> {
        let left = self.bytes_left.checked_sub(bytes);
        self.bytes_left = left.ok_or(MergeError::TooLarge)?;
        Ok(())
    }

    fn is_directory(&self, node: usize) -> bool {
        matches!(self.nodes[node].inode.kind, NodeKind::Directory { .. })
    }

    /// Numbers what is reachable from the root, breadth first.
    fn into_tree(self) -> Tree {
        let mut ids: HashMap<usize, InodeId> = HashMap::from([(0, InodeId(1))]);
        let mut order = vec![0];
        let mut parents = HashMap::from([(0, InodeId(1))]);
        let mut at = 0;
        while let Some(&node) = order.get(at) {
            at += 1;
            for child in self.nodes[node].children.values() {
                if !ids.contains_key(child) {
                    order.push(*child);
                    ids.insert(*child, InodeId(order.len() as u64));
                    parents.insert(*child, ids[&node]);
                }
            }
        }
        let mut nodes: Vec<Option<Merged>> = self.nodes.into_iter().map(Some).collect();
        let directories: Vec<bool> = nodes
            .iter()
            .map(|node| is_directory(node.as_ref()))
            .collect();
        let (mut inodes, mut children) = (Vec::new(), Vec::new());
        for node in order {
            let merged = nodes[node].take().expect("each node is reached once");
            let subdirectories = merged
                .children
                .values()
                .filter(|child| directories[**child]);
            let subdirectories = u32::try_from(subdirectories.count()).unwrap_or(u32::MAX - 2);
            let mut inode = merged.inode;
            if let NodeKind::Directory { parent } = &mut inode.kind {
                *parent = parents[&node];
                inode.nlink = 2 + subdirectories;
            }
            inodes.push(inode);
            let names = merged.children.into_iter();
            children.push(
                names
                    .map(|(name, child)| (name, ids[&child]))
                    .collect::<Box<[Child]>>(),
            );
        }
        Tree { inodes, children }
    }
}

fn is_directory(node: Option<&Merged>) -> bool {
    node.is_some_and(|node| matches!(node.inode.kind, NodeKind::Directory { .. }))
}

/// The parent is set when the tree is numbered.
fn directory(attributes: &Attributes) -> Inode {
    with_attributes(NodeKind::Directory { parent: InodeId(1) }, attributes, 2)
}

fn inode(layer: usize, node: &Node) -> Inode {
    let NodeBody::Other { kind, attributes } = &node.body else {
        unreachable!("only called for what is no directory and no whiteout")
    };
    let kind = match kind {
        EntryKind::File { size, extents } => NodeKind::File {
            size: *size,
            layer,
            extents: extents.as_slice().into(),
        },
        EntryKind::Symlink { target } => NodeKind::Symlink {
            target: target.as_slice().into(),
        },
        EntryKind::CharDevice { major, minor } => NodeKind::CharDevice {
            major: *major,
            minor: *minor,
        },
        EntryKind::BlockDevice { major, minor } => NodeKind::BlockDevice {
            major: *major,
            minor: *minor,
        },
        EntryKind::Fifo => NodeKind::Fifo,
        EntryKind::HardLink { .. }
        | EntryKind::Directory
        | EntryKind::Whiteout
        | EntryKind::Opaque => unreachable!("resolved when the layer was built"),
    };
    with_attributes(kind, attributes, node.names)
}

fn with_attributes(kind: NodeKind, attributes: &Attributes, nlink: u32) -> Inode {
    let Attributes {
        mode,
        uid,
        gid,
        mtime,
        xattrs,
    } = attributes;
    let xattrs = xattrs.as_slice().into();
    Inode {
        kind,
        mode: *mode,
        uid: *uid,
        gid: *gid,
        mtime: *mtime,
        nlink,
        xattrs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Entry, Mtime, Xattr};

    fn layer(kind: &EntryKind) -> LayerTree {
        let xattr: Xattr = (b"user.a"[..].into(), vec![0; 100_000].into());
        let entry = Entry {
            path: b"a".to_vec(),
            kind: kind.clone(),
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: Mtime::default(),
            xattrs: vec![xattr],
        };
        LayerTree::build(
            [entry].into_iter(),
            &[],
            MAX_TREE_BYTES,
            &mut Steps::default(),
        )
        .expect("one file")
    }

    #[test]
    fn layers_that_take_too_much_memory_together_are_refused() {
        for kind in [EntryKind::Fifo, EntryKind::Directory] {
            let layer = layer(&kind);
            let mut stack = Stack::new(1 << 20);
            let applied = (0..100).take_while(|number| stack.apply(*number, &layer).is_ok());
            assert_eq!(applied.count(), 10, "{kind:?}");
        }
    }
}
