//! This test program in other roles, which the tests start: a keeper, and a keeper that kills.
//!
//! The second stands between a vault and a real keeper, passes on what they say, and at the step
//! that its arguments name kills one of them, or waits for the test.

use std::ffi::OsString;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::{Signal, getppid, kill_process};
use vault::{KeeperError, KeeperProgram};

/// When who is killed, in words that are arguments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kill {
    pub(crate) victim: Victim,
    pub(crate) moment: Moment,
    /// Questions are counted from one, the vault's opening first.
    pub(crate) question: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Victim {
    Keeper,
    Vault,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Moment {
    Asked,
    Done,
}

/// This program, which runs a test of this module and nothing else.
pub(crate) fn program(role: &str) -> KeeperProgram {
    let arguments = ["--exact", &format!("role::{role}"), "--test-threads", "1"];
    KeeperProgram {
        program: std::env::current_exe().unwrap(),
        arguments: arguments.map(OsString::from).to_vec(),
    }
}

#[test]
fn key_keeper() {
    match vault::keep_root_key() {
        // Run with the other tests: there is nobody to keep a key for.
        Ok(()) | Err(KeeperError::NotASocket) => {}
        Err(error) => panic!("{error}"),
    }
}

impl Kill {
    /// As the name of a test that there is not, so that the program takes it for one.
    pub(crate) fn word(self) -> String {
        let Self {
            victim,
            moment,
            question,
        } = self;
        format!("kill-{victim:?}-{moment:?}-{question}")
    }

    pub(crate) fn program(self) -> KeeperProgram {
        let mut program = program("killing_keeper");
        program.arguments.push(self.word().into());
        program
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        let words: Vec<&str> = word.split('-').collect();
        let ["kill", victim, moment, question] = *words else {
            return None;
        };
        Some(Self {
            victim: [Victim::Keeper, Victim::Vault]
                .into_iter()
                .find(|known| format!("{known:?}") == victim)?,
            moment: [Moment::Asked, Moment::Done]
                .into_iter()
                .find(|known| format!("{known:?}") == moment)?,
            question: question.parse().ok()?,
        })
    }
}

/// Where a question waits for the test: two pipes in a directory, `asked` and `go`.
#[derive(Clone, Debug)]
pub(crate) struct Pause {
    pub(crate) question: usize,
    pub(crate) directory: PathBuf,
}

impl Pause {
    pub(crate) fn program(&self) -> KeeperProgram {
        for pipe in ["asked", "go"] {
            let made = Command::new("mkfifo")
                .arg(self.directory.join(pipe))
                .status();
            assert!(made.unwrap().success());
        }
        let mut program = program("killing_keeper");
        let word = format!("pause={}={}", self.question, self.directory.display());
        program.arguments.push(word.into());
        program
    }

    fn parse(word: &str) -> Option<Self> {
        let (question, directory) = word.strip_prefix("pause=")?.split_once('=')?;
        Some(Self {
            question: question.parse().ok()?,
            directory: directory.into(),
        })
    }

    /// The keeper's side: says that it was asked, and waits.
    fn wait(&self) {
        std::fs::write(self.directory.join("asked"), "asked").unwrap();
        std::fs::read(self.directory.join("go")).unwrap();
    }

    /// The test's side: does this while the question waits.
    pub(crate) async fn meanwhile<T>(&self, work: impl Future<Output = T>) -> T {
        let pipe = |name| self.directory.join(name);
        let (asked, go) = (pipe("asked"), pipe("go"));
        let asked = tokio::task::spawn_blocking(|| std::fs::read(asked));
        asked.await.unwrap().unwrap();
        let done = work.await;
        let go = tokio::task::spawn_blocking(|| std::fs::write(go, "go"));
        go.await.unwrap().unwrap();
        done
    }
}

#[test]
fn killing_keeper() {
    let kill = std::env::args().find_map(|word| Kill::parse(&word));
    let pause = std::env::args().find_map(|word| Pause::parse(&word));
    if kill.is_none() && pause.is_none() {
        return;
    }
    let vault = UnixStream::from(rustix::stdio::stdin().try_clone_to_owned().unwrap());
    let (keeper, theirs) = UnixStream::pair().unwrap();
    let child = program("key_keeper");
    let mut child = Command::new(&child.program)
        .args(&child.arguments)
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    pass(&vault, &keeper);
    for question in 1.. {
        let at = |moment| kill.filter(|kill| kill.question == question && kill.moment == moment);
        let Some((bytes, lock)) = receive(&vault) else {
            break;
        };
        if let Some(pause) = pause.as_ref().filter(|pause| pause.question == question) {
            pause.wait();
        }
        if let Some(kill) = at(Moment::Asked) {
            return end(kill.victim, &mut child);
        }
        send(&keeper, &bytes, lock);
        let (reply, _) = receive(&keeper).unwrap();
        if let Some(kill) = at(Moment::Done) {
            return end(kill.victim, &mut child);
        }
        send(&vault, &reply, None);
    }
    drop(keeper);
    child.wait().unwrap();
}

fn end(victim: Victim, keeper: &mut Child) {
    match victim {
        Victim::Keeper => keeper.kill().unwrap(),
        Victim::Vault => {
            kill_process(getppid().unwrap(), Signal::KILL).unwrap();
            // It lets go of its lock when it is gone, and then its end of the socket is closed.
            let mut rest = UnixStream::from(rustix::stdio::stdin().try_clone_to_owned().unwrap());
            let _reset = rest.read_to_end(&mut Vec::new());
            keeper.kill().unwrap();
        }
    }
    keeper.wait().unwrap();
}

fn pass(from: &UnixStream, to: &UnixStream) {
    if let Some((bytes, lock)) = receive(from) {
        send(to, &bytes, lock);
    }
}

/// A frame and the file that came with it.
fn receive(mut socket: &UnixStream) -> Option<(Vec<u8>, Option<OwnedFd>)> {
    let mut length = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let buffers = &mut [IoSliceMut::new(&mut length)];
    let received = recvmsg(socket, buffers, &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
    let file = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    if received.bytes < length.len() {
        return None;
    }
    let mut bytes = length.to_vec();
    bytes.resize(length.len() + u32::from_le_bytes(length) as usize, 0);
    socket.read_exact(&mut bytes[length.len()..]).ok()?;
    Some((bytes, file))
}

fn send(mut socket: &UnixStream, bytes: &[u8], file: Option<OwnedFd>) {
    let Some(file) = file else {
        return socket.write_all(bytes).unwrap();
    };
    let files: [BorrowedFd<'_>; 1] = [file.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&files)));
    let sent = sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::empty(),
    );
    assert_eq!(sent.unwrap(), bytes.len());
}
