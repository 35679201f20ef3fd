//! The worker's own directory: the runner, and the code of each container while it runs.
//!
//! ```text
//! <files_dir>/.lock          held by the worker whose directory it is
//! <files_dir>/runner.pyz     what every container has as `/holdfast/runner.pyz`
//! <files_dir>/code/<id>.zip  what one container has as `/holdfast/code.zip`
//! ```
//!
//! The directory is closed to others; the files in it are not, since they are read by whatever user
//! an image has. What a killed worker left goes when the next one starts.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ids::ContainerId;
use rustix::fs::{FlockOperation, flock};
use tokio::io::AsyncWriteExt;
use tonic::{Status, Streaming};
use worker_protocol::CodePiece;

use crate::runner::ARCHIVE;

/// A worker whose parent was killed is still ending its containers when the next one starts.
const LOCK_TIMEOUT: Duration = Duration::from_secs(45);

const LOCK_POLL: Duration = Duration::from_millis(50);

/// Read by the users of images.
const FILE_MODE: u32 = 0o644;

/// Why a worker has no directory.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    #[error("another worker has {0}")]
    Taken(PathBuf),
    #[error("cannot prepare {path}")]
    Io { path: PathBuf, source: io::Error },
}

/// The directory, as long as this is kept.
#[derive(Debug)]
pub(crate) struct Files {
    directory: PathBuf,
    _lock: File,
}

impl Files {
    /// Takes the directory, waiting for a worker that is ending. Blocks.
    pub(crate) fn open(directory: PathBuf) -> Result<Self, FilesError> {
        let failed = |source| FilesError::Io {
            path: directory.clone(),
            source,
        };
        let lock = lock(&directory, LOCK_TIMEOUT).map_err(failed)?;
        let lock = lock.ok_or_else(|| FilesError::Taken(directory.clone()))?;
        prepare(&directory).map_err(failed)?;
        Ok(Self {
            directory,
            _lock: lock,
        })
    }

    /// The runner's archive on this machine.
    pub(crate) fn runner(&self) -> PathBuf {
        runner_in(&self.directory)
    }

    /// Keeps the archive that comes in pieces. It is removed when what is returned is dropped.
    pub(crate) async fn keep_code(
        &self,
        pieces: &mut Streaming<CodePiece>,
        size_bytes: u64,
    ) -> Result<CodeFile, CodeError> {
        let name = format!("{}.zip", ContainerId::new());
        let path = code_in(&self.directory).join(name);
        let mut options = tokio::fs::OpenOptions::new();
        options.write(true).create_new(true).mode(FILE_MODE);
        let mut file = options.open(&path).await?;
        let code = CodeFile { path };
        let mut missing_bytes = size_bytes;
        while let Some(CodePiece { data }) = pieces.message().await? {
            missing_bytes = missing_bytes
                .checked_sub(data.len() as u64)
                .ok_or(CodeError::Length)?;
            file.write_all(&data).await?;
        }
        file.flush().await?;
        match missing_bytes {
            0 => Ok(code),
            _ => Err(CodeError::Length),
        }
    }
}

fn runner_in(directory: &Path) -> PathBuf {
    directory.join("runner.pyz")
}

fn code_in(directory: &Path) -> PathBuf {
    directory.join("code")
}

fn lock(directory: &Path, timeout: Duration) -> io::Result<Option<File>> {
    make_directory(directory)?;
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    let file = options.open(directory.join(".lock"))?;
    let deadline = Instant::now() + timeout;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                std::thread::sleep(LOCK_POLL);
            }
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn prepare(directory: &Path) -> io::Result<()> {
    let code = code_in(directory);
    match fs::remove_dir_all(&code) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    make_directory(&code)?;
    let draft = directory.join(".draft");
    let mut file = File::create(&draft)?;
    file.write_all(ARCHIVE)?;
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    file.sync_all()?;
    fs::rename(draft, runner_in(directory))
}

/// Why there is no code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodeError {
    #[error("the control plane does not give it: {}", .0.code())]
    Refused(#[from] Status),
    #[error("it has another length than was said")]
    Length,
    #[error("cannot keep it: {0}")]
    Io(#[from] io::Error),
}

/// One container's code on this machine.
#[derive(Debug)]
pub(crate) struct CodeFile {
    path: PathBuf,
}

impl CodeFile {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for CodeFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a container's code");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_worker_and_nothing_of_the_one_before() {
        let top = tempfile::tempdir().unwrap();
        let directory = top.path().join("worker");
        let files = Files::open(directory.clone()).unwrap();
        assert_eq!(fs::read(files.runner()).unwrap(), ARCHIVE);
        let mode = files.runner().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, FILE_MODE);
        assert!(lock(&directory, Duration::ZERO).unwrap().is_none());
        let left = code_in(&directory).join("left.zip");
        fs::write(&left, "").unwrap();
        drop(files);
        Files::open(directory).unwrap();
        assert!(!left.exists());
    }
}
