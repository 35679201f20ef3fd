//! Reading and creating files inside an image's root, which is hostile: its symbolic links never
//! lead out, its special files are never opened, and what is read is bounded.
//!
//! Reads are resolved by the kernel (`openat2` with `RESOLVE_IN_ROOT`). Creation walks component
//! by component from an open root, because a missing component behind a symbolic link has to be
//! made where the link points inside the root. Nothing else writes to the root meanwhile: the
//! container has not started.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, chownat, fstat, mkdirat,
    openat, openat2, readlinkat, statat,
};
use rustix::io::Errno;

/// Symbolic links followed in one path, the kernel's own limit.
const MAX_LINKS: usize = 40;

/// Components of one path, links expanded: the kernel's limit on a path's length in single letters.
const MAX_COMPONENTS: usize = 2048;

/// An open root directory.
#[derive(Debug)]
pub(crate) struct Root {
    directory: OwnedFd,
    /// Who owns what is made, as user and group.
    maker: u32,
}

/// What the last component of a created path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    Directory,
    File,
}

impl Root {
    pub(crate) fn open(path: &Path, maker: u32) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, path, flags, Mode::empty())?;
        Ok(Self { directory, maker })
    }

    /// Attributes of the root itself.
    pub(crate) fn stat(&self) -> io::Result<Stat> {
        Ok(fstat(&self.directory)?)
    }

    /// The contents of a regular file, `None` when there is none by that path.
    pub(crate) fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let Some((handle, stat)) = self.find(path)? else {
            return Ok(None);
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("not a regular file"));
        }
        let mut bytes = Vec::new();
        reopen(&handle)?.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::other(format!("larger than {limit} bytes")));
        }
        Ok(Some(bytes))
    }

    /// The first bytes of a regular file, and its attributes.
    pub(crate) fn peek(&self, path: &Path, length: u64) -> io::Result<Option<(Vec<u8>, Stat)>> {
        let Some((handle, stat)) = self.find(path)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            reopen(&handle)?.take(length).read_to_end(&mut bytes)?;
        }
        Ok(Some((bytes, stat)))
    }

    /// Opens without effect on what is opened, following links inside the root.
    fn find(&self, path: &Path) -> io::Result<Option<(OwnedFd, Stat)>> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match retry_on_rename(|| openat2(&self.directory, path, flags, Mode::empty(), resolve)) {
            Ok(handle) => {
                let stat = fstat(&handle)?;
                Ok(Some((handle, stat)))
            }
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Makes sure that something can be mounted on a path, creating directories and at its end a
    /// directory or an empty file where nothing is. Answers where that is, links resolved.
    pub(crate) fn create(&self, path: &Path, made: Made) -> io::Result<PathBuf> {
        let start = self.directory.try_clone()?;
        let mut walk = Walk {
            stack: vec![start],
            names: Vec::new(),
            pending: VecDeque::new(),
            links: 0,
            maker: self.maker,
        };
        walk.expand(path.as_os_str())?;
        while let Some(name) = walk.pending.pop_front() {
            let last = walk.pending.is_empty();
            walk.step(&name, if last { made } else { Made::Directory }, last)?;
        }
        Ok(Path::new("/").join(walk.names.iter().collect::<PathBuf>()))
    }

    /// What is right below the root by a name, links not followed.
    pub(crate) fn kind_of(&self, name: &str) -> io::Result<Option<FileType>> {
        match statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// The kernel gives up on `..` inside a root when anything on the machine is renamed meanwhile.
fn retry_on_rename<T>(mut open: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    /// A path meets that twice only on a machine that does nothing but rename.
    const ATTEMPTS: usize = 128;
    let mut result = open();
    for _ in 1..ATTEMPTS {
        match result {
            Err(Errno::AGAIN | Errno::INTR) => result = open(),
            other => return other,
        }
    }
    result
}

/// A file that was found to be a regular one, for reading.
fn reopen(handle: &OwnedFd) -> io::Result<std::fs::File> {
    use std::os::fd::AsRawFd;
    let path = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()));
    std::fs::File::open(path)
}

/// A walk below a root: the directories from the root to here, and what is still to go. A file at
/// the end has a name and no directory.
struct Walk {
    stack: Vec<OwnedFd>,
    names: Vec<OsString>,
    pending: VecDeque<OsString>,
    links: usize,
    maker: u32,
}

impl Walk {
    /// Puts the components of a path before what is pending; an absolute one starts at the root.
    fn expand(&mut self, path: &OsStr) -> io::Result<()> {
        let path = Path::new(path);
        if path.is_absolute() {
            self.stack.truncate(1);
            self.names.clear();
        }
        let names = path.components().filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        });
        let names: Vec<OsString> = names.collect();
        if names.len() + self.pending.len() > MAX_COMPONENTS {
            return Err(Errno::NAMETOOLONG.into());
        }
        for name in names.into_iter().rev() {
            self.pending.push_front(name);
        }
        Ok(())
    }

    fn here(&self) -> &OwnedFd {
        self.stack.last().expect("the root is never popped")
    }

    fn step(&mut self, name: &OsStr, made: Made, last: bool) -> io::Result<()> {
        if name == ".." {
            if self.stack.len() > 1 {
                self.stack.pop();
                self.names.pop();
            }
            return Ok(());
        }
        let stat = match statat(self.here(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return self.make(name, made),
            Err(errno) => return Err(errno.into()),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => self.follow(name),
            FileType::Directory if last && made == Made::File => Err(Errno::ISDIR.into()),
            FileType::Directory => self.enter(name),
            _ if last && made == Made::File => {
                self.names.push(name.to_owned());
                Ok(())
            }
            _ => Err(Errno::NOTDIR.into()),
        }
    }

    fn make(&mut self, name: &OsStr, made: Made) -> io::Result<()> {
        match made {
            Made::Directory => {
                mkdirat(self.here(), name, Mode::from_raw_mode(0o755))?;
                self.give(name)?;
                self.enter(name)
            }
            Made::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                openat(self.here(), name, flags, Mode::from_raw_mode(0o644))?;
                self.names.push(name.to_owned());
                self.give(name)
            }
        }
    }

    fn give(&self, name: &OsStr) -> io::Result<()> {
        let (user, group) = (Uid::from_raw(self.maker), Gid::from_raw(self.maker));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        chownat(self.here(), name, Some(user), Some(group), flags)?;
        Ok(())
    }

    fn enter(&mut self, name: &OsStr) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let next = openat(self.here().as_fd(), name, flags, Mode::empty())?;
        self.stack.push(next);
        self.names.push(name.to_owned());
        Ok(())
    }

    fn follow(&mut self, name: &OsStr) -> io::Result<()> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::LOOP.into());
        }
        let target = readlinkat(self.here(), name, Vec::new())?;
        self.expand(&OsString::from_vec(target.into_bytes()))
    }
}

/// What a message shows of a text that somebody else chose, before it is escaped.
const MAX_SHOWN_CHARS: usize = 256;

/// A path of the container, bounded and escaped for messages.
pub(crate) fn shown(path: &Path) -> String {
    shown_text(&String::from_utf8_lossy(path.as_os_str().as_bytes()))
}

/// A text of an image, bounded and escaped for messages.
pub(crate) fn shown_text(text: &str) -> String {
    let start: String = text.chars().take(MAX_SHOWN_CHARS).collect();
    let rest = if start.len() < text.len() { "…" } else { "" };
    format!("{}{rest}", start.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn root() -> (tempfile::TempDir, Root) {
        let top = tempfile::tempdir().expect("a directory");
        let inside = top.path().join("root");
        fs::create_dir_all(inside.join("etc")).expect("a directory");
        fs::create_dir(top.path().join("outside")).expect("a directory");
        fs::write(top.path().join("outside/secret"), "secret").expect("a file");
        fs::write(inside.join("etc/passwd"), "inside").expect("a file");
        for (target, name) in [
            ("../../outside/secret", "etc/relative"),
            ("/etc/passwd", "etc/absolute"),
            ("loop", "loop"),
            ("/run/made", "var"),
            ("../../../up", "etc/up"),
            ("/etc/passwd/x", "etc/through-file"),
        ] {
            symlink(target, inside.join(name)).expect("a link");
        }
        let escape = top.path().join("outside");
        symlink(escape, inside.join("escape")).expect("a link");
        rustix::fs::mknodat(
            CWD,
            inside.join("etc/fifo"),
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .expect("a fifo");
        let opened = Root::open(&inside, 0).expect("the root");
        (top, opened)
    }

    #[test]
    fn reads_stay_inside() {
        let (_top, root) = root();
        let read = |path: &str| match root.read(Path::new(path), 6) {
            Ok(Some(bytes)) => String::from_utf8(bytes).expect("text"),
            Ok(None) => String::from("none"),
            Err(error) => error.to_string(),
        };
        let table = [
            ("/etc/passwd", "inside"),
            ("etc/absolute", "inside"),
            ("/etc/relative", "none"),
            ("/etc/missing", "none"),
            ("/etc/through-file", "none"),
            ("/escape/secret", "none"),
            ("/etc/fifo", "not a regular file"),
            ("/etc", "not a regular file"),
        ];
        for (path, expected) in table {
            assert_eq!(read(path), expected, "{path}");
        }
        assert!(read("/loop").contains("symbolic links"));
        let error = root
            .read(Path::new("/etc/passwd"), 5)
            .expect_err("too large");
        assert_eq!(error.to_string(), "larger than 5 bytes");
    }

    #[test]
    fn creation_stays_inside() {
        let (top, root) = root();
        let inside = top.path().join("root");
        let create = |path: &str, made| root.create(Path::new(path), made);
        let table = [
            ("/a/b/c", Made::Directory, "a/b/c"),
            ("/a/b/file", Made::File, "a/b/file"),
            ("/a/b/file", Made::File, "a/b/file"),
            ("/var/log", Made::Directory, "run/made/log"),
            ("/etc/up/x", Made::Directory, "up/x"),
            ("/../../y", Made::Directory, "y"),
            ("/etc/relative", Made::File, "outside/secret"),
            ("/etc/absolute", Made::File, "etc/passwd"),
        ];
        for (path, made, expected) in table {
            let place = create(path, made).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(place, Path::new("/").join(expected), "{path}");
            let meta = fs::symlink_metadata(inside.join(expected)).expect("created");
            assert_eq!(meta.is_dir(), made == Made::Directory, "{path}");
        }
        create("/escape/z", Made::Directory).expect("a path of the same name inside");
        assert!(!top.path().join("outside/z").exists());
        assert!(create("/etc/passwd/x", Made::Directory).is_err());
        assert!(create("/etc/passwd", Made::Directory).is_err());
        assert!(create("/etc/up", Made::File).is_err());
        assert!(
            create("/a/b", Made::File).is_err(),
            "a directory is no file"
        );
        assert!(create("/loop/x", Made::Directory).is_err());
        assert_eq!(
            fs::read(inside.join("etc/passwd")).expect("a file"),
            b"inside"
        );
    }
}
