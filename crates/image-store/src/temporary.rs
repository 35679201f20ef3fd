//! A file that is not there until it is whole.
//!
//! It is locked for as long as somebody writes it, so that what a crash left is told from what is
//! being made, by other processes too.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use crate::remove_whatever;

/// A file under a name of its own. Dropping it removes it; publishing gives it its real name.
#[derive(Debug)]
pub struct Temporary {
    file: File,
    path: PathBuf,
    published: bool,
}

impl Temporary {
    pub(crate) fn new(directory: &Path) -> io::Result<Self> {
        let path = directory.join(unique_name());
        // Nobody takes the file for a dead one before it is locked.
        let _lock = lock(directory)?;
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(&path)?;
        file.lock()?;
        Ok(Self {
            file,
            path,
            published: false,
        })
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Syncs the content, gives the file its name, and syncs that too.
    pub(crate) fn publish(mut self, path: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        self.rename(path)?;
        match path.parent() {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    }

    /// The same without waiting for the disk: for what tells by itself whether it is whole, and may
    /// be lost.
    pub(crate) fn publish_unsynced(mut self, path: &Path) -> io::Result<()> {
        self.rename(path)
    }

    fn rename(&mut self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        self.published = true;
        Ok(())
    }
}

impl Write for Temporary {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.published {
            // What cannot be removed now is swept at the next opening.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes what nobody writes any more.
pub(crate) fn sweep(directory: &Path) -> io::Result<()> {
    let _lock = lock(directory)?;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        // What is no file was not made by us, and opening it may wait for ever.
        let is_file = path
            .symlink_metadata()
            .is_ok_and(|metadata| metadata.is_file());
        let is_dead = || File::open(&path).is_ok_and(|file| file.try_lock().is_ok());
        if !is_file || is_dead() {
            remove_whatever(&path)?;
        }
    }
    Ok(())
}

/// Held while files appear and are swept.
fn lock(directory: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(directory.with_extension("lock"))?;
    file.lock()?;
    Ok(file)
}

/// Unlike any other of this machine and of those that share the directory.
fn unique_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
    format!("{}-{now:x}-{count}", std::process::id())
}
