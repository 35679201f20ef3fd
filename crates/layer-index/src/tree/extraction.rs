//! One layer as a tree of its own: its entries applied in archive order to an empty directory, as
//! containerd extracts a layer into an overlay's own directory.
//!
//! A later entry replaces an earlier one of its name, except that a directory over a directory
//! only takes over its attributes. Parents are looked up through the symbolic links of this layer,
//! inside its root, and never through those of the layers below. A directory that no entry
//! describes is made, and takes the attributes of the topmost layer below that has it. Refused is
//! what containerd refuses, and what it extracts in a way that depends on the order of entries.

use super::attributes::{Attributes, CAPABILITY, DEFAULT_LIST, IMPLICIT, OVERLAY_XATTRS, has};
use super::layer::{Directory, LayerTree, NodeBody};
use super::memory;
use super::resolve::{self, Broken, Found, Steps};
use crate::entry::{Entry, EntryKind, Mtime};

const SET_GROUP_ID: u32 = 0o2000;

/// An entry that does not fit the layer.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) reason: &'static str,
    pub(super) path: Vec<u8>,
}

impl LayerTree {
    /// `below` are the layers under this one, lowest first. Refuses the entry with which they all
    /// take more than `max_bytes` of memory.
    pub(super) fn build(
        entries: impl Iterator<Item = Entry>,
        below: &[LayerTree],
        max_bytes: usize,
        steps: &mut Steps,
    ) -> Result<Self, Refused> {
        let held: usize = below.iter().map(LayerTree::bytes).sum();
        let root = below.last().and_then(|layer| layer.directory(Self::ROOT));
        let root = root.map_or(IMPLICIT, |root| root.attributes.clone());
        let mut extraction = Extraction {
            tree: Self::new(root),
            below,
            bytes_left: max_bytes.saturating_sub(held),
            steps,
            times: Vec::new(),
        };
        for entry in entries {
            let path = entry.path.clone();
            let applied = extraction.has_room().and_then(|()| extraction.apply(entry));
            applied.map_err(|reason| Refused { reason, path })?;
        }
        extraction.set_times()?;
        Ok(extraction.tree)
    }
}

/// A layer being built over others. Errors are reasons; who calls knows the path.
struct Extraction<'a> {
    tree: LayerTree,
    below: &'a [LayerTree],
    /// What this layer may take of memory.
    bytes_left: usize,
    steps: &'a mut Steps,
    /// Of entries of directories: set when nothing changes them any more.
    times: Vec<(Vec<u8>, Mtime)>,
}

impl Extraction<'_> {
    fn has_room(&self) -> Result<(), &'static str> {
        if self.tree.bytes() > self.bytes_left {
            return Err("the files before it take too much memory");
        }
        Ok(())
    }

    fn apply(&mut self, entry: Entry) -> Result<(), &'static str> {
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
        self.tree.count(memory::of_entry(&kind, &xattrs));
        let attributes = Attributes {
            mode,
            uid,
            gid,
            mtime,
            xattrs,
        };
        if kind == EntryKind::Opaque {
            let directory = self.directory_at(&path)?;
            return self.apply_opaque(directory);
        }
        let Some((parent, name)) = resolve::split(&path) else {
            return self.apply_root(&kind, mtime);
        };
        let parent = self.directory_at(parent)?;
        match kind {
            EntryKind::Directory => {
                self.tree.count(memory::of_name(&path));
                self.times.push((path.clone(), mtime));
                self.apply_directory(parent, name, attributes)
            }
            EntryKind::Whiteout => self.apply_whiteout(parent, name),
            EntryKind::HardLink { target } => self.apply_link(parent, name, &target, attributes),
            // Overlayfs takes such a device for a whiteout, whoever made it.
            EntryKind::CharDevice { major: 0, minor: 0 } => {
                self.place(parent, name, NodeBody::Whiteout).map(drop)
            }
            kind => {
                let other = NodeBody::Other { kind, attributes };
                self.place(parent, name, other).map(drop)
            }
        }
    }

    /// The root is made by who unpacks; an archive only says its time.
    fn apply_root(&mut self, kind: &EntryKind, mtime: Mtime) -> Result<(), &'static str> {
        if *kind != EntryKind::Directory {
            return Err("the root is no directory");
        }
        self.tree.directory_mut(LayerTree::ROOT).attributes.mtime = mtime;
        Ok(())
    }

    fn apply_opaque(&mut self, at: usize) -> Result<(), &'static str> {
        let is_lowest = self.below.is_empty();
        if at == LayerTree::ROOT && !is_lowest {
            return Err("an opaque root: to overlayfs it hides nothing");
        }
        let directory = self.tree.directory_mut(at);
        if is_lowest && directory.has_implied {
            return Err("an opaque directory with something in it that no entry names");
        }
        directory.opaque = true;
        Ok(())
    }

    fn apply_directory(
        &mut self,
        parent: usize,
        name: &[u8],
        new: Attributes,
    ) -> Result<(), &'static str> {
        if let Some(existing) = self.tree.child(parent, name)
            && let NodeBody::Directory(directory) = &mut self.tree.node_mut(existing).body
        {
            return directory.attributes.replace(new);
        }
        let directory = NodeBody::Directory(Directory::new(new));
        self.place(parent, name, directory).map(drop)
    }

    /// In the lowest layer there is nothing that it could hide.
    fn apply_whiteout(&mut self, parent: usize, name: &[u8]) -> Result<(), &'static str> {
        if self.tree.child(parent, name).is_some() {
            return Err("a whiteout of a name that its own layer has");
        }
        if self.below.is_empty() {
            return Ok(());
        }
        self.place(parent, name, NodeBody::Whiteout).map(drop)
    }

    /// A link replaces what has its name before its target is looked up, and gives the file its
    /// own attributes.
    fn apply_link(
        &mut self,
        parent: usize,
        name: &[u8],
        target: &[u8],
        attributes: Attributes,
    ) -> Result<(), &'static str> {
        const MISSING: &str = "hard link to a file that is not in its layer";
        self.remove(parent, name)?;
        let (directory, last) = resolve::split(target).ok_or(MISSING)?;
        let directory =
            resolve::resolve(&self.tree, directory, self.steps).map_err(Broken::reason)?;
        let linked = match resolve::find(&self.tree, &directory) {
            Found::Node(directory) => self.tree.child(directory, last).ok_or(MISSING)?,
            Found::Missing => return Err(MISSING),
        };
        match &mut self.tree.node_mut(linked).body {
            NodeBody::Directory(_) => return Err(MISSING),
            NodeBody::Whiteout => {}
            NodeBody::Other {
                kind,
                attributes: old,
            } => {
                let is_symlink = matches!(kind, EntryKind::Symlink { .. });
                let mode = if is_symlink {
                    old.mode
                } else {
                    attributes.mode
                };
                old.xattrs.retain(|(name, _)| name.as_ref() != CAPABILITY);
                old.replace(Attributes { mode, ..attributes })?;
            }
        }
        self.give_name(parent, name, linked)
    }

    /// The directory at `path`, made where it is missing.
    fn directory_at(&mut self, path: &[u8]) -> Result<usize, &'static str> {
        let path = resolve::resolve(&self.tree, path, self.steps).map_err(Broken::reason)?;
        let mut at = LayerTree::ROOT;
        for (name, end) in resolve::components(&path) {
            at = match self.tree.child(at, name) {
                Some(existing) => match &self.tree.node(existing).body {
                    NodeBody::Directory(_) => existing,
                    _ => return Err(resolve::NOT_A_DIRECTORY),
                },
                None => self.imply(at, name, &path[..end])?,
            };
        }
        Ok(at)
    }

    fn imply(&mut self, parent: usize, name: &[u8], path: &[u8]) -> Result<usize, &'static str> {
        let attributes = if let Some(attributes) = inherited(self.below, path, self.steps)? {
            self.tree.count(memory::of_xattrs(&attributes.xattrs));
            self.has_room()?;
            attributes.clone()
        } else {
            let parent = &self.tree.directory_mut(parent).attributes;
            let is_shared = parent.mode & SET_GROUP_ID != 0;
            let gid = if is_shared { parent.gid } else { IMPLICIT.gid };
            Attributes { gid, ..IMPLICIT }
        };
        let directory = NodeBody::Directory(Directory::new(attributes));
        let made = self.place(parent, name, directory)?;
        self.mark_implied(path);
        Ok(made)
    }

    /// Every directory above `path` has something that no entry names.
    fn mark_implied(&mut self, path: &[u8]) {
        let mut at = LayerTree::ROOT;
        for (name, _) in resolve::components(path) {
            let directory = self.tree.directory_mut(at);
            directory.has_implied = true;
            at = directory.children[name];
        }
    }

    /// A path may lead elsewhere in the end, where a link on it was replaced: that gets the time.
    fn set_times(&mut self) -> Result<(), Refused> {
        for (path, mtime) in std::mem::take(&mut self.times) {
            let found = match resolve::resolve(&self.tree, &path, self.steps) {
                Ok(resolved) => resolve::find(&self.tree, &resolved),
                Err(broken) => {
                    let reason = broken.reason();
                    return Err(Refused { reason, path });
                }
            };
            let Found::Node(node) = found else {
                let reason = "a directory that cannot be found in the end";
                return Err(Refused { reason, path });
            };
            match &mut self.tree.node_mut(node).body {
                NodeBody::Directory(directory) => directory.attributes.mtime = mtime,
                NodeBody::Other { attributes, .. } => attributes.mtime = mtime,
                NodeBody::Whiteout => {}
            }
        }
        Ok(())
    }

    /// Puts something new in the place of what has the name.
    fn place(&mut self, parent: usize, name: &[u8], body: NodeBody) -> Result<usize, &'static str> {
        let inherits = has(
            &self.tree.directory_mut(parent).attributes.xattrs,
            DEFAULT_LIST,
        );
        if inherits && !matches!(body, NodeBody::Whiteout) {
            return Err("a file in a directory that has a default access control list");
        }
        self.remove(parent, name)?;
        let added = self.tree.add(body);
        self.give_name(parent, name, added)?;
        Ok(added)
    }

    /// A directory that was extracted and replaced leaves its time on whatever took its name.
    fn remove(&mut self, parent: usize, name: &[u8]) -> Result<(), &'static str> {
        let Some(existing) = self.tree.child(parent, name) else {
            return Ok(());
        };
        if self.tree.directory(existing).is_some() {
            return Err("an entry replaces a directory of its own layer");
        }
        self.tree.take_name(parent, name);
        Ok(())
    }

    fn give_name(&mut self, parent: usize, name: &[u8], node: usize) -> Result<(), &'static str> {
        let given = self.tree.give_name(parent, name, node);
        given.ok_or("too many hard links")
    }
}

/// Attributes of the topmost directory of this name, also where a layer between hides it.
fn inherited<'a>(
    below: &'a [LayerTree],
    path: &[u8],
    steps: &mut Steps,
) -> Result<Option<&'a Attributes>, &'static str> {
    for layer in below.iter().rev() {
        let resolved = resolve::resolve(layer, path, steps).map_err(Broken::reason)?;
        if let Found::Node(node) = resolve::find(layer, &resolved) {
            let NodeBody::Directory(directory) = &layer.node(node).body else {
                return Ok(None);
            };
            return Ok(Some(&directory.attributes));
        }
    }
    Ok(None)
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

    fn build(entries: impl Iterator<Item = Entry>, max_bytes: usize) -> Result<LayerTree, Refused> {
        LayerTree::build(entries, &[], max_bytes, &mut Steps::default())
    }

    #[test]
    fn what_takes_too_much_memory_is_refused_by_name() {
        assert!(build(files(500), 1 << 20).is_ok());
        let refused = build(files(5000), 1 << 20).expect_err("too much");
        let number = refused.path.strip_prefix(b"d/").expect("one of the files");
        let number: usize = str::from_utf8(number)
            .expect("text")
            .parse()
            .expect("number");
        assert!((500..1000).contains(&number), "{number}");
        let parents = [deep(2000), files(1).next().expect("one")];
        assert!(build(parents.clone().into_iter(), 2 << 20).is_ok());
        assert!(build(parents.into_iter(), 100_000).is_err());
    }
}
