//! The parent's answers about backing files: it makes them in the cache, and shows them to the
//! kernel once they are filled.
//!
//! A mount process that was taken over chooses what is in them, as it chooses what its readers get
//! anyway. It cannot choose which file the kernel reads: only those that were made here for its own
//! mount, of which there is a limit.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use fuser::BackingId;
use image_fs::{BackingFile, BackingPlace, SpanCache};
use rustix::fs::{FileType, fstat};
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::backing::{self, Answer, Question};

/// Files of one mount that the kernel holds at once. Images have some dozens that are large enough;
/// the kernel, not this process, keeps them open.
const MAX_FILES: usize = 256;

/// What one mount's files take of the disk. Images have models of some gigabytes; what is larger
/// still is read by asking.
const MAX_BYTES: u64 = 16 << 30;

/// Questions of one mount. Each file takes two, and some are given up half-way.
const MAX_QUESTIONS: usize = 8 * MAX_FILES;

/// The number of `/dev/fuse`, as Linux has assigned it.
const FUSE_DEVICE: (u32, u32) = (10, 229);

/// The backing files of one mount. They go when this is dropped.
#[derive(Debug)]
pub(super) struct Backing {
    cache: SpanCache,
    most_bytes: u64,
    /// Of all that were made, since the mount process may keep one open that was given up.
    made_bytes: u64,
    held: Vec<BackingPlace>,
    /// Given to be filled.
    filling: Option<BackingFile>,
}

impl Backing {
    pub(super) fn new(cache: SpanCache) -> Self {
        Self {
            cache,
            most_bytes: MAX_BYTES,
            made_bytes: 0,
            held: Vec::new(),
            filling: None,
        }
    }

    /// Answers until the mount process is gone. Afterwards the files are needed for as long as the
    /// mount is, and so is this.
    pub(super) async fn attend(self, socket: OwnedFd) {
        let files = Arc::new(Mutex::new(self));
        if let Err(error) = answer_all(&files, socket).await {
            tracing::debug!(%error, "no more files of the mount are backed");
        }
        std::future::pending::<()>().await;
    }

    fn answer(&mut self, question: Question) -> Answer {
        let answer = match question {
            Question::Wanted { bytes } => self.make(bytes),
            Question::Done { device } => self.show(device.as_fd()),
        };
        answer.unwrap_or_else(|error| {
            tracing::debug!(%error, "a file of the mount is not backed");
            Answer::No
        })
    }

    fn make(&mut self, bytes: u64) -> io::Result<Answer> {
        self.filling = None;
        let is_too_much = self.made_bytes.saturating_add(bytes) > self.most_bytes;
        if bytes == 0 || is_too_much || self.held.len() >= MAX_FILES {
            return Ok(Answer::No);
        }
        let made = self.cache.backing_file(bytes).map_err(io::Error::other)?;
        let Some(made) = made else {
            return Ok(Answer::No);
        };
        self.made_bytes += bytes;
        let file = made.file().try_clone()?;
        self.filling = Some(made);
        Ok(Answer::File(file.into()))
    }

    fn show(&mut self, device: BorrowedFd<'_>) -> io::Result<Answer> {
        let Some(filled) = self.filling.take() else {
            return Ok(Answer::No);
        };
        let is_whole = filled.file().metadata()?.len() == filled.bytes();
        if !is_whole || !is_fuse(device)? {
            return Ok(Answer::No);
        }
        let id = BackingId::create_raw(device, filled.file())?;
        self.held.push(filled.close());
        Ok(Answer::Id(id))
    }
}

async fn answer_all(files: &Arc<Mutex<Backing>>, socket: OwnedFd) -> io::Result<()> {
    // Its messages are whole ones, and it is waited for as any other.
    let socket = UnixStream::from_std(StdUnixStream::from(socket))?;
    for _ in 0..MAX_QUESTIONS {
        let hear = || backing::hear(socket.as_fd());
        let Some(question) = socket.async_io(Interest::READABLE, hear).await? else {
            break;
        };
        let files = Arc::clone(files);
        let answer = tokio::task::spawn_blocking(move || {
            let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
            files.answer(question)
        });
        let answer = answer.await.map_err(io::Error::other)?;
        let tell = || backing::answer(socket.as_fd(), &answer);
        socket.async_io(Interest::WRITABLE, tell).await?;
    }
    Ok(())
}

/// What the number of a request means depends on the device.
fn is_fuse(device: BorrowedFd<'_>) -> io::Result<bool> {
    let found = fstat(device)?;
    let number = (
        rustix::fs::major(found.st_rdev),
        rustix::fs::minor(found.st_rdev),
    );
    let kind = FileType::from_raw_mode(found.st_mode);
    Ok(kind == FileType::CharacterDevice && number == FUSE_DEVICE)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;

    use image_fs::CacheLimits;
    use tempfile::TempDir;

    use super::*;

    const FEW_BYTES: u64 = 1 << 20;

    fn backing() -> (TempDir, Backing) {
        let directory = tempfile::tempdir().unwrap();
        let cache = SpanCache::open(directory.path(), CacheLimits::default()).unwrap();
        let backing = Backing {
            most_bytes: FEW_BYTES,
            ..Backing::new(cache)
        };
        (directory, backing)
    }

    fn wanted(backing: &mut Backing, bytes: u64) -> Option<File> {
        match backing.answer(Question::Wanted { bytes }) {
            Answer::File(file) => Some(file.into()),
            Answer::Id(_) | Answer::No => None,
        }
    }

    fn is_shown(backing: &mut Backing, device: File) -> bool {
        let device = device.into();
        !matches!(backing.answer(Question::Done { device }), Answer::No)
    }

    fn files(directory: &Path) -> usize {
        std::fs::read_dir(directory.join("backing"))
            .unwrap()
            .count()
    }

    fn fuse() -> File {
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(true).open("/dev/fuse").unwrap()
    }

    #[test]
    fn a_mount_gets_so_many_bytes_and_no_more() {
        let (directory, mut backing) = backing();
        for bytes in [0, FEW_BYTES + 1, u64::MAX] {
            assert!(wanted(&mut backing, bytes).is_none(), "{bytes}");
        }
        let part = FEW_BYTES / 4;
        let mut kept_open = Vec::new();
        for _ in 0..4 {
            let file = wanted(&mut backing, part).unwrap();
            assert_eq!(file.metadata().unwrap().len(), part);
            assert_eq!(files(directory.path()), 1, "the one before is given up");
            kept_open.push(file);
        }
        assert!(wanted(&mut backing, 1).is_none(), "all of them may be open");
        drop(backing);
        assert_eq!(files(directory.path()), 0);
    }

    #[test]
    fn a_mount_holds_so_many_files_and_no_more() {
        let (_directory, mut backing) = backing();
        for _ in 0..MAX_FILES {
            wanted(&mut backing, 1).unwrap();
            let taken = backing.filling.take().unwrap();
            backing.held.push(taken.close());
        }
        assert!(wanted(&mut backing, 1).is_none());
    }

    #[test]
    fn nothing_is_shown_to_the_kernel_but_what_was_made_for_it() {
        let (directory, mut backing) = backing();
        assert!(!is_shown(&mut backing, fuse()), "there is no file");
        for device in ["/dev/null", "/etc/passwd", "/proc/self/mem"] {
            wanted(&mut backing, 10).unwrap();
            let device = File::open(device).unwrap();
            assert!(!is_shown(&mut backing, device));
            assert_eq!(files(directory.path()), 0);
        }
        for length in [9, 11] {
            let file = wanted(&mut backing, 10).unwrap();
            file.set_len(length).unwrap();
            assert!(!is_shown(&mut backing, fuse()), "it has {length} bytes");
        }
        wanted(&mut backing, 10).unwrap();
        assert!(!is_shown(&mut backing, fuse()), "nothing is mounted");
        assert!(backing.held.is_empty());
    }

    #[tokio::test]
    async fn who_asks_without_end_is_answered_no_more() {
        let (_directory, backing) = backing();
        let (ours, theirs) = backing::pair().unwrap();
        let attending = tokio::spawn(backing.attend(ours));
        let ask = move || {
            let wanted = || backing::ask(theirs.as_fd(), &Question::Wanted { bytes: 0 });
            std::iter::repeat_with(wanted)
                .take_while(Result::is_ok)
                .count()
        };
        let answers = tokio::task::spawn_blocking(ask).await.unwrap();
        assert_eq!(answers, MAX_QUESTIONS);
        attending.abort();
    }
}
