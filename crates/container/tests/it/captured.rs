//! Containers of one process that runs many: outputs that it reads, a socket to each, a control for
//! each, and nothing left of those that nobody waited for.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use container::{
    ContainerSpec, Control, DEFAULT_SHM_BYTES, IdRange, ImageDefaults, Network, NetworkMode,
    NetworkRequest, Outputs, Overrides, Resources, RunDir, RunError, Running, Runtime, Signals,
    Streams, compose, default_hostname, reap_stale,
};
use ids::ContainerId;
use rustix::fs::OFlags;
use rustix::io::{Errno, FdFlags};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::task::JoinSet;

use crate::fixture::{FIRST_ID, Place};

const CAPTURED: Streams = Streams::Captured { socket: None };

/// A container of this process.
struct Owned {
    dir: RunDir,
    running: Running,
    outputs: Option<Outputs>,
}

fn spec(place: &Place, script: &str) -> ContainerSpec {
    let id = ContainerId::new();
    let hostname = default_hostname(&id);
    let overrides = Overrides {
        args: ["sh", "-c", script].map(str::to_owned).to_vec(),
        ..Overrides::default()
    };
    ContainerSpec {
        id,
        lower: place.lower(),
        process: compose(&ImageDefaults::default(), &overrides, &hostname).unwrap(),
        volumes: Vec::new(),
        network: NetworkMode::None,
        ports: Vec::new(),
        shm_bytes: DEFAULT_SHM_BYTES,
        resources: Resources::default(),
        hostname,
    }
}

fn directory(place: &Place, spec: &ContainerSpec) -> RunDir {
    let ids = Some(IdRange::starting_at(FIRST_ID));
    RunDir::create(&place.run_root(), spec.id, ids).unwrap()
}

async fn run(spec: &ContainerSpec, dir: &RunDir, streams: Streams) -> Result<Running, RunError> {
    let network = Network::prepare(dir, NetworkRequest::default()).await;
    let runtime = Runtime::find().unwrap();
    runtime.run(spec, dir, &network.unwrap(), streams).await
}

async fn start(place: &Place, script: &str, socket: Option<OwnedFd>) -> Owned {
    let spec = spec(place, script);
    let dir = directory(place, &spec);
    let streams = Streams::Captured { socket };
    let mut running = run(&spec, &dir, streams).await.unwrap();
    let outputs = running.take_outputs();
    Owned {
        dir,
        running,
        outputs,
    }
}

/// Reads to the end, which comes when the container's processes have ended.
async fn read(end: OwnedFd) -> String {
    let mut text = String::new();
    let mut receiver = Receiver::from_owned_fd_unchecked(end).unwrap();
    receiver.read_to_string(&mut text).await.unwrap();
    text
}

impl Owned {
    /// What it wrote, and its exit code.
    async fn finish(mut self, signals: &mut Signals) -> (String, String, u8) {
        let Outputs { stdout, stderr } = self.outputs.take().unwrap();
        let (stdout, stderr, status) =
            tokio::join!(read(stdout), read(stderr), self.running.wait(signals));
        self.dir.remove().unwrap();
        (stdout, stderr, status.unwrap().code)
    }

    /// Reads what it writes first.
    async fn first_line(&mut self) -> String {
        let outputs = self.outputs.as_ref().unwrap();
        let end = outputs.stdout.try_clone().unwrap();
        let mut receiver = Receiver::from_owned_fd_unchecked(end).unwrap();
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            line.push(receiver.read_u8().await.unwrap());
        }
        String::from_utf8(line).unwrap()
    }
}

#[tokio::test]
async fn both_outputs_are_read_to_their_end() {
    const SIZE_BYTES: usize = 1 << 20;
    let place = Place::new();
    let script = "head -c 1048576 /dev/zero | tr '\\0' o & \
                  head -c 1048576 /dev/zero | tr '\\0' e >&2; wait; cat; exit 3";
    let owned = start(&place, script, None).await;
    let outputs = owned.outputs.as_ref().unwrap();
    for end in [&outputs.stdout, &outputs.stderr] {
        let flags = rustix::io::fcntl_getfd(end).unwrap();
        assert!(flags.contains(FdFlags::CLOEXEC));
        let flags = rustix::fs::fcntl_getfl(end).unwrap();
        assert!(flags.contains(OFlags::NONBLOCK));
    }
    let (_control, mut signals) = Signals::controlled();
    let (stdout, stderr, code) = owned.finish(&mut signals).await;
    assert!(stdout == "o".repeat(SIZE_BYTES), "{}", stdout.len());
    assert!(stderr == "e".repeat(SIZE_BYTES), "{}", stderr.len());
    assert_eq!(code, 3);
}

#[tokio::test]
async fn a_command_that_waits_has_not_begun_and_goes_with_its_directory() {
    let place = Place::new();
    let (_control, mut signals) = Signals::controlled();
    for begins in [true, false] {
        let spec = spec(&place, "echo out");
        let dir = directory(&place, &spec);
        let network = Network::prepare(&dir, NetworkRequest::default()).await;
        let (network, runtime) = (network.unwrap(), Runtime::find().unwrap());
        let created = runtime.create(&spec, &dir, &network, CAPTURED);
        let created = created.await.unwrap();
        let pid = fs::read_to_string(dir.path().join("pid")).unwrap();
        let program = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        assert!(!program.starts_with(b"sh\0"), "the runtime still has it");
        if !begins {
            dir.remove().unwrap();
            assert!(!Path::new(&format!("/proc/{pid}")).exists());
            continue;
        }
        let mut running = created.start(&dir).await.unwrap();
        let outputs = running.take_outputs();
        let owned = Owned {
            dir,
            running,
            outputs,
        };
        assert_eq!(owned.finish(&mut signals).await.0, "out\n");
    }
}

#[tokio::test]
async fn outputs_outlive_their_container() {
    let place = Place::new();
    let mut owned = start(&place, "echo out; echo err >&2", None).await;
    let (_control, mut signals) = Signals::controlled();
    assert_eq!(owned.running.wait(&mut signals).await.unwrap().code, 0);
    owned.dir.remove().unwrap();
    assert!(owned.running.take_outputs().is_none(), "they were taken");
    let Outputs { stdout, stderr } = owned.outputs.unwrap();
    assert_eq!(
        (read(stdout).await, read(stderr).await),
        ("out\n".to_owned(), "err\n".to_owned())
    );
}

#[tokio::test]
async fn a_container_has_the_descriptors_that_it_was_given() {
    let place = Place::new();
    let (_control, mut signals) = Signals::controlled();
    let script = "ls /proc/1/fd; readlink /proc/1/fd/0; test -p /proc/1/fd/1 -a -p /proc/1/fd/2";
    let owned = start(&place, script, None).await;
    let (stdout, _, code) = owned.finish(&mut signals).await;
    assert_eq!((stdout.as_str(), code), ("0\n1\n2\n/dev/null\n", 0));
    let (ours, theirs) = UnixStream::pair().unwrap();
    let script = "ls /proc/1/fd; test -S /proc/1/fd/3; exit $?";
    let owned = start(&place, script, Some(theirs.into())).await;
    let (stdout, _, code) = owned.finish(&mut signals).await;
    assert_eq!((stdout.as_str(), code), ("0\n1\n2\n3\n", 0));
    let mut rest = String::new();
    BufReader::new(ours).read_line(&mut rest).unwrap();
    assert_eq!(rest, "", "the container's end was the only one");
}

#[tokio::test]
async fn what_captured_streams_are_not_is_refused() {
    let place = Place::new();
    for (terminal, stdin) in [(true, false), (false, true), (true, true)] {
        let mut spec = spec(&place, "true");
        (spec.process.terminal, spec.process.stdin) = (terminal, stdin);
        let dir = directory(&place, &spec);
        let refused = run(&spec, &dir, CAPTURED).await;
        assert!(matches!(refused, Err(RunError::NotCapturable)));
    }
}

/// What a test does to a running container, by its control or its socket.
type Act = fn(Control, &mut UnixStream);

#[tokio::test]
async fn a_control_ends_its_container() {
    let place = Place::new();
    let trap = "trap 'exit 7' TERM; echo ready; while :; do sleep 1000 & wait; done";
    let ignore = "trap '' TERM; echo ready; while :; do sleep 1000 & wait; done";
    let listen = "echo ready; read line <&3; exit 5";
    let table: [(&str, Act, u8); 4] = [
        (trap, |control, _| control.terminate(), 7),
        (trap, |control, _| control.kill(), 137),
        (
            ignore,
            |control, _| (0..3).for_each(|_| control.terminate()),
            137,
        ),
        (
            listen,
            |control, socket| {
                drop(control);
                socket.write_all(b"go on\n").unwrap();
            },
            5,
        ),
    ];
    for (script, act, expected) in table {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let mut owned = start(&place, script, Some(theirs.into())).await;
        let (control, mut signals) = Signals::controlled();
        assert_eq!(owned.first_line().await, "ready\n");
        act(control, &mut ours);
        let (_, _, code) = owned.finish(&mut signals).await;
        assert_eq!(code, expected, "{script}");
    }
}

/// Starts as `launch` does, says a line through the socket once every other is there, and hears it
/// again by each way out.
async fn converse(place: &Place, together: &tokio::sync::Barrier, number: usize) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    assert_eq!(reap_stale(&place.run_root()).len(), 0, "all owners live");
    let script = "read line <&3; echo socket $line >&3; echo output $line; echo error $line >&2; \
                  ls /proc/1/fd; exit 0";
    let owned = start(place, script, Some(theirs.into())).await;
    together.wait().await;
    writeln!(&ours, "{number}").unwrap();
    let (_control, mut signals) = Signals::controlled();
    let (stdout, stderr, code) = owned.finish(&mut signals).await;
    let mut line = String::new();
    BufReader::new(ours).read_line(&mut line).unwrap();
    assert_eq!(
        (line, stdout, stderr, code),
        (
            format!("socket {number}\n"),
            format!("output {number}\n0\n1\n2\n3\n"),
            format!("error {number}\n"),
            0
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_containers_side_by_side() {
    const COUNT: usize = 20;
    let place = std::sync::Arc::new(Place::new());
    let together = std::sync::Arc::new(tokio::sync::Barrier::new(COUNT));
    let mut all = JoinSet::new();
    for number in 0..COUNT {
        let (place, together) = (place.clone(), together.clone());
        all.spawn(async move { converse(&place, &together, number).await });
    }
    while let Some(one) = all.join_next().await {
        one.unwrap();
    }
}

#[tokio::test]
async fn a_container_that_nobody_waited_for_is_no_zombie() {
    let place = Place::new();
    for script in ["true", "echo ready; sleep 1000"] {
        let owned = start(&place, script, None).await;
        let pid = fs::read_to_string(owned.dir.path().join("pid")).unwrap();
        let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        drop(owned);
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let asked = waitid(WaitId::PidFd(process.as_fd()), options);
        assert_eq!(asked.unwrap_err(), Errno::CHILD, "{script}");
    }
}

/// Children of this process that the runtime made and nobody asked how they ended. Other tests have
/// runtimes that have just ended, whose names are shorter.
fn zombies_of_the_runtime() -> Vec<String> {
    let ours = std::process::id().to_string();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let stats = processes.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let is_one = |stat: &String| {
        let (start, rest) = stat.rsplit_once(')').unwrap();
        let mut rest = rest.split_whitespace();
        start.contains("(runc:[") && rest.next() == Some("Z") && rest.next() == Some(&ours)
    };
    stats.filter(is_one).collect()
}

/// Gives starts up at moments from before the runtime runs to after it has ended.
#[tokio::test]
async fn a_start_that_is_given_up_leaves_nothing() {
    const STEP: Duration = Duration::from_millis(4);
    let place = Place::new();
    for step in 0..30 {
        let spec = spec(&place, "sleep 1000");
        let dir = directory(&place, &spec);
        let path = dir.path().to_owned();
        let started = tokio::time::timeout(STEP * step, run(&spec, &dir, CAPTURED)).await;
        drop(started);
        dir.remove().unwrap();
        assert!(!path.exists());
        let groups = crate::fixture::groups_of(&spec.id.to_string());
        assert!(groups.is_empty(), "{step}: {groups:?}");
        let root = Path::new("/run/holdfast/roots").join(spec.id.to_string());
        assert!(!root.exists(), "{step}");
        assert_eq!(zombies_of_the_runtime(), Vec::<String>::new(), "{step}");
    }
}
