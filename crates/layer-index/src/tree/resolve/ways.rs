//! Two ways to follow the links of a path.
//!
//! The kernel, and readers that do as it would in a root of its own, put a link's target in the
//! link's place and go on from there; `..` is the parent of where that led. containerd goes over
//! the whole path, puts each link's target into it by name, `..` included, and begins again until
//! there was no link; meanwhile it asks the kernel what is at the names it has so far. The two
//! part where a link leads to another link and `..` follows.

use std::collections::VecDeque;

use super::super::layer::{LayerTree, NodeBody};
use super::{Broken, STEPS_OF_LINK, Steps};
use crate::entry::EntryKind;
use crate::limits::MAX_PATH;

/// Both follow so many links for one path.
const MAX_LINKS: usize = 255;

/// And the kernel itself so many, where containerd asks it.
const MAX_LINKS_OF_KERNEL: usize = 40;

/// What a name of a directory is.
enum There<'a> {
    Missing,
    Directory(usize),
    Link(&'a [u8]),
    Other,
}

/// The path that the kernel would end at, the layer being the root.
pub(super) fn of_the_kernel(
    layer: &LayerTree,
    path: &[u8],
    steps: &mut Steps,
) -> Result<Vec<u8>, Broken> {
    let mut left: VecDeque<&[u8]> = names_of(path).collect();
    // Names with their directories; what is missing has none.
    let mut at: Vec<(&[u8], Option<usize>)> = Vec::new();
    let mut links = 0;
    while let Some(name) = left.pop_front() {
        if name == b".." {
            at.pop();
            continue;
        }
        let directory = at.last().map_or(Some(LayerTree::ROOT), |(_, node)| *node);
        match look(layer, directory, name, steps)? {
            There::Missing => at.push((name, None)),
            There::Directory(node) => at.push((name, Some(node))),
            There::Other if left.is_empty() => at.push((name, None)),
            There::Other => return Err(Broken::NotADirectory),
            There::Link(target) => {
                links += 1;
                check_links(links, MAX_LINKS)?;
                steps.take(STEPS_OF_LINK)?;
                if target.starts_with(b"/") {
                    at.clear();
                }
                for name in names_of(target).rev() {
                    left.push_front(name);
                }
                check_length(at.iter().map(|(name, _)| *name).chain(left.iter().copied()))?;
            }
        }
    }
    let names: Vec<&[u8]> = at.into_iter().map(|(name, _)| name).collect();
    Ok(names.join(&b'/'))
}

/// The path that containerd would end at.
pub(super) fn of_containerd(
    layer: &LayerTree,
    path: &[u8],
    steps: &mut Steps,
) -> Result<Vec<u8>, Broken> {
    let mut place = Place {
        is_absolute: false,
        names: names_of(path).collect(),
    };
    let mut links = 0;
    loop {
        let links_before = links;
        place = pass(layer, &place, &mut links, steps)?;
        check_length(place.names.iter().copied())?;
        if links == links_before {
            return Ok(place.names.join(&b'/'));
        }
    }
}

/// A path as containerd has it in its hands: not always clean, and not always absolute.
struct Place<'a> {
    is_absolute: bool,
    names: Vec<&'a [u8]>,
}

impl<'a> Place<'a> {
    fn of_target(target: &'a [u8]) -> Self {
        Self {
            is_absolute: target.starts_with(b"/"),
            names: names_of(target).collect(),
        }
    }

    /// Both together, clean: `..` takes off the name before it.
    fn joined(&self, more: &[&'a [u8]]) -> Self {
        let mut names: Vec<&[u8]> = Vec::new();
        for name in self.names.iter().chain(more) {
            match (*name, names.last()) {
                (b"..", Some(last)) if *last != b".." => drop(names.pop()),
                (b"..", _) if self.is_absolute => {}
                (name, _) => names.push(name),
            }
        }
        Self {
            is_absolute: self.is_absolute,
            names,
        }
    }

    fn in_root(&self) -> Self {
        let root = Self {
            is_absolute: true,
            names: Vec::new(),
        };
        root.joined(&self.names)
    }
}

/// The path with each of its links replaced once, by name. The target of a link at its beginning
/// stays as it is until the next pass.
fn pass<'a>(
    layer: &'a LayerTree,
    path: &Place<'a>,
    links: &mut usize,
    steps: &mut Steps,
) -> Result<Place<'a>, Broken> {
    let mut so_far = Place {
        is_absolute: path.is_absolute,
        names: Vec::new(),
    };
    for (number, name) in path.names.iter().enumerate() {
        let next = so_far.joined(&[*name]).in_root();
        let Some(target) = link_at(layer, &next.names, steps)? else {
            so_far = next;
            continue;
        };
        *links += 1;
        check_links(*links, MAX_LINKS)?;
        steps.take(STEPS_OF_LINK)?;
        let target = Place::of_target(target);
        let is_beginning = number == 0 && !path.is_absolute;
        so_far = if is_beginning || target.is_absolute {
            target
        } else {
            so_far.joined(&target.names)
        };
    }
    Ok(so_far)
}

/// The target of the link that the kernel finds at this path of the machine. What leads out of the
/// layer is taken to be missing: nobody can tell what the machine has there.
fn link_at<'a>(
    layer: &'a LayerTree,
    path: &[&'a [u8]],
    steps: &mut Steps,
) -> Result<Option<&'a [u8]>, Broken> {
    let mut left: VecDeque<&[u8]> = path.iter().copied().collect();
    let mut at: Vec<usize> = vec![LayerTree::ROOT];
    let mut links = 0;
    while let Some(name) = left.pop_front() {
        if name == b".." {
            at.pop();
            if at.is_empty() {
                return Ok(None);
            }
            continue;
        }
        match look(layer, at.last().copied(), name, steps)? {
            There::Missing => return Ok(None),
            There::Directory(node) => at.push(node),
            There::Link(target) if left.is_empty() => return Ok(Some(target)),
            There::Link(target) if target.starts_with(b"/") => return Ok(None),
            There::Link(target) => {
                links += 1;
                check_links(links, MAX_LINKS_OF_KERNEL)?;
                steps.take(STEPS_OF_LINK)?;
                for name in names_of(target).rev() {
                    left.push_front(name);
                }
            }
            There::Other if left.is_empty() => return Ok(None),
            There::Other => return Err(Broken::NotADirectory),
        }
    }
    Ok(None)
}

fn look<'a>(
    layer: &'a LayerTree,
    directory: Option<usize>,
    name: &[u8],
    steps: &mut Steps,
) -> Result<There<'a>, Broken> {
    steps.take(1)?;
    let Some(child) = directory.and_then(|directory| layer.child(directory, name)) else {
        return Ok(There::Missing);
    };
    Ok(match &layer.node(child).body {
        NodeBody::Directory(_) => There::Directory(child),
        NodeBody::Other {
            kind: EntryKind::Symlink { target },
            ..
        } => There::Link(target),
        NodeBody::Other { .. } | NodeBody::Whiteout => There::Other,
    })
}

/// Names of a path or a target, `..` among them.
fn names_of(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|name| !matches!(*name, b"" | b"."))
}

fn check_links(links: usize, limit: usize) -> Result<(), Broken> {
    if links > limit {
        return Err(Broken::TooManyLinks);
    }
    Ok(())
}

fn check_length<'a>(names: impl Iterator<Item = &'a [u8]>) -> Result<(), Broken> {
    let length: usize = names.map(|name| name.len() + 1).sum();
    if length > MAX_PATH + 1 {
        return Err(Broken::TooLong);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::attributes::IMPLICIT;
    use super::super::super::layer::Directory;
    use super::*;

    /// A path, and the target where it is a link; otherwise it is a directory.
    type Entry = (&'static str, Option<&'static str>);

    fn layer(entries: &[Entry]) -> LayerTree {
        let mut layer = LayerTree::new(IMPLICIT);
        for (path, target) in entries {
            let mut at = LayerTree::ROOT;
            let names: Vec<&[u8]> = names_of(path.as_bytes()).collect();
            for (number, name) in names.iter().enumerate() {
                let is_last = number + 1 == names.len();
                let body = match target.filter(|_| is_last) {
                    Some(target) => NodeBody::Other {
                        kind: EntryKind::Symlink {
                            target: target.as_bytes().to_vec(),
                        },
                        attributes: IMPLICIT,
                    },
                    None => NodeBody::Directory(Directory::new(IMPLICIT)),
                };
                at = layer.child(at, name).unwrap_or_else(|| {
                    let node = layer.add(body);
                    layer.give_name(at, name, node).expect("few names");
                    node
                });
            }
        }
        layer
    }

    #[test]
    fn the_two_ways_part_where_a_link_leads_to_a_link_and_back() {
        let one = [("b", Some("a/b")), ("a/b", Some("../a")), ("a/a/b", None)];
        let two = [("l", Some("d/../x")), ("d", Some("e/f")), ("e/f", None)];
        let deep = [("l", Some("m")), ("m", Some("/u/v")), ("u/v", None)];
        let out = [("u/l", Some("../../../v"))];
        let table: [(&[Entry], &str, &str, &str); 9] = [
            (&one, "b/b/b", "a", "a/a/b"),
            (&one, "b/b", "a", "a/a"),
            (&one, "b", "a", "a"),
            (&two, "l", "e/x", "e/x"),
            (&two, "l/y", "e/x/y", "x/y"),
            (&deep, "l/w", "u/v/w", "u/v/w"),
            (&deep, "l", "u/v", "u/v"),
            (&out, "u/l/w", "v/w", "v/w"),
            (&out, "u/none/w", "u/none/w", "u/none/w"),
        ];
        for (entries, path, kernels, containerds) in table {
            let layer = layer(entries);
            let mut steps = Steps::default();
            let text = |path: Vec<u8>| String::from_utf8(path).unwrap();
            let found = of_the_kernel(&layer, path.as_bytes(), &mut steps).unwrap();
            assert_eq!(text(found), kernels, "{path}, the kernel");
            let found = of_containerd(&layer, path.as_bytes(), &mut steps).unwrap();
            assert_eq!(text(found), containerds, "{path}, containerd");
            let resolved = super::super::resolve(&layer, path.as_bytes(), &mut steps);
            assert_eq!(
                matches!(resolved, Err(Broken::Ambiguous)),
                kernels != containerds,
                "{path}"
            );
        }
    }
}
