//! Random stacks of layers, of every kind of member and every way in which layers meet. One seed
//! makes one stack.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;

use crate::archive::{Member, archive_of};

/// What a stack may have in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// What GNU tar unpacks by containerd's rules.
    Tar,
    /// All that containerd has an opinion on, its refusals included.
    Containerd,
}

/// Few names, so that layers get in each other's way: also one that is not UTF-8, and one for
/// which a header has no room.
const NAMES: [&[u8]; 5] = [b"a", b"b", b"c", b"d\xff", &[b'n'; 110]];

const TARGETS: [&str; 6] = ["a", "b", "../a", "a/b", "/b", "nowhere/at/all"];

const MAX_DEPTH: usize = 4;

/// Layers, lowest first, as archives.
pub(crate) fn stack(dialect: Dialect, seed: u64) -> Vec<Vec<u8>> {
    let mut rng = Rng::with_seed(seed);
    let layers = rng.usize(2..6);
    let (mut stack, mut below) = (Vec::new(), BTreeSet::new());
    for number in 0..layers {
        let mut layer = Layer {
            dialect,
            is_lowest: number == 0,
            rng: rng.fork(),
            members: Vec::new(),
            below: below.clone(),
            names: BTreeMap::new(),
        };
        // An empty layer now and then.
        for _ in 0..rng.usize(0..24) {
            layer.step();
        }
        stack.push(archive_of(&layer.members));
        let names = layer.names.into_iter();
        let others = names.filter(|(_, known)| !matches!(known, Known::Directory));
        below.extend(others.map(|(name, _)| name));
    }
    stack
}

/// What a layer has under a name.
#[derive(Clone, Debug)]
enum Known {
    Directory,
    Whiteout,
    Symlink,
    Linkable(Box<Member>),
    Other,
}

struct Layer {
    dialect: Dialect,
    is_lowest: bool,
    rng: Rng,
    members: Vec<Member>,
    /// What is no directory in some layer below: containerd cannot ask for what would be in it.
    below: BTreeSet<Vec<u8>>,
    names: BTreeMap<Vec<u8>, Known>,
}

impl Layer {
    fn step(&mut self) {
        let path = self.path();
        if !self.can_be_below(&path) {
            return;
        }
        let known = self.names.get(&path);
        let is_directory = matches!(known, Some(Known::Directory));
        // GNU tar makes symbolic links at last, and may then take a later file for its own.
        if self.dialect == Dialect::Tar && matches!(known, Some(Known::Symlink)) {
            return;
        }
        match self.rng.u8(0..16) {
            0..=3 => self.directory(&path),
            4 => self.opaque(&path),
            // Nothing may take the place of a directory of its own layer.
            _ if is_directory => {}
            5 | 6 => self.whiteout(&path),
            7 | 8 => self.symlink(&path),
            9 | 10 => self.hard_link(&path),
            11 => self.special(&path),
            12 => self.sparse(&path),
            _ => self.file(&path),
        }
    }

    fn path(&mut self) -> Vec<u8> {
        let depth = self.rng.usize(1..=MAX_DEPTH);
        let names: Vec<&[u8]> = (0..depth)
            .map(|_| NAMES[self.rng.usize(..NAMES.len())])
            .collect();
        names.join(&b'/')
    }

    /// Below what is no directory nobody unpacks, but that must be refused alike.
    fn can_be_below(&mut self, path: &[u8]) -> bool {
        let is_wild = self.dialect == Dialect::Containerd && self.rng.u8(0..64) == 0;
        let follows = self.dialect == Dialect::Containerd && self.rng.bool();
        let is_lost = |parent: &[u8]| {
            let is_implied = !self.names.contains_key(parent);
            is_implied && parents(parent).any(|above| self.below.contains(above))
        };
        is_wild
            || !parents(path).any(is_lost)
                && parents(path).all(|parent| match self.names.get(parent) {
                    None | Some(Known::Directory) => true,
                    Some(Known::Symlink) => follows,
                    _ => false,
                })
    }

    fn push(&mut self, path: &[u8], known: Known, member: Member) {
        for parent in parents(path) {
            self.names
                .entry(parent.to_vec())
                .or_insert(Known::Directory);
        }
        self.names.insert(path.to_vec(), known);
        self.members.push(member);
    }

    fn directory(&mut self, path: &[u8]) {
        // containerd keeps the attributes that the directory below has, GNU tar does not, and a
        // directory that shares its group is inherited from in different ways.
        let modes = match self.dialect {
            Dialect::Tar => &[0o755, 0o700, 0o711, 0o1777][..],
            Dialect::Containerd => &[0o755, 0o700, 0o1777, 0o2775],
        };
        let mode = modes[self.rng.usize(..modes.len())];
        let mut member = Member::directory([path, b"/"].concat()).mode(mode);
        if self.dialect == Dialect::Containerd && self.rng.u8(0..4) == 0 {
            member = member.xattr("user.directory", [self.rng.u8(..)]);
        }
        let member = self.owned(member);
        let member = self.timed(member);
        self.push(path, Known::Directory, member);
    }

    fn file(&mut self, path: &[u8]) {
        let length = [0, 1, 511, 512, 513, 20_000][self.rng.usize(..6)];
        let content: Vec<u8> = (0..length).map(|_| self.rng.u8(..)).collect();
        let mode = [0o644, 0o755, 0o4755, 0o2711, 0o1600, 0][self.rng.usize(..6)];
        let mut member = Member::file(path, content).mode(mode);
        match self.rng.u8(0..6) {
            0 => member = member.xattr("user.note", [self.rng.u8(..); 9]),
            1 => member = member.xattr("user.empty", ""),
            2 => {
                member = member
                    .mode(0o640)
                    .xattr("system.posix_acl_access", ACCESS_LIST);
            }
            _ => {}
        }
        let member = self.owned(member);
        let member = self.timed(member);
        // A hard link takes capabilities off where a member says nothing of them.
        let known = if self.dialect == Dialect::Tar && self.rng.u8(0..8) == 0 {
            let capable = member.xattr("security.capability", CAPABILITY);
            return self.push(path, Known::Other, capable);
        } else {
            Known::Linkable(Box::new(member.clone()))
        };
        self.push(path, known, member);
    }

    fn symlink(&mut self, path: &[u8]) {
        let target = TARGETS[self.rng.usize(..TARGETS.len())];
        let member = Member::symlink(path, target);
        let member = self.owned(member);
        self.push(path, Known::Symlink, member);
    }

    fn hard_link(&mut self, path: &[u8]) {
        let others = self.names.iter().filter(|(name, _)| *name != path);
        let files: Vec<_> = others
            .filter_map(|(name, known)| match known {
                Known::Linkable(member) => Some((name.clone(), member.clone())),
                _ => None,
            })
            .collect();
        let Some((target, model)) = self.rng.choice(files) else {
            return;
        };
        let mut member = match self.dialect {
            Dialect::Tar => model.linked_as(path),
            Dialect::Containerd => Member::hard_link(path, &target).mode(0o640),
        };
        member = member.link(&target);
        self.push(path, Known::Linkable(model), member);
    }

    fn special(&mut self, path: &[u8]) {
        let member = match self.rng.u8(0..4) {
            0 => Member::of(b'6', path),
            1 => Member::device(b'3', path, 1, 3),
            2 => Member::device(b'4', path, 259, 70_000),
            _ => Member::device(b'3', path, 0, 0),
        };
        let member = self.owned(member);
        self.push(path, Known::Other, member);
    }

    fn sparse(&mut self, path: &[u8]) {
        let Ok(name) = std::str::from_utf8(path) else {
            return;
        };
        let (one, two) = ([1; 512], [2; 700]);
        let parts: &[(u64, &[u8])] = match self.rng.u8(0..3) {
            0 => &[],
            1 => &[(0, &one)],
            _ => &[(4096, &one), (100_000, &two)],
        };
        let member = if self.rng.bool() {
            Member::sparse(name, parts, 300_000)
        } else {
            Member::sparse_by_record(name, parts, 300_000)
        };
        self.push(path, Known::Other, member);
    }

    /// A name that its own layer has is not hidden by it: readers disagree on what that means.
    fn whiteout(&mut self, path: &[u8]) {
        if !self.names.contains_key(path) {
            let marker = marked(path, b".wh.");
            self.push(path, Known::Whiteout, Member::file(marker, ""));
        }
    }

    /// In the lowest layer only at once: later it is for what no member names.
    fn opaque(&mut self, path: &[u8]) {
        let is_allowed = match self.names.get(path) {
            None => true,
            Some(Known::Directory) => !self.is_lowest,
            Some(_) => false,
        };
        if is_allowed {
            self.directory(path);
            let marker = [path, b"/.wh..wh..opq"].concat();
            self.members.push(Member::file(marker, ""));
        }
    }

    fn owned(&mut self, member: Member) -> Member {
        let (user, group) =
            [(0, 0), (1000, 100), (70_000, 5), (4_000_000_000, 0)][self.rng.usize(..4)];
        member.owner(user, group)
    }

    fn timed(&mut self, member: Member) -> Member {
        match self.rng.u8(0..8) {
            0 => member.record("mtime", "1234567890.123456789"),
            1 => member.record("mtime", "-5.25"),
            2 => member.record("mtime", "10413792000.5"),
            3 => member.seconds(-1),
            4 => member.seconds(0),
            _ => member.seconds(i64::from(self.rng.u32(1..1_600_000_000))),
        }
    }
}

/// User 1000 may write: version, then tag, permissions and id of each entry.
pub(crate) const ACCESS_LIST: &[u8] = b"\x02\0\0\0\
    \x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\xe8\x03\0\0\x04\0\0\0\xff\xff\xff\xff\
    \x10\0\x04\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";

/// `cap_net_bind_service+ep`
pub(crate) const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

fn marked(path: &[u8], prefix: &[u8]) -> Vec<u8> {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => [&path[..=slash], prefix, &path[slash + 1..]].concat(),
        None => [prefix, path].concat(),
    }
}

fn parents(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.map(|(at, _)| &path[..at])
}
