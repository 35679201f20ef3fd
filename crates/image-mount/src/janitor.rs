//! Takes a mount off whose owner was killed: a process that waits on a pipe for its owner's end.
//!
//! A start clears away what a killed `run` left, but nobody starts anything for a directory that a
//! person mounted. The janitor is started before there is a mount, holds no secret and no file of
//! an image, and takes nothing off but a mount of ours that answers no more.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use crate::mount::{is_ours, unmount_dead};

/// The hidden command that calls [`watch_inherited`].
const COMMAND: &str = "mount-janitor";

/// What the owner says when it has taken its mount off itself.
const IN_ORDER: u8 = b'.';

/// A mount process ends when it sees that its parent is gone; it may be decoding, and the machine
/// busy.
const SERVER_ENDS_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks at a mount whose process is ending.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The process that outlives us by a moment. Dropping it ends it: the mount is gone by then.
#[derive(Debug)]
pub struct Janitor {
    child: Child,
    /// Closed by the kernel when this process ends, however it ends.
    pipe: Option<ChildStdin>,
}

impl Janitor {
    /// Starts `program mount-janitor DIRECTORY`, in a process group of its own: what kills us must
    /// not take it along.
    pub fn start(program: &Path, mountpoint: &Path) -> io::Result<Self> {
        let mut child = Command::new(program)
            .arg(COMMAND)
            .arg(mountpoint)
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let pipe = child.stdin.take();
        Ok(Self { child, pipe })
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            // One that is gone needs no word.
            let _ = pipe.write_all(&[IN_ORDER]);
        }
        let _ = self.child.wait();
    }
}

/// The main function of a process that [`Janitor::start`] started: the pipe is its standard input.
/// Returns when the owner is gone and its mount too.
pub fn watch_inherited(mountpoint: &Path) -> io::Result<()> {
    let mut word = Vec::new();
    io::stdin().take(1).read_to_end(&mut word)?;
    if word == [IN_ORDER] {
        return Ok(());
    }
    let deadline = Instant::now() + SERVER_ENDS_WITHIN;
    while is_ours(mountpoint)? && Instant::now() < deadline {
        match unmount_dead(mountpoint) {
            Ok(true) => {}
            Ok(false) => std::thread::sleep(LOOK_EVERY),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
