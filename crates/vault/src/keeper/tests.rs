//! The keeper as a process: this test program again, spoken to by hand.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use fastrand::Rng;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::wire::{PROTOCOL, send_with_file};
use super::{Keeper, KeeperError, KeeperProgram, keep_root_key};
use crate::error::VaultError;
use crate::keys::KeyId;
use crate::place::OpeningLock;
use crate::root_key::{HoldsRootKey, KeySource};

/// A keeper that has not ended by then hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the role ends when it was told nonsense: not as by a panic.
const REFUSED: i32 = 3;

const ARGUMENTS: [&str; 4] = ["--exact", "keeper::tests::role", "--test-threads", "1"];

pub(crate) fn own_program() -> KeeperProgram {
    KeeperProgram {
        program: std::env::current_exe().unwrap(),
        arguments: ARGUMENTS.map(OsString::from).to_vec(),
    }
}

/// What [`own_program`] runs.
#[test]
fn role() {
    match keep_root_key() {
        // Run with the other tests: there is nobody to keep a key for.
        Ok(()) | Err(KeeperError::NotASocket) => {}
        Err(_refused) => std::process::exit(REFUSED),
    }
}

/// A keeper, and the socket in hand.
struct Spoken {
    child: Child,
    socket: UnixStream,
}

impl Spoken {
    fn start() -> Self {
        let (socket, theirs) = UnixStream::pair().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(ARGUMENTS)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, socket }
    }

    fn opened(file: &Path) -> Self {
        let mut spoken = Self::start();
        let file = hex(file.to_str().unwrap().as_bytes());
        spoken.say(&frame(&json!({"version": 1, "message": {"file": file}})));
        spoken
    }

    /// Says something; one that has ended meanwhile does not hear it.
    fn say(&mut self, bytes: &[u8]) {
        let _ended = self.socket.write_all(bytes);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Closes our end, and gives what was still answered and how the process ended.
    fn end(mut self) -> (Vec<u8>, ExitStatus) {
        let _ended = self.socket.shutdown(std::net::Shutdown::Write);
        let mut said = Vec::new();
        // A keeper that ends with something unread resets the connection.
        let _reset = self.socket.read_to_end(&mut said);
        (said, self.child.wait().unwrap())
    }
}

fn frame(message: &serde_json::Value) -> Vec<u8> {
    let json = message.to_string();
    let length = u32::try_from(json.len()).unwrap().to_le_bytes();
    [&length, json.as_bytes()].concat()
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    digits.collect::<Vec<_>>().concat()
}

fn require(root: &str) -> Vec<u8> {
    frame(&json!({"version": 1, "message": {"require": {"root": root}}}))
}

#[test]
fn a_keeper_answers_in_order_and_ends_with_its_parent() {
    let directory = tempfile::tempdir().unwrap();
    let mut spoken = Spoken::opened(&directory.path().join("root.key"));
    spoken.say(&require(&hex(&[1; 16])));
    spoken.say(&require(&hex(&[2; 16])));
    let (said, status) = spoken.end();
    let said = String::from_utf8_lossy(&said);
    let first = said.find(&hex(&[1; 16])).unwrap();
    assert!(first < said.find(&hex(&[2; 16])).unwrap(), "{said}");
    assert!(status.success(), "{status}");
    let (said, status) = Spoken::start().end();
    assert!(said.is_empty() && status.success(), "{status}");
}

#[test]
fn whatever_is_malformed_ends_the_keeper() {
    let id = hex(&[3; 16]);
    let message = |message: serde_json::Value| frame(&json!({"version": 1, "message": message}));
    let huge = u32::try_from(PROTOCOL.max_bytes + 1).unwrap().to_le_bytes();
    for (what, bytes) in [
        ("no JSON", [&4_u32.to_le_bytes()[..], b"junk"].concat()),
        ("empty", vec![0; 4]),
        ("giant", huge.to_vec()),
        ("largest number", vec![0xff; 4]),
        ("cut length", vec![1, 0]),
        ("cut body", require(&id)[..20].to_vec()),
        (
            "another version",
            frame(&json!({"version": 2, "message": {}})),
        ),
        ("no version", frame(&json!({"message": "done"}))),
        ("unknown question", message(json!({"reveal": {"root": id}}))),
        (
            "unknown field",
            message(json!({"require": {"root": id, "more": 1}})),
        ),
        ("missing field", message(json!({"require": {}}))),
        (
            "opened again",
            message(json!({"file": hex(b"/etc/root.key")})),
        ),
        ("short id", message(json!({"require": {"root": "00"}}))),
        (
            "long id",
            message(json!({"require": {"root": format!("{id}00")}})),
        ),
        (
            "no digits",
            message(json!({"require": {"root": "zz".repeat(16)}})),
        ),
        (
            "relative path",
            message(json!({"first": {"data": hex(b"data")}})),
        ),
        (
            "path with a zero",
            message(json!({"first": {"data": hex(b"/a\0b")}})),
        ),
        (
            "endless path",
            message(json!({"first": {"data": hex(&[b'/'; 5000])}})),
        ),
        (
            "deep nesting",
            [&9000_u32.to_le_bytes()[..], &[b'['; 9000]].concat(),
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let mut spoken = Spoken::opened(&directory.path().join("root.key"));
        spoken.say(&bytes);
        // Were it to go on, this one would be answered.
        if !what.starts_with("cut") {
            spoken.say(&require(&id));
        }
        let (said, status) = spoken.end();
        assert!(
            said.is_empty(),
            "{what}: {}",
            String::from_utf8_lossy(&said)
        );
        assert_eq!(status.code(), Some(REFUSED), "{what}: {status}");
        let files = std::fs::read_dir(directory.path()).unwrap();
        assert_eq!(files.count(), 0, "{what}");
    }
}

#[test]
fn garbage_never_panics_a_keeper() {
    let mut random = random();
    let directory = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let mut spoken = Spoken::opened(&directory.path().join("root.key"));
        let mut bytes = require(&hex(&[4; 16]));
        for _ in 0..=random.u64(..4) {
            let at = usize::try_from(random.u64(..bytes.len() as u64)).unwrap();
            bytes[at] = u8::try_from(random.u64(..256)).unwrap();
        }
        spoken.say(&bytes);
        let (said, status) = spoken.end();
        // A changed digit of the id is another id, which is answered; anything else is not.
        let answered = String::from_utf8_lossy(&said).contains("missing");
        let ended = said.is_empty() && status.code() == Some(REFUSED);
        assert!(answered || ended, "round {round}: {bytes:?} {status}");
    }
}

/// A rotation could otherwise come between, and lose its key to the removal of this one's.
#[tokio::test]
async fn a_keeper_whose_parent_was_killed_holds_the_lock_until_it_is_done() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let lock = OpeningLock::take(&data, None).await.unwrap();
    let mut spoken = Spoken::opened(&directory.path().join("root.key"));
    spoken.signal(Signal::STOP);
    let question = json!({"first": {"data": hex(data.as_os_str().as_encoded_bytes())}});
    let bytes = frame(&json!({"version": 1, "message": question}));
    let sent = send_with_file(spoken.socket.as_fd(), &bytes, lock.file());
    assert_eq!(sent.unwrap(), bytes.len());
    let file = File::open(directory.path().join("data/vault.db.lock")).unwrap();
    let is_free = || flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();

    // What the kernel does for a process that is killed.
    drop(lock);
    spoken.socket.shutdown(std::net::Shutdown::Both).unwrap();
    assert!(!is_free(), "the keeper still has to do it");
    spoken.signal(Signal::CONT);
    spoken.child.wait().unwrap();
    assert!(is_free(), "it is done");
    assert!(directory.path().join("root.key").exists());
}

#[tokio::test]
async fn a_program_that_is_no_keeper_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("root.key");
    let keeper = |program: &str, arguments: &[&str]| {
        let program = KeeperProgram {
            program: program.into(),
            arguments: arguments.iter().map(OsString::from).collect(),
        };
        Keeper::new(program, &KeySource::File(file.clone()))
    };
    let error = keeper("/no/such/program", &[])
        .require(KeyId([0; 16]))
        .await;
    let error = error.unwrap_err();
    assert!(
        matches!(error, VaultError::KeeperNotStarted { .. }),
        "{error}"
    );
    assert!(error.hint().is_some());
    for (program, arguments, says) in [
        ("/bin/sh", ["-c", "exit 7"], "exit status: 7"),
        ("/bin/sh", ["-c", "kill -9 $$"], "signal: 9"),
        ("/bin/sh", ["-c", "printf 'AAAA' >&0"], "longer"),
        (
            "/bin/sh",
            ["-c", "printf '\\4\\0\\0\\0junk' >&0"],
            "malformed",
        ),
    ] {
        let error = keeper(program, &arguments).require(KeyId([0; 16])).await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), "keeper", "{error}");
        assert!(error.to_string().contains(says), "{says:?} not in {error}");
        assert!(error.hint().is_some());
    }
}

/// What only computes is asked of a new one at once. What changes files fails, and the next
/// question has a new one.
#[tokio::test]
async fn after_a_dead_keeper_comes_another() {
    let directory = tempfile::tempdir().unwrap();
    let keeper = Keeper::new(
        own_program(),
        &KeySource::File(directory.path().join("root.key")),
    );
    let data = directory.path().join("data");
    let lock = OpeningLock::take(&data, None).await.unwrap();
    let root = keeper.first(&data, &lock).await.unwrap();
    kill(&keeper).await;
    keeper.require(root).await.unwrap();
    kill(&keeper).await;
    let error = keeper.settle(root, &lock).await.unwrap_err();
    assert!(error.to_string().contains("signal: 9"), "{error}");
    keeper.settle(root, &lock).await.unwrap();
}

/// A question that nobody waits for any more leaves no answer for the next one to mistake.
#[tokio::test]
async fn a_question_given_up_is_not_answered_later() {
    let directory = tempfile::tempdir().unwrap();
    let keeper = Keeper::new(
        own_program(),
        &KeySource::File(directory.path().join("root.key")),
    );
    let data = directory.path().join("data");
    let lock = OpeningLock::take(&data, None).await.unwrap();
    let root = keeper.first(&data, &lock).await.unwrap();
    for _ in 0..10 {
        let mut question = keeper.require(KeyId([5; 16]));
        // Polled once, so that it is asked and not answered yet.
        let polled = futures_poll_once(&mut question).await;
        drop((question, polled));
        keeper.require(root).await.unwrap();
    }
}

async fn futures_poll_once<F: Future + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|context| {
        let polled = std::pin::Pin::new(&mut *future).poll(context);
        std::task::Poll::Ready(polled.is_ready())
    })
    .await
}

async fn kill(keeper: &Keeper) {
    let process = keeper.process.lock().await;
    let super::Process::Ready(connection) = &*process else {
        panic!("no keeper runs");
    };
    let pid = i32::try_from(connection.child.id()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

/// The seed is printed, so that a failure can be had again.
fn random() -> Rng {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    Rng::with_seed(seed)
}
