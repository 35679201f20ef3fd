//! Paths inside one layer: symbolic links are followed within its root, as containerd follows
//! them. `..` in a link's target is taken off by name, never climbs out of the root, and what is
//! not there is taken to be no link.

use super::layer::{LayerTree, NodeBody};
use crate::entry::EntryKind;
use crate::limits::MAX_PATH;

/// containerd follows so many links for one path.
const MAX_LINKS: usize = 255;

pub(super) const NOT_A_DIRECTORY: &str = "a parent is not a directory";

/// A path that leads nowhere and cannot be made to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Broken {
    NotADirectory,
    TooManyLinks,
    TooLong,
}

impl Broken {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::NotADirectory => NOT_A_DIRECTORY,
            Self::TooManyLinks => "too many symbolic links",
            Self::TooLong => "symbolic links make a path too long",
        }
    }
}

pub(super) enum Found {
    Node(usize),
    Missing,
}

/// The path with every symbolic link in it replaced, the last component's too.
pub(super) fn resolve(layer: &LayerTree, path: &[u8]) -> Result<Vec<u8>, Broken> {
    let mut path = path.to_vec();
    for _ in 0..=MAX_LINKS {
        match follow_first(layer, &path)? {
            Some(next) if next.len() > MAX_PATH => return Err(Broken::TooLong),
            Some(next) => path = next,
            None => return Ok(path),
        }
    }
    Err(Broken::TooManyLinks)
}

/// What has this path, which has no link in it.
pub(super) fn find(layer: &LayerTree, path: &[u8]) -> Found {
    let mut names = components(path);
    let node = names.try_fold(LayerTree::ROOT, |at, (name, _)| layer.child(at, name));
    node.map_or(Found::Missing, Found::Node)
}

/// Names of a path, each with the offset at which it ends.
pub(super) fn components(path: &[u8]) -> impl Iterator<Item = (&[u8], usize)> {
    let mut end = 0;
    path.split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty())
        .map(move |name| {
            let start = if end == 0 { 0 } else { end + 1 };
            end = start + name.len();
            (name, end)
        })
}

/// Parent and name of a path; nothing for the root.
pub(super) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => Some((&path[..slash], &path[slash + 1..])),
        None if path.is_empty() => None,
        None => Some((&[], path)),
    }
}

/// The path with its first link replaced; nothing where there is none.
fn follow_first(layer: &LayerTree, path: &[u8]) -> Result<Option<Vec<u8>>, Broken> {
    let mut at = LayerTree::ROOT;
    for (name, end) in components(path) {
        let Some(child) = layer.child(at, name) else {
            return Ok(None);
        };
        match &layer.node(child).body {
            NodeBody::Directory(_) => at = child,
            NodeBody::Other {
                kind: EntryKind::Symlink { target },
                ..
            } => {
                let parent = &path[..end - name.len()];
                return Ok(Some(joined(parent, target, &path[end..])));
            }
            _ if end == path.len() => return Ok(None),
            _ => return Err(Broken::NotADirectory),
        }
    }
    Ok(None)
}

/// `target` seen from `parent`, and `rest` below it: clean and inside the root.
fn joined(parent: &[u8], target: &[u8], rest: &[u8]) -> Vec<u8> {
    let parent = if target.starts_with(b"/") {
        &[]
    } else {
        parent
    };
    let mut names: Vec<&[u8]> = Vec::new();
    for part in [parent, target, rest] {
        for name in part.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => drop(names.pop()),
                name => names.push(name),
            }
        }
    }
    names.join(&b'/')
}
