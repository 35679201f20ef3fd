//! The runtime at work on a start, and what becomes of a start that nobody waits for any more.
//!
//! The runtime makes processes on the way to the container's own, and asks them how they ended. If
//! it were killed they would come to us, who know nothing of them, and stay as zombies. So a start
//! that is given up is let end, while what it has started is killed, and the directory waits for
//! it. What the runtime then forgets is known by its process group, which it has for itself, or was
//! killed by us.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use ids::ContainerId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use tokio::process::Child;
use tokio::runtime::Handle;

use crate::cgroup::Cgroups;
use crate::run_dir::{Pass, RunDir};

/// A runtime whose container is killed ends within milliseconds, and one that waits for an image
/// does when that is unmounted. One that does not is killed.
const GIVEN_UP_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a start that was given up is looked at, and what it has started meanwhile killed.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Handles kept on what was killed. The runtime's own processes come first and are three; those of
/// a command that has begun need none, since its first process asks them how they ended.
const MAX_KEPT: usize = 16;

/// What a process that was killed may take to end; one that waits for a device never does.
const END_TIMEOUT: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

/// A runtime that has not ended yet. Dropping it gives the start up.
#[derive(Debug)]
pub(crate) struct Starting {
    /// Nothing when it is done.
    work: Option<Work>,
}

#[derive(Debug)]
struct Work {
    child: Child,
    group: Option<Pid>,
    id: ContainerId,
    path: PathBuf,
    _open: Pass,
}

impl Starting {
    /// The command's descriptors are closed when this returns.
    pub(crate) fn spawn(mut command: Command, dir: &RunDir) -> io::Result<Self> {
        let open = dir.gate().enter().ok_or(io::ErrorKind::Interrupted)?;
        command.process_group(0);
        let mut command = tokio::process::Command::from(command);
        let child = command.kill_on_drop(true).spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let work = Work {
            child,
            group: pid.and_then(Pid::from_raw),
            id: dir.id(),
            path: dir.path().to_owned(),
            _open: open,
        };
        Ok(Self { work: Some(work) })
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.work.as_mut().expect("done at the end only").child
    }

    /// The runtime has ended without a container.
    pub(crate) fn fail(mut self) {
        if let Some(work) = self.work.take() {
            work.forget_group();
        }
    }

    /// A handle on the container's first process, when the runtime has ended well.
    pub(crate) fn finish(mut self, dir: &RunDir) -> io::Result<OwnedFd> {
        let process = open_process(dir.path())?;
        dir.adopt(process.try_clone()?);
        self.work = None;
        Ok(process)
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        // Without an executor this process is itself ending, and the runtime is killed.
        if let (Some(work), Ok(executor)) = (self.work.take(), Handle::try_current()) {
            executor.spawn_blocking(move || work.give_up());
        }
    }
}

impl Work {
    fn give_up(mut self) {
        let deadline = Instant::now() + GIVEN_UP_TIMEOUT;
        let mut killed = Vec::new();
        let ended = loop {
            let ended = self.child.try_wait().ok().flatten();
            if ended.is_some() || Instant::now() > deadline {
                break ended;
            }
            match Cgroups::detect().and_then(|groups| groups.kill_once(&self.id)) {
                Ok(processes) => killed.extend(processes.into_iter().flatten()),
                Err(error) => tracing::debug!(id = %self.id, %error, "a start does not end yet"),
            }
            killed.truncate(MAX_KEPT);
            thread::sleep(LOOK_EVERY);
        };
        match ended {
            // It was done before it could be hindered.
            Some(status) if status.success() => killed.extend(open_process(&self.path)),
            Some(_) => {}
            None => tracing::warn!(id = %self.id, "a start that was given up does not end"),
        }
        for process in &killed {
            // It fails only when the process has ended.
            let _ = pidfd_send_signal(process, Signal::KILL);
            forget(process);
        }
        self.forget_group();
    }

    /// Asks what the runtime has left of its own how it ended. The group's number is given to
    /// nobody else as long as one of these is there.
    fn forget_group(&self) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let Some(group) = self.group else { return };
        let next = || retry_on_intr(|| waitid(WaitId::Pgid(Some(group)), options));
        while let Ok(Some(_)) = next() {}
    }
}

/// Asks a child that was killed how it ended, so that it does not stay as a zombie. One that was
/// asked before, or is another's, is no child of ours, which is just as well.
pub(crate) fn forget(process: &OwnedFd) {
    let mut end = [PollFd::new(process, PollFlags::IN)];
    let _ = retry_on_intr(|| poll(&mut end, Some(&END_TIMEOUT)));
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let _ = retry_on_intr(|| waitid(WaitId::PidFd(process.as_fd()), options));
}

/// A handle on the container's first process, which cannot become another's.
fn open_process(directory: &Path) -> io::Result<OwnedFd> {
    let text = fs::read_to_string(directory.join("pid"))?;
    let pid = text.trim().parse().ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("the runtime wrote no process id"))?;
    // It is our child: if it has ended it waits to be asked for its exit status, so that its number
    // is not given to anybody else.
    Ok(pidfd_open(pid, PidfdFlags::NONBLOCK)?)
}
