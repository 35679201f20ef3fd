//! One layer as a tree of its own, as it is extracted into an overlay's own directory.

use std::collections::BTreeMap;

use super::attributes::Attributes;
use super::memory;
use crate::entry::EntryKind;

#[derive(Debug)]
pub(super) struct Node {
    pub(super) body: NodeBody,
    /// How many names in this layer lead here.
    pub(super) names: u32,
}

#[derive(Debug)]
pub(super) enum NodeBody {
    Directory(Directory),
    Whiteout,
    /// A file, symlink, device or fifo.
    Other {
        kind: EntryKind,
        attributes: Attributes,
    },
}

#[derive(Debug)]
pub(super) struct Directory {
    pub(super) attributes: Attributes,
    pub(super) opaque: bool,
    pub(super) children: BTreeMap<Vec<u8>, usize>,
    /// Whether a directory below it was made without an entry.
    pub(super) has_implied: bool,
}

#[derive(Debug)]
pub(super) struct LayerTree {
    nodes: Vec<Node>,
    /// What it takes of memory, as `memory` counts.
    bytes: usize,
}

impl LayerTree {
    pub(super) const ROOT: usize = 0;

    pub(super) fn new(root: Attributes) -> Self {
        let mut tree = Self {
            nodes: Vec::new(),
            bytes: 0,
        };
        tree.add(NodeBody::Directory(Directory::new(root)));
        tree
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts what a node has beside itself and its names.
    pub(super) fn count(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    pub(super) fn node(&self, number: usize) -> &Node {
        &self.nodes[number]
    }

    pub(super) fn node_mut(&mut self, number: usize) -> &mut Node {
        &mut self.nodes[number]
    }

    pub(super) fn directory(&self, number: usize) -> Option<&Directory> {
        match &self.nodes[number].body {
            NodeBody::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    /// Of what is known to be one.
    pub(super) fn directory_mut(&mut self, number: usize) -> &mut Directory {
        match &mut self.nodes[number].body {
            NodeBody::Directory(directory) => directory,
            _ => unreachable!("callers look the directory up"),
        }
    }

    pub(super) fn child(&self, directory: usize, name: &[u8]) -> Option<usize> {
        self.directory(directory)?.children.get(name).copied()
    }

    /// A node that has no name yet.
    pub(super) fn add(&mut self, body: NodeBody) -> usize {
        self.bytes += memory::NODE_BYTES;
        if matches!(body, NodeBody::Directory(_)) {
            self.bytes += memory::CHILDREN_BYTES;
        }
        self.nodes.push(Node { body, names: 0 });
        self.nodes.len() - 1
    }

    /// Nothing where the node has all the names that can be counted.
    pub(super) fn give_name(&mut self, parent: usize, name: &[u8], node: usize) -> Option<()> {
        let names = &mut self.nodes[node].names;
        *names = names.checked_add(1)?;
        self.bytes += memory::of_name(name);
        let children = &mut self.directory_mut(parent).children;
        children.insert(name.to_vec(), node);
        Some(())
    }

    pub(super) fn take_name(&mut self, parent: usize, name: &[u8]) {
        if let Some(node) = self.directory_mut(parent).children.remove(name) {
            self.nodes[node].names -= 1;
        }
    }

    /// Keeps what the layers above may ask for: names, kinds and attributes of directories.
    pub(super) fn forget_contents(&mut self) {
        for node in &mut self.nodes {
            if let NodeBody::Other { kind, attributes } = &mut node.body {
                attributes.xattrs = Vec::new();
                if let EntryKind::File { extents, .. } = kind {
                    *extents = Vec::new();
                }
            }
        }
    }
}

impl Directory {
    pub(super) fn new(attributes: Attributes) -> Self {
        Self {
            attributes,
            opaque: false,
            children: BTreeMap::new(),
            has_implied: false,
        }
    }
}
