//! Finding files of an image by path, as its programs and its dynamic loader would. Pure.

use std::collections::VecDeque;

use layer_index::{InodeId, NodeKind, Tree};

/// Links that are followed on one way, as in the kernel.
const MAX_LINKS: usize = 40;

/// Steps on one way: a path of the greatest length through links of the greatest length.
const MAX_STEPS: usize = 4096;

/// Directories of one search.
const MAX_DIRECTORIES: usize = 64;

/// Where programs are sought when nobody says.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where libraries are, of Debian's kind, of Red Hat's and of Alpine's.
const LIBRARY_DIRECTORIES: &[&str] = &[
    #[cfg(target_arch = "x86_64")]
    "/lib/x86_64-linux-gnu",
    #[cfg(target_arch = "x86_64")]
    "/usr/lib/x86_64-linux-gnu",
    #[cfg(target_arch = "aarch64")]
    "/lib/aarch64-linux-gnu",
    #[cfg(target_arch = "aarch64")]
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
    "/usr/local/lib",
];

/// What the loader reads before it opens a library.
pub(super) const LOADER_CACHE: &[u8] = b"/etc/ld.so.cache";

/// A file, and its path without links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) inode: InodeId,
    pub(super) path: Vec<u8>,
}

impl Found {
    pub(super) fn directory(&self) -> &[u8] {
        let slash = self.path.iter().rposition(|byte| *byte == b'/');
        &self.path[..slash.unwrap_or_default()]
    }
}

/// Where a file's libraries are sought.
pub(super) struct Libraries<'a> {
    /// What the file says itself.
    pub(super) own: &'a [u8],
    pub(super) of_environment: &'a str,
    /// The directory of the file, which it calls its origin.
    pub(super) beside: &'a [u8],
}

/// The regular file at a path from the root.
pub(super) fn resolve(tree: &Tree, path: &[u8]) -> Option<Found> {
    let components = |path: &[u8]| -> Vec<Vec<u8>> {
        let all = path.split(|byte| *byte == b'/').map(<[u8]>::to_vec);
        all.filter(|name| !name.is_empty() && name != b".")
            .collect()
    };
    let mut left: VecDeque<Vec<u8>> = components(path).into();
    let mut way: Vec<(InodeId, Vec<u8>)> = Vec::new();
    let (mut links, mut steps) = (0, 0);
    while let Some(name) = left.pop_front() {
        steps += 1;
        if steps > MAX_STEPS {
            return None;
        }
        if name == b".." {
            way.pop();
            continue;
        }
        let here = way.last().map_or(tree.root(), |(inode, _)| *inode);
        let next = tree.lookup(here, &name)?;
        let NodeKind::Symlink { target } = &tree.inode(next)?.kind else {
            way.push((next, name));
            continue;
        };
        links += 1;
        if links > MAX_LINKS {
            return None;
        }
        if target.starts_with(b"/") {
            way.clear();
        }
        for name in components(target).into_iter().rev() {
            left.push_front(name);
        }
    }
    let inode = way.last()?.0;
    let is_file = matches!(tree.inode(inode)?.kind, NodeKind::File { .. });
    let path = way.iter().flat_map(|(_, name)| [b"/", &name[..]].concat());
    is_file.then(|| Found {
        inode,
        path: path.collect(),
    })
}

/// A program by its path or its name.
pub(super) fn program(tree: &Tree, name: &str, working_dir: &str, path: &str) -> Option<Found> {
    if name.starts_with('/') {
        return resolve(tree, name.as_bytes());
    }
    if name.contains('/') {
        return resolve(tree, &joined(working_dir.as_bytes(), name.as_bytes()));
    }
    let path = if path.is_empty() { USUAL_PATH } else { path };
    let mut directories = path.split(':').take(MAX_DIRECTORIES);
    directories.find_map(|directory| resolve(tree, &joined(directory.as_bytes(), name.as_bytes())))
}

/// A library by its path or its name.
pub(super) fn library(tree: &Tree, name: &[u8], libraries: &Libraries<'_>) -> Option<Found> {
    if name.contains(&b'/') {
        return resolve(tree, name);
    }
    let named = [libraries.own, libraries.of_environment.as_bytes()];
    let named = named
        .iter()
        .flat_map(|directories| directories.split(|byte| *byte == b':'))
        .filter(|directory| !directory.is_empty())
        .map(|directory| from_origin(directory, libraries.beside))
        .take(MAX_DIRECTORIES);
    let usual = LIBRARY_DIRECTORIES.iter();
    let mut all = named.chain(usual.map(|directory| directory.as_bytes().to_vec()));
    all.find_map(|directory| resolve(tree, &joined(&directory, name)))
}

/// A directory that may be named by where its file lies.
fn from_origin(directory: &[u8], origin: &[u8]) -> Vec<u8> {
    let marks = [&b"$ORIGIN"[..], b"${ORIGIN}"];
    let rest = marks.iter().find_map(|mark| directory.strip_prefix(*mark));
    rest.map_or_else(|| directory.to_vec(), |rest| [origin, rest].concat())
}

fn joined(directory: &[u8], name: &[u8]) -> Vec<u8> {
    [directory, b"/", name].concat()
}
