//! A container that runs: passing signals on, waiting for its end, and saying what the end was.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use ids::ContainerId;
use rustix::io::retry_on_intr;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use tokio::io::unix::AsyncFd;

use crate::cgroup::Cgroups;
use crate::signals::Signals;
use crate::spec::ContainerSpec;
use crate::stdio::{Attached, ContainerStdio};
use crate::streams::Outputs;
use crate::sys;

/// A program can ignore being asked to end; the third time it is not asked.
const REQUESTS_BEFORE_KILL: u32 = 3;

/// A started container.
#[derive(Debug)]
pub struct Running {
    id: ContainerId,
    memory_limit_bytes: Option<u64>,
    process: AsyncFd<OwnedFd>,
    attached: Option<Attached>,
    outputs: Option<Outputs>,
    requests_to_end: u32,
}

/// How a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStatus {
    /// The program's own, or 128 and the signal that ended it.
    pub code: u8,
    /// Processes that the kernel killed because the container used more memory than its limit.
    pub memory_kills: u64,
    memory_limit_bytes: Option<u64>,
}

impl ExitStatus {
    /// What to tell about memory kills, if there were any.
    pub fn memory_note(&self) -> Option<MemoryNote> {
        (self.memory_kills > 0).then_some(MemoryNote {
            kills: self.memory_kills,
            limit_bytes: self.memory_limit_bytes,
        })
    }
}

/// Says that a container ran out of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryNote {
    kills: u64,
    limit_bytes: Option<u64>,
}

impl fmt::Display for MemoryNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let processes = if self.kills == 1 {
            "process"
        } else {
            "processes"
        };
        write!(
            f,
            "out of memory: the kernel killed {} {processes}",
            self.kills
        )?;
        match self.limit_bytes {
            Some(limit) => write!(f, " at the container's limit of {limit} bytes"),
            None => write!(f, " of the container"),
        }
    }
}

impl Running {
    pub(crate) fn new(
        spec: &ContainerSpec,
        process: OwnedFd,
        stdio: ContainerStdio,
    ) -> io::Result<Self> {
        let (attached, outputs) = stdio.attach()?;
        Ok(Self {
            id: spec.id,
            memory_limit_bytes: spec.resources.memory_bytes,
            process: sys::watch(process)?,
            attached,
            outputs,
            requests_to_end: 0,
        })
    }

    /// Captured outputs, once; nothing where the container has our streams.
    pub fn take_outputs(&mut self) -> Option<Outputs> {
        self.outputs.take()
    }

    /// Waits for the end of the container, passing signals on meanwhile. Everything that it wrote
    /// to our streams has been passed on when this returns, unless nobody reads it and a signal
    /// says not to wait. May be dropped and called again. Once the container's directory has gone
    /// its end is not known any more.
    pub async fn wait(&mut self, signals: &mut Signals) -> io::Result<ExitStatus> {
        loop {
            tokio::select! {
                ended = self.process.readable() => {
                    drop(ended?);
                    break;
                }
                signal = signals.next() => self.pass_on(signal),
            }
        }
        let code = self.exit_code()?;
        // A machine that is short of descriptors now must not cost the command's own code.
        let memory_kills = Cgroups::detect().map_or(0, |groups| groups.memory_kills(&self.id));
        if let Some(attached) = self.attached.take() {
            let finished = tokio::task::spawn_blocking(|| attached.finish());
            tokio::select! {
                finished = finished => finished?,
                _ = signals.asked_to_end() => {}
            }
        }
        Ok(ExitStatus {
            code,
            memory_kills,
            memory_limit_bytes: self.memory_limit_bytes,
        })
    }

    /// Ends the container at once.
    pub fn kill(&self) {
        self.send(Signal::KILL);
    }

    fn pass_on(&mut self, signal: Signal) {
        if signal == Signal::WINCH {
            if let Some(attached) = &self.attached {
                attached.resize();
            }
            return;
        }
        if signal == Signal::INT || signal == Signal::TERM {
            self.requests_to_end += 1;
        }
        if self.requests_to_end >= REQUESTS_BEFORE_KILL {
            self.kill();
        } else {
            self.send(signal);
        }
    }

    fn send(&self, signal: Signal) {
        // It fails only when the process has ended, which is noticed by itself.
        let _ = pidfd_send_signal(self.process.get_ref(), signal);
    }

    fn exit_code(&self) -> io::Result<u8> {
        let id = || WaitId::PidFd(self.process.get_ref().as_fd());
        let status = retry_on_intr(|| waitid(id(), WaitIdOptions::EXITED))?;
        let status = status.ok_or_else(|| io::Error::other("the container has not ended"))?;
        let code = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => code,
            (None, Some(signal)) => 128 + signal,
            (None, None) => return Err(io::Error::other("the container's end is not known")),
        };
        Ok(u8::try_from(code & 0xff).unwrap_or(u8::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_notes() {
        let status = |memory_kills, memory_limit_bytes| ExitStatus {
            code: 137,
            memory_kills,
            memory_limit_bytes,
        };
        let note = |status: ExitStatus| status.memory_note().map(|note| note.to_string());
        assert_eq!(note(status(0, Some(5))), None);
        let one = "out of memory: the kernel killed 1 process at the container's limit of 5 bytes";
        assert_eq!(note(status(1, Some(5))).as_deref(), Some(one));
        let two = "out of memory: the kernel killed 2 processes of the container";
        assert_eq!(note(status(2, None)).as_deref(), Some(two));
    }
}
