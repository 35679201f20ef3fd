//! Finding files of an image by path, as its programs and its dynamic loader would. Pure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use layer_index::{InodeId, NodeKind, Tree};

/// Links that are followed on one way, as in the kernel.
const MAX_LINKS: usize = 40;

/// Names that are looked up for one guess. A program with a hundred libraries takes some ten
/// thousand; links and directories that an image makes up could take hours.
const MAX_NAMES: usize = 200_000;

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

/// Looks things up in one tree, and not without end.
#[derive(Debug)]
pub(super) struct Finder {
    tree: Arc<Tree>,
    names_left: AtomicUsize,
}

impl Finder {
    pub(super) fn new(tree: Arc<Tree>) -> Self {
        Self {
            tree,
            names_left: AtomicUsize::new(MAX_NAMES),
        }
    }

    pub(super) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The names of a path that can be afforded.
    fn names(&self, path: &[u8]) -> Option<Vec<Vec<u8>>> {
        let all = path.split(|byte| *byte == b'/').map(<[u8]>::to_vec);
        let names: Vec<_> = all
            .filter(|name| !name.is_empty() && name != b".")
            .collect();
        let pay = |left: usize| left.checked_sub(names.len() + 1);
        let paid = self.names_left.fetch_update(Relaxed, Relaxed, pay);
        paid.is_ok().then_some(names)
    }

    /// The regular file at a path from the root.
    pub(super) fn resolve(&self, path: &[u8]) -> Option<Found> {
        let tree = &self.tree;
        let mut left: VecDeque<Vec<u8>> = self.names(path)?.into();
        let mut way: Vec<(InodeId, Vec<u8>)> = Vec::new();
        let mut links = 0;
        while let Some(name) = left.pop_front() {
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
            for name in self.names(target)?.into_iter().rev() {
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
    pub(super) fn program(&self, name: &str, working_dir: &str, path: &str) -> Option<Found> {
        if name.starts_with('/') {
            return self.resolve(name.as_bytes());
        }
        if name.contains('/') {
            return self.resolve(&joined(working_dir.as_bytes(), name.as_bytes()));
        }
        let path = if path.is_empty() { USUAL_PATH } else { path };
        let mut directories = path.split(':').take(MAX_DIRECTORIES);
        directories
            .find_map(|directory| self.resolve(&joined(directory.as_bytes(), name.as_bytes())))
    }

    /// A library by its path or its name.
    pub(super) fn library(&self, name: &[u8], libraries: &Libraries<'_>) -> Option<Found> {
        if name.contains(&b'/') {
            return self.resolve(name);
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
        all.find_map(|directory| self.resolve(&joined(&directory, name)))
    }
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

#[cfg(test)]
mod tests {
    use layer_index::{
        Builder, Codec, Entry, EntryKind, Layer, LayerIndex, Mtime, Scratch, SpanDigests,
    };

    use super::*;

    fn entry(path: &str, kind: EntryKind) -> Entry {
        Entry {
            path: path.as_bytes().to_vec(),
            kind,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: Mtime::default(),
            xattrs: Vec::new(),
        }
    }

    /// Links by what they lead to, and empty files.
    fn finder(links: &[(&str, &str)], files: &[&str]) -> Finder {
        let scratch = Scratch::in_memory();
        let mut builder = Builder::new(&scratch);
        for path in files {
            let (size, extents) = (0, Vec::new());
            let file = entry(path, EntryKind::File { size, extents });
            builder.entry(&file).unwrap();
        }
        for (path, target) in links {
            let target = target.as_bytes().to_vec();
            let link = entry(path, EntryKind::Symlink { target });
            builder.entry(&link).unwrap();
        }
        let digest = format!("sha256:{}", "ab".repeat(32));
        let layer = Layer {
            layer_digest: digest.clone(),
            diff_id: digest,
            codec: Codec::Tar,
            compressed_size: 0,
        };
        let mut bytes = Vec::new();
        let digests = SpanDigests::new(&scratch);
        builder.finish(layer, digests, &mut bytes).unwrap();
        let index = LayerIndex::decode(bytes.into()).unwrap();
        Finder::new(Arc::new(Tree::merge(&[index]).unwrap()))
    }

    #[test]
    fn paths_lead_where_the_kernel_goes() {
        let links = [
            ("bin", "usr/bin"),
            ("usr/bin/python3", "python3.12"),
            ("usr/bin/absolute", "/opt/tool"),
            ("usr/bin/up", "../../../opt/./tool"),
            ("usr/bin/dangling", "nothing"),
            ("a", "b"),
            ("b", "a"),
        ];
        let finder = finder(&links, &["usr/bin/python3.12", "opt/tool"]);
        for (path, expected) in [
            ("/bin/python3", Some("/usr/bin/python3.12")),
            ("bin//./python3", Some("/usr/bin/python3.12")),
            ("/bin/absolute", Some("/opt/tool")),
            ("/bin/up", Some("/opt/tool")),
            ("/../../opt/tool", Some("/opt/tool")),
            ("/bin/dangling", None),
            ("/bin", None),
            ("/opt/tool/x", None),
            ("/a", None),
            ("", None),
        ] {
            let found = finder.resolve(path.as_bytes());
            let found = found.map(|found| String::from_utf8(found.path).unwrap());
            assert_eq!(found.as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn libraries_are_sought_where_the_loader_does() {
        let files = ["opt/app/lib/libx.so", "srv/lib/libx.so", "usr/lib/libx.so"];
        let finder = finder(&[], &files);
        for (own, of_environment, expected) in [
            ("", "", "/usr/lib/libx.so"),
            ("$ORIGIN/../lib", "/srv/lib", "/opt/app/lib/libx.so"),
            ("${ORIGIN}/../lib:/usr/lib", "", "/opt/app/lib/libx.so"),
            ("/nowhere", ":/srv/lib", "/srv/lib/libx.so"),
        ] {
            let libraries = Libraries {
                own: own.as_bytes(),
                of_environment,
                beside: b"/opt/app/lib",
            };
            let found = finder.library(b"libx.so", &libraries).unwrap();
            assert_eq!(found.path, expected.as_bytes(), "{own} {of_environment}");
        }
    }

    #[test]
    fn what_would_take_hours_is_given_up() {
        let long = "../d/".repeat(200) + "e";
        let finder = finder(&[("e", &long)], &["d/file", "file"]);
        let path = ":/e".repeat(60);
        let libraries = Libraries {
            own: path.as_bytes(),
            of_environment: "",
            beside: b"/",
        };
        for _ in 0..100 {
            assert_eq!(finder.library(b"libx.so", &libraries), None);
        }
        assert_eq!(
            finder.resolve(b"/file"),
            None,
            "nothing is afforded any more"
        );
    }
}
