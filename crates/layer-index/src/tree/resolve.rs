//! Paths inside one layer: symbolic links are followed within its root. What is not there is taken
//! to be no link, and nothing climbs out of the root.
//!
//! Readers of images follow links in two ways, which seldom differ; a path for which they do is
//! refused.

mod ways;

use super::layer::{LayerTree, NodeBody};
use crate::entry::EntryKind;

/// Names that are looked at while the layers of an image are applied: seconds of work. The largest
/// public images take a quarter of it; links that lead through thousands of others take hours.
const MAX_STEPS: u64 = 1 << 26;

/// What following a link costs beside the names: a path is put together anew.
const STEPS_OF_LINK: u64 = 64;

pub(super) const NOT_A_DIRECTORY: &str = "a parent is not a directory";

/// A path that leads nowhere and cannot be made to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Broken {
    NotADirectory,
    TooManyLinks,
    TooLong,
    TooMuchWork,
    Ambiguous,
}

/// The work that may still be done for an image.
#[derive(Debug)]
pub(super) struct Steps {
    left: u64,
}

impl Default for Steps {
    fn default() -> Self {
        Self { left: MAX_STEPS }
    }
}

impl Steps {
    fn take(&mut self, steps: u64) -> Result<(), Broken> {
        let left = self.left.checked_sub(steps);
        self.left = left.ok_or(Broken::TooMuchWork)?;
        Ok(())
    }
}

impl Broken {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::NotADirectory => NOT_A_DIRECTORY,
            Self::TooManyLinks => "too many symbolic links",
            Self::TooLong => "symbolic links make a path too long",
            Self::Ambiguous => "symbolic links lead to different places for different readers",
            Self::TooMuchWork => "the paths of the image take too long to follow",
        }
    }
}

pub(super) enum Found {
    Node(usize),
    Missing,
}

/// The path with every symbolic link in it replaced, the last component's too.
pub(super) fn resolve(
    layer: &LayerTree,
    path: &[u8],
    steps: &mut Steps,
) -> Result<Vec<u8>, Broken> {
    if !has_link(layer, path, steps)? {
        return Ok(path.to_vec());
    }
    let resolved = ways::of_the_kernel(layer, path, steps)?;
    if ways::of_containerd(layer, path, steps)? != resolved {
        return Err(Broken::Ambiguous);
    }
    Ok(resolved)
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

/// Whether anything on the way is a link, as next to nothing is.
fn has_link(layer: &LayerTree, path: &[u8], steps: &mut Steps) -> Result<bool, Broken> {
    let mut at = LayerTree::ROOT;
    for (name, end) in components(path) {
        steps.take(1)?;
        let Some(child) = layer.child(at, name) else {
            return Ok(false);
        };
        match &layer.node(child).body {
            NodeBody::Directory(_) => at = child,
            NodeBody::Other {
                kind: EntryKind::Symlink { .. },
                ..
            } => return Ok(true),
            _ if end == path.len() => return Ok(false),
            _ => return Err(Broken::NotADirectory),
        }
    }
    Ok(false)
}
