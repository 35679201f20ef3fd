//! The root key's file: made once, never replaced silently, readable by its owner alone.
//!
//! ```text
//! holdfast-root-key 1
//! id 32 hexadecimal digits, derived from the key
//! key 64 hexadecimal digits
//! ```
//!
//! Written to a temporary file, synced, and linked to its name, so that it is whole or absent and
//! of two processes that make it at once one wins and both use that one. Whether a key *may* be
//! made is not decided here.

use std::ffi::OsStr;
use std::fs::{DirEntry, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

use crate::error::VaultError;
use crate::keys::{KEY_BYTES, KEY_ID_BYTES, Key, KeyId};
use crate::place::{parent, sibling, sync_parent};

/// How often the key file is looked at while a rotation elsewhere renames it. Each look sees a
/// whole key; two renames in between would need two rotations.
const ROOT_KEY_ATTEMPTS: usize = 3;
const TEMPORARY: &str = ".tmp";
const HEADER: &str = "holdfast-root-key 1";
/// A key file has 126 bytes; more than this is some other file.
pub(super) const FILE_LIMIT: u16 = 1024;
/// Writing a key and giving it its name takes two syncs. What is older was left by a kill.
const TEMPORARY_LIFE: Duration = Duration::from_mins(1);
/// Bits that let anyone but the owner at the key.
const FORBIDDEN_MODE: u32 = 0o077;

/// The file of the root key and the two names it has during a rotation.
#[derive(Clone, Debug)]
pub(super) struct RootKeyFile {
    path: PathBuf,
}

impl RootKeyFile {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The next key, there from before a rotation commits until it has taken the key's place.
    pub(super) fn next(&self) -> Self {
        Self::new(&sibling(&self.path, ".next"))
    }

    /// Reads the key, or nothing when there is no file.
    pub(super) fn read(&self) -> Result<Option<Key>, VaultError> {
        let file = match OpenOptions::new().read(true).open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.io(error)),
        };
        self.check_owner(&file)?;
        let mut text = Zeroizing::new(Vec::with_capacity(FILE_LIMIT.into()));
        file.take(FILE_LIMIT.into())
            .read_to_end(&mut text)
            .map_err(|error| self.io(error))?;
        parse(&text)
            .map(Some)
            .map_err(|problem| VaultError::RootKeyMalformed {
                path: self.path.clone(),
                problem: problem.to_owned(),
            })
    }

    /// Writes a key where none is. When another process was faster, its key is the answer.
    pub(super) fn create(&self, key: &Key) -> Result<Key, VaultError> {
        self.write_new(key).map_err(|error| self.io(error))?;
        self.read()?
            .ok_or_else(|| self.io(io::ErrorKind::NotFound.into()))
    }

    /// Gives the key a second name, for someone who wants to keep it past a rotation.
    pub(super) fn link_to(&self, path: &Path) -> Result<(), VaultError> {
        match std::fs::hard_link(&self.path, path) {
            Ok(()) => sync_parent(path).map_err(|error| self.io(error)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(VaultError::Exists {
                path: path.to_owned(),
            }),
            Err(error) => Err(self.io(error)),
        }
    }

    /// Puts this key in the place of another, in one step.
    pub(super) fn rename_to(&self, other: &Self) -> Result<(), VaultError> {
        std::fs::rename(&self.path, &other.path)
            .and_then(|()| sync_parent(&other.path))
            .map_err(|error| self.io(error))
    }

    pub(super) fn remove(&self) -> Result<(), VaultError> {
        match std::fs::remove_file(&self.path) {
            Ok(()) => sync_parent(&self.path).map_err(|error| self.io(error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.io(error)),
        }
    }

    /// The key with this id, which during a rotation may still be the next one.
    pub(super) fn matching(&self, wanted: KeyId) -> Result<Key, VaultError> {
        let mut found = None;
        for _ in 0..ROOT_KEY_ATTEMPTS {
            for file in [self, &self.next()] {
                match file.read()? {
                    Some(key) if key.id() == wanted => return Ok(key),
                    Some(key) => found = found.or_else(|| Some(key.id())),
                    None => {}
                }
            }
        }
        let path = self.path().to_owned();
        Err(match found {
            None => VaultError::RootKeyMissing {
                path,
                key_id: wanted.to_string(),
            },
            Some(found) => VaultError::RootKeyWrong {
                path,
                found: found.to_string(),
                expected: wanted.to_string(),
            },
        })
    }

    /// Finishes or undoes what a killed rotation left: the vault's row says which key counts.
    /// Only under the opening lock, where no rotation is under way.
    pub(super) fn settle(&self, wanted: KeyId) -> Result<Key, VaultError> {
        let next = self.next();
        self.remove_left();
        next.remove_left();
        let key = self.matching(wanted)?;
        let in_place = self.read()?.is_some_and(|key| key.id() == wanted);
        if in_place {
            next.remove()?;
        } else {
            next.rename_to(self)?;
        }
        Ok(key)
    }

    /// Refuses a place for a new vault's key in the vault's own directory: a copy of the one would
    /// be a copy of both.
    pub(super) fn refuse_inside(&self, data: &Path) -> Result<(), VaultError> {
        // What is not there cannot be asked where it lies: the names in a path may be links.
        let directory = parent(&self.path);
        let resolved = std::fs::create_dir_all(directory)
            .and_then(|()| std::fs::canonicalize(directory))
            .and_then(|directory| Ok((directory, std::fs::canonicalize(data)?)));
        let (directory, data) = resolved.map_err(|error| self.io(error))?;
        if !directory.starts_with(&data) {
            return Ok(());
        }
        Err(VaultError::RootKeyUnsafe {
            path: self.path.clone(),
            problem: format!("would be in the data directory {}", data.display()),
            fix: "holdfast --root-key /etc/holdfast/root.key".to_owned(),
        })
    }

    fn write_new(&self, key: &Key) -> io::Result<()> {
        std::fs::create_dir_all(parent(&self.path))?;
        // Named after the key: process numbers repeat between containers, keys do not.
        let temporary = sibling(&self.path, &format!(".{}{TEMPORARY}", key.id()));
        let result = write_private(&temporary, &format_key(key))
            .and_then(|()| std::fs::hard_link(&temporary, &self.path));
        std::fs::remove_file(&temporary)?;
        match result {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
            Ok(()) => sync_parent(&self.path),
        }
    }

    /// Removes keys that were written and never got their name, since their process was killed. A
    /// young one may be another vault's, that is being made; what cannot be removed stays.
    fn remove_left(&self) {
        let now = SystemTime::now();
        let is_old = |entry: &DirEntry| {
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            let age = modified
                .ok()
                .and_then(|modified| now.duration_since(modified).ok());
            age.is_some_and(|age| age > TEMPORARY_LIFE)
        };
        let entries = std::fs::read_dir(parent(&self.path)).into_iter().flatten();
        for entry in entries.flatten() {
            if self.is_temporary(&entry.file_name()) && is_old(&entry) {
                let _stays = std::fs::remove_file(entry.path());
            }
        }
    }

    /// Whether that is what a key of this file is written to.
    fn is_temporary(&self, name: &OsStr) -> bool {
        let own = self.path.file_name().unwrap_or_default().as_bytes();
        let rest = name.as_bytes().strip_prefix(own);
        let id = rest
            .and_then(|rest| rest.strip_prefix(b"."))
            .and_then(|rest| rest.strip_suffix(TEMPORARY.as_bytes()));
        id.is_some_and(|id| id.len() == 2 * KEY_ID_BYTES && id.iter().all(u8::is_ascii_hexdigit))
    }

    fn check_owner(&self, file: &File) -> Result<(), VaultError> {
        let metadata = file.metadata().map_err(|error| self.io(error))?;
        let path = self.path.display();
        let user = rustix::process::geteuid().as_raw();
        let (problem, fix) = if !metadata.is_file() {
            let fix = format!("ls -l {path}");
            ("is not a regular file".to_owned(), fix)
        } else if metadata.uid() != user {
            let problem = format!("belongs to user {} and not to {user}", metadata.uid());
            (problem, format!("chown {user} {path}"))
        } else if metadata.mode() & FORBIDDEN_MODE != 0 {
            let mode = metadata.mode() & 0o7777;
            let problem = format!("is open to others (mode {mode:04o})");
            (problem, format!("chmod 600 {path}"))
        } else {
            return Ok(());
        };
        Err(VaultError::RootKeyUnsafe {
            path: self.path.clone(),
            problem,
            fix,
        })
    }

    fn io(&self, source: io::Error) -> VaultError {
        VaultError::Io {
            subject: format!("root key {}", self.path.display()),
            source,
        }
    }
}

/// Writes a file that is on disk when this returns.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn format_key(key: &Key) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::with_capacity(FILE_LIMIT.into()));
    text.extend_from_slice(format!("{HEADER}\nid {}\nkey ", key.id()).as_bytes());
    for byte in key.bytes() {
        text.extend([byte >> 4, byte & 0xf].map(|digit| b"0123456789abcdef"[usize::from(digit)]));
    }
    text.push(b'\n');
    text
}

pub(super) fn parse(text: &[u8]) -> Result<Key, &'static str> {
    let text = std::str::from_utf8(text).map_err(|_| "is not a text")?;
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) {
        return Err("does not start as a holdfast root key of version 1");
    }
    let id = lines.next().and_then(|line| line.strip_prefix("id "));
    let digits = lines.next().and_then(|line| line.strip_prefix("key "));
    let (Some(id), Some(digits), None) = (id, digits, lines.next()) else {
        return Err("does not have exactly the lines id and key");
    };
    let key = Key::from_bytes(parse_hex(digits).ok_or("does not hold 64 hexadecimal digits")?);
    if key.id().to_string() != id {
        return Err("is damaged: its id is not that of its key");
    }
    Ok(key)
}

fn parse_hex(digits: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    if digits.len() != 2 * KEY_BYTES {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_are_written_once_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let file = RootKeyFile::new(&directory.path().join("etc/root.key"));
        assert!(file.read().unwrap().is_none());
        let first = file.create(&Key::random()).unwrap();
        let second = file.create(&Key::random()).unwrap();
        assert_eq!(first.id(), second.id(), "the first key stays");
        assert_eq!(file.read().unwrap().unwrap().bytes(), first.bytes());
        let names: Vec<_> = std::fs::read_dir(directory.path().join("etc"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["root.key"]);
    }

    #[test]
    fn keys_open_to_others_are_refused_with_the_fix() {
        let directory = tempfile::tempdir().unwrap();
        let file = RootKeyFile::new(&directory.path().join("root.key"));
        file.create(&Key::random()).unwrap();
        for mode in [0o640, 0o604, 0o660, 0o644, 0o601] {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(file.path(), permissions).unwrap();
            let error = file.read().unwrap_err();
            let fix = format!("run `chmod 600 {}`", file.path().display());
            assert_eq!(error.hint(), Some(fix), "{mode:o}");
        }
    }

    #[test]
    fn keys_of_others_and_what_is_not_a_file_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = RootKeyFile::new(&directory.path().join("root.key"));
        file.create(&Key::random()).unwrap();
        std::os::unix::fs::chown(file.path(), Some(1234), None).unwrap();
        let error = file.read().unwrap_err().to_string();
        assert!(error.contains("belongs to user 1234"), "{error}");
        let error = RootKeyFile::new(directory.path()).read().unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }

    /// A process that was killed between writing a key and giving it its name leaves a whole key.
    #[test]
    fn keys_that_a_kill_left_without_a_name_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let file = RootKeyFile::new(&directory.path().join("root.key"));
        let key = file.create(&Key::random()).unwrap();
        let id = KeyId([0xab; KEY_ID_BYTES]);
        let left = [
            format!("root.key.{id}.tmp"),
            format!("root.key.next.{id}.tmp"),
        ];
        let kept = [
            format!("root.key.{id}"),
            format!("other.key.{id}.tmp"),
            "root.key.mine.tmp".to_owned(),
        ];
        let long_ago = SystemTime::now() - TEMPORARY_LIFE * 2;
        let write = |name: &str, modified: Option<SystemTime>| {
            let path = directory.path().join(name);
            let written = File::create(&path).unwrap();
            modified
                .into_iter()
                .for_each(|at| written.set_modified(at).unwrap());
            path
        };
        let young = write(&format!("root.key.{}.tmp", KeyId([1; KEY_ID_BYTES])), None);
        let left = left.map(|name| write(&name, Some(long_ago)));
        let kept = kept.map(|name| write(&name, Some(long_ago)));
        file.settle(key.id()).unwrap();
        assert!(left.iter().all(|path| !path.exists()));
        assert!(kept.iter().all(|path| path.exists()) && young.exists());
    }

    #[test]
    fn malformed_files_are_refused() {
        let good = String::from_utf8(format_key(&Key::random()).to_vec()).unwrap();
        assert!(parse(good.as_bytes()).is_ok());
        let other_key = good
            .replace("key ", "key 00")
            .replacen("key 00", "key 11", 1);
        for text in [
            "",
            "holdfast-root-key 2\n",
            &good.replace("id ", "id 0"),
            &good.replace("key ", "yek "),
            &good[..good.len() - 3],
            &format!("{good}more\n"),
            &other_key,
            &good.replace("holdfast", "steadfast"),
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
        let mut flipped = good.clone().into_bytes();
        let last = flipped.len() - 2;
        flipped[last] = if flipped[last] == b'0' { b'1' } else { b'0' };
        assert!(parse(&flipped).unwrap_err().contains("damaged"));
    }
}
