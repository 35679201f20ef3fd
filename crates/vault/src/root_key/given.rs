//! A root key that was given to us: a credential of the service manager, or an open file.
//!
//! It is read and never made, changed or removed: whoever gives it keeps it. Of both the text is
//! that of a key's own file. Only regular files are taken, which a new keeper can read again.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::file::{FILE_LIMIT, parse};
use super::source::KeySource;
use crate::error::VaultError;
use crate::keys::{Key, KeyId};

/// What others may not do. A group may read: where a service has a user of its own, systemd lets it
/// in by an access list, whose mask is shown in the place of the group's rights.
const FORBIDDEN_MODE: u32 = 0o037;

/// The key of a source that we do not write.
#[derive(Debug)]
pub(crate) struct GivenHolder {
    source: KeySource,
    reading: Reading,
    /// What was read stays: a credential does not change while its service runs.
    held: Mutex<Option<Key>>,
}

/// What is read.
#[derive(Debug)]
enum Reading {
    /// What has the name of the source.
    Named,
    /// The file that came from the process that inherited it, if it had one.
    Sent(Option<File>),
}

impl GivenHolder {
    /// Of a source that this process can open.
    pub(super) fn named(source: &KeySource) -> Self {
        Self::new(source, Reading::Named)
    }

    /// Of a source that another process has opened.
    pub(super) fn sent(source: &KeySource, file: Option<OwnedFd>) -> Self {
        Self::new(source, Reading::Sent(file.map(File::from)))
    }

    fn new(source: &KeySource, reading: Reading) -> Self {
        Self {
            source: source.clone(),
            reading,
            held: Mutex::default(),
        }
    }

    /// The key that is there. There being none is no reason to make one.
    pub(super) fn first(&self) -> Result<KeyId, VaultError> {
        match self.read()? {
            Some(key) => Ok(key.id()),
            None => Err(VaultError::RootKeyNotGiven { path: self.path() }),
        }
    }

    pub(super) fn key(&self, wanted: KeyId) -> Result<Key, VaultError> {
        match self.read()? {
            Some(key) if key.id() == wanted => Ok(key),
            Some(key) => Err(VaultError::RootKeyWrong {
                path: self.path(),
                found: key.id().to_string(),
                expected: wanted.to_string(),
            }),
            None => Err(VaultError::RootKeyMissing {
                path: self.path(),
                key_id: wanted.to_string(),
            }),
        }
    }

    /// The refusal to replace it.
    pub(super) fn not_ours(&self) -> VaultError {
        VaultError::RootKeyNotOurs { path: self.path() }
    }

    fn read(&self) -> Result<Option<Key>, VaultError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_none() {
            *held = self.read_anew()?;
        }
        Ok(held.clone())
    }

    fn read_anew(&self) -> Result<Option<Key>, VaultError> {
        let opened = match &self.reading {
            Reading::Named => open(&self.path()),
            Reading::Sent(Some(file)) => file.try_clone(),
            Reading::Sent(None) => return Ok(None),
        };
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.io(error)),
        };
        self.check(&file.metadata().map_err(|error| self.io(error))?)?;
        let text = read_whole(&file).map_err(|error| self.io(error))?;
        parse(&text)
            .map(Some)
            .map_err(|problem| VaultError::RootKeyMalformed {
                path: self.path(),
                problem: problem.to_owned(),
            })
    }

    fn check(&self, metadata: &Metadata) -> Result<(), VaultError> {
        let user = rustix::process::geteuid().as_raw();
        let path = self.path();
        let shown = path.display();
        let (problem, fix) = if !metadata.is_file() {
            let fix = format!("ls -lL {shown}");
            ("is not a regular file".to_owned(), fix)
        } else if ![0, user].contains(&metadata.uid()) {
            let problem = format!("belongs to user {} and not to {user}", metadata.uid());
            (problem, format!("ls -lL {shown}"))
        } else if metadata.nlink() > 0 && metadata.mode() & FORBIDDEN_MODE != 0 {
            // What has no name, such as a file in memory, is not opened by it.
            let mode = metadata.mode() & 0o7777;
            let problem = format!("is open to others (mode {mode:04o})");
            (problem, format!("ls -lL {shown}"))
        } else {
            return Ok(());
        };
        Err(VaultError::RootKeyUnsafe { path, problem, fix })
    }

    fn path(&self) -> PathBuf {
        self.source.path()
    }

    fn io(&self, source: io::Error) -> VaultError {
        VaultError::Io {
            subject: format!("root key {}", self.path().display()),
            source,
        }
    }
}

/// Opens a file to read, without waiting for whoever would write into a pipe.
pub(crate) fn open(path: &std::path::Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// From the beginning, wherever the file was read to before.
fn read_whole(file: &File) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(vec![0; FILE_LIMIT.into()]);
    let mut length = 0;
    while length < text.len() {
        match file.read_at(&mut text[length..], length as u64) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    text.truncate(length);
    Ok(text)
}
