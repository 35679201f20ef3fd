//! One layer as a tree of its own: its entries applied in archive order to an empty directory, as
//! containerd extracts a layer into an overlay's own directory.
//!
//! A later entry replaces an earlier one of its name, except that a directory over a directory
//! only takes over its attributes. A whiteout never replaces an entry of its own layer: it is for
//! the layers below. Directories that no entry describes are made, and take the attributes of the
//! directory below, if there is one. Refused, as containerd refuses them: a parent that the layer
//! itself made something else than a directory, and a hard link to what the layer does not have.

use std::collections::BTreeMap;

use super::memory;
use crate::entry::{Entry, EntryKind, Mtime, Xattr};

/// Attributes that overlayfs keeps for itself. It would obey them, so they are never shown.
const OVERLAY_XATTRS: &[u8] = b"trusted.overlay.";

/// An entry that does not fit the layer.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) reason: &'static str,
    pub(super) path: Vec<u8>,
}

#[derive(Clone, Debug)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Mtime,
    pub(super) xattrs: Vec<Xattr>,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) body: NodeBody,
    /// How many names in this layer lead here.
    pub(super) names: u32,
}

#[derive(Debug)]
pub(super) enum NodeBody {
    Directory {
        /// Nothing for a directory that only its children imply.
        attributes: Option<Attributes>,
        opaque: bool,
        children: BTreeMap<Vec<u8>, usize>,
    },
    Whiteout,
    /// A file, symlink, device or fifo.
    Other {
        kind: EntryKind,
        attributes: Attributes,
    },
}

#[derive(Debug)]
pub(super) struct LayerTree {
    nodes: Vec<Node>,
    /// What it takes of memory, as `memory` counts.
    bytes: usize,
}

impl LayerTree {
    pub(super) const ROOT: usize = 0;

    /// Refuses the entry after those that take more than `max_bytes` of memory.
    pub(super) fn build(
        entries: impl Iterator<Item = Entry>,
        max_bytes: usize,
    ) -> Result<Self, Refused> {
        let mut tree = Self {
            nodes: vec![implied_directory()],
            bytes: 0,
        };
        for entry in entries {
            if tree.bytes > max_bytes {
                let reason = "the files before it take too much memory";
                return Err(Refused {
                    reason,
                    path: entry.path,
                });
            }
            tree.apply(entry)?;
        }
        Ok(tree)
    }

    pub(super) fn node(&self, number: usize) -> &Node {
        &self.nodes[number]
    }

    fn apply(&mut self, entry: Entry) -> Result<(), Refused> {
        let Entry {
            path,
            kind,
            mode,
            uid,
            gid,
            mtime,
            mut xattrs,
        } = entry;
        xattrs.retain(|(name, _)| !name.starts_with(OVERLAY_XATTRS));
        self.bytes += memory::of_entry(&kind, &xattrs);
        let attributes = Attributes {
            mode,
            uid,
            gid,
            mtime,
            xattrs,
        };
        if kind == EntryKind::Opaque {
            let directory = self.directory(&path)?;
            self.set_opaque(directory);
            return Ok(());
        }
        let Some((parent, name)) = split(&path) else {
            return self.apply_root(kind, attributes);
        };
        let parent = self.directory(parent)?;
        match kind {
            EntryKind::Directory => self.apply_directory(parent, name, attributes),
            EntryKind::Whiteout => self.apply_whiteout(parent, name),
            EntryKind::HardLink { target } => {
                let linked = self.find(&target).filter(|at| self.is_linkable(*at));
                let reason = "hard link to a file that is not in its layer";
                let linked = linked.ok_or_else(|| Refused {
                    reason,
                    path: path.clone(),
                })?;
                self.place(parent, name, linked);
            }
            // Overlayfs takes such a device for a whiteout, whoever made it.
            EntryKind::CharDevice { major: 0, minor: 0 } => {
                let whiteout = self.add(NodeBody::Whiteout);
                self.place(parent, name, whiteout);
            }
            kind => {
                let other = self.add(NodeBody::Other { kind, attributes });
                self.place(parent, name, other);
            }
        }
        Ok(())
    }

    fn apply_root(&mut self, kind: EntryKind, new: Attributes) -> Result<(), Refused> {
        match (&mut self.nodes[Self::ROOT].body, kind) {
            (NodeBody::Directory { attributes, .. }, EntryKind::Directory) => {
                *attributes = Some(new);
                Ok(())
            }
            _ => Err(Refused {
                reason: "the root is no directory",
                path: b"/".to_vec(),
            }),
        }
    }

    fn apply_directory(&mut self, parent: usize, name: &[u8], new: Attributes) {
        if let Some(existing) = self.child(parent, name)
            && let NodeBody::Directory { attributes, .. } = &mut self.nodes[existing].body
        {
            *attributes = Some(new);
            return;
        }
        let mut directory = implied_directory();
        if let NodeBody::Directory { attributes, .. } = &mut directory.body {
            *attributes = Some(new);
        }
        let added = self.add(directory.body);
        self.place(parent, name, added);
    }

    fn apply_whiteout(&mut self, parent: usize, name: &[u8]) {
        if self.child(parent, name).is_none() {
            let whiteout = self.add(NodeBody::Whiteout);
            self.place(parent, name, whiteout);
        }
    }

    fn set_opaque(&mut self, directory: usize) {
        if let NodeBody::Directory { opaque, .. } = &mut self.nodes[directory].body {
            *opaque = true;
        }
    }

    /// The directory at `path`, made where it is missing.
    fn directory(&mut self, path: &[u8]) -> Result<usize, Refused> {
        let mut at = Self::ROOT;
        for name in path
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
        {
            let existing = self.child(at, name);
            at = match existing.map(|existing| (existing, &self.nodes[existing].body)) {
                Some((existing, NodeBody::Directory { .. })) => existing,
                Some((_, NodeBody::Other { .. })) => {
                    let reason = "a parent is not a directory";
                    return Err(Refused {
                        reason,
                        path: path.to_vec(),
                    });
                }
                Some((_, NodeBody::Whiteout)) | None => {
                    let added = self.add(implied_directory().body);
                    self.place(at, name, added);
                    added
                }
            };
        }
        Ok(at)
    }

    fn find(&self, path: &[u8]) -> Option<usize> {
        let mut names = path.split(|byte| *byte == b'/');
        names.try_fold(Self::ROOT, |at, name| self.child(at, name))
    }

    fn child(&self, directory: usize, name: &[u8]) -> Option<usize> {
        match &self.nodes[directory].body {
            NodeBody::Directory { children, .. } => children.get(name).copied(),
            _ => None,
        }
    }

    fn is_linkable(&self, node: usize) -> bool {
        matches!(self.nodes[node].body, NodeBody::Other { .. })
    }

    fn add(&mut self, body: NodeBody) -> usize {
        self.bytes += memory::NODE_BYTES;
        self.nodes.push(Node { body, names: 0 });
        self.nodes.len() - 1
    }

    fn place(&mut self, directory: usize, name: &[u8], node: usize) {
        let NodeBody::Directory { children, .. } = &mut self.nodes[directory].body else {
            unreachable!("callers look the directory up")
        };
        self.bytes += memory::of_name(name);
        let replaced = children.insert(name.to_vec(), node);
        self.nodes[node].names = self.nodes[node].names.saturating_add(1);
        if let Some(replaced) = replaced {
            self.remove_name(replaced);
        }
    }

    /// Takes a name from a node, and with a directory all names inside, as removing it would.
    fn remove_name(&mut self, node: usize) {
        let mut removed = vec![node];
        while let Some(number) = removed.pop() {
            let node = &mut self.nodes[number];
            node.names = node.names.saturating_sub(1);
            if let NodeBody::Directory { children, .. } = &mut node.body {
                removed.extend(std::mem::take(children).into_values());
            }
        }
    }
}

fn implied_directory() -> Node {
    let body = NodeBody::Directory {
        attributes: None,
        opaque: false,
        children: BTreeMap::new(),
    };
    Node { body, names: 0 }
}

/// Parent and name of a path; nothing for the root.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => Some((&path[..slash], &path[slash + 1..])),
        None if path.is_empty() => None,
        None => Some((&[], path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files of one directory, each with an attribute of 1000 bytes.
    fn files(count: usize) -> impl Iterator<Item = Entry> {
        let xattrs = vec![(b"user.a"[..].into(), vec![0; 1000].into())];
        (0..count).map(move |number| Entry {
            path: format!("d/{number}").into_bytes(),
            kind: EntryKind::Fifo,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: Mtime::default(),
            xattrs: xattrs.clone(),
        })
    }

    /// One file under parents that nothing names.
    fn deep(depth: usize) -> Entry {
        let path = vec!["a"; depth].join("/").into_bytes();
        let mut entry = files(1).next().expect("one");
        entry.path = path;
        entry
    }

    #[test]
    fn what_takes_too_much_memory_is_refused_by_name() {
        assert!(LayerTree::build(files(500), 1 << 20).is_ok());
        let refused = LayerTree::build(files(5000), 1 << 20).expect_err("too much");
        let number = refused.path.strip_prefix(b"d/").expect("one of the files");
        let number: usize = str::from_utf8(number)
            .expect("text")
            .parse()
            .expect("number");
        assert!((500..1000).contains(&number), "{number}");
        let parents = [deep(2000), deep(1)];
        assert!(LayerTree::build(parents.clone().into_iter(), 1 << 20).is_ok());
        assert!(LayerTree::build(parents.into_iter(), 100_000).is_err());
    }
}
