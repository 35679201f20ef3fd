//! What an attacker who has taken over a confined process would try, for the tests of those who
//! confine one.
//!
//! A test starts its own program again as a *role*, a test that confines itself and calls
//! [`report`]; [`successes`] reads what came of it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;

use rustix::mount::MountFlags;
use rustix::process::{Pid, Resource, Rlimit, Signal};

use crate::{Profile, confine};

/// Tells a role that it was started as one, and where a listener waits for it.
const ROLE: &str = "HOLDFAST_TEST_ATTEMPTS_LISTENER";

/// What succeeds in a process that computes: the walls themselves.
pub const OF_COMPUTE: [&str; 2] = ["landlock", "own-user"];

/// What succeeds in a network client that may read `/etc`.
pub const OF_NETWORK_CLIENT: [&str; 6] = [
    "connect-tcp",
    "landlock",
    "own-user",
    "read-certificates",
    "read-name-service",
    "resolve-name",
];

/// More than any profile of ours grants.
const TOO_MUCH_MEMORY_BYTES: usize = 64 << 30;
const TOO_MANY_DESCRIPTORS: usize = 1 << 16;

/// Confines this process and tries everything; does nothing in a test program that was not started
/// by [`successes`].
pub fn report(profile: &Profile<'_>) {
    let Ok(listener) = std::env::var(ROLE) else {
        return;
    };
    let target = Target {
        listener,
        parent: std::os::unix::process::parent_id(),
    };
    let confined = confine(profile).expect("confines");
    println!("attempt own-user {}", confined.user.is_some());
    println!("attempt landlock {}", confined.landlock);
    for (name, attempt) in ATTEMPTS {
        let outcome = attempt(&target);
        println!("attempt {name} {} {outcome:?}", outcome.is_ok());
    }
}

/// Runs the test `role` of this very program, and tells by name which attempts succeeded. The walls
/// that may be missing, `landlock` and `own-user`, are among them when they are up.
pub fn successes(role: &str) -> Vec<String> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it has an address");
    let program = std::env::current_exe().expect("a test knows its program");
    let output = Command::new(program)
        .args([role, "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, address.to_string())
        .output()
        .expect("the program starts again");
    let text = String::from_utf8_lossy(&output.stdout);
    let outcomes: BTreeMap<String, bool> = text.lines().filter_map(outcome).collect();
    let all = ATTEMPTS.len() + 2;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(outcomes.len(), all, "{text}\n{errors}");
    let succeeded = outcomes.into_iter().filter(|(_, succeeded)| *succeeded);
    succeeded.map(|(name, _)| name).collect()
}

/// The name and success of a line that [`report`] wrote, behind whatever the test harness wrote.
fn outcome(line: &str) -> Option<(String, bool)> {
    let (_, report) = line.split_once("attempt ")?;
    let mut words = report.split(' ');
    let (name, succeeded) = (words.next()?, words.next()?);
    Some((name.to_owned(), succeeded.parse().ok()?))
}

/// Whom the attempts are aimed at.
struct Target {
    listener: String,
    parent: u32,
}

type Attempt = fn(&Target) -> io::Result<()>;

const ATTEMPTS: &[(&str, Attempt)] = &[
    ("read-name-service", |_| File::open("/etc/hosts").map(drop)),
    ("read-certificates", |_| {
        File::open("/etc/ssl/certs/ca-certificates.crt").map(drop)
    }),
    ("resolve-name", |_| {
        ("localhost", 0).to_socket_addrs().map(drop)
    }),
    ("read-secret", |_| File::open("/etc/shadow").map(drop)),
    ("read-device", |_| File::open("/dev/fuse").map(drop)),
    ("read-program", |_| File::open("/bin/sh").map(drop)),
    ("read-own-memory", |_| {
        File::open("/proc/self/mem").map(drop)
    }),
    ("read-parent-memory", |target| {
        File::open(target.file_of_parent("mem")).map(drop)
    }),
    ("read-parent-environment", |target| {
        fs::read(target.file_of_parent("environ")).map(drop)
    }),
    ("list-root", |_| fs::read_dir("/").map(drop)),
    ("write-file", |_| write("/tmp/holdfast-attempt")),
    ("write-kernel-setting", |_| {
        write("/proc/sys/kernel/core_pattern")
    }),
    ("connect-tcp", |target| {
        TcpStream::connect(&target.listener).map(drop)
    }),
    ("listen-tcp", |_| TcpListener::bind("127.0.0.1:0").map(drop)),
    ("listen-udp", |_| UdpSocket::bind("127.0.0.1:0").map(drop)),
    ("connect-unix", |_| {
        UnixStream::connect("/run/systemd/private").map(drop)
    }),
    ("listen-unix", |_| {
        UnixListener::bind("/tmp/holdfast-attempt.sock").map(drop)
    }),
    ("start-program", |_| {
        Command::new("/bin/true").status().map(drop)
    }),
    ("signal-parent", signal_parent),
    ("become-root", |_| become_root()),
    ("raise-limit", |_| raise_limit()),
    ("mount", |_| mount()),
    ("change-root", |_| Ok(rustix::process::chroot("/tmp")?)),
    ("change-directory", |_| std::env::set_current_dir("/tmp")),
    ("new-user-namespace", |_| new_user_namespace()),
    ("too-much-memory", |_| too_much_memory()),
    ("too-many-descriptors", |_| too_many_descriptors()),
];

impl Target {
    fn file_of_parent(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.parent)
    }
}

fn write(path: &str) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map(drop)
}

fn signal_parent(target: &Target) -> io::Result<()> {
    let parent = i32::try_from(target.parent).ok().and_then(Pid::from_raw);
    let parent = parent.expect("a role has a parent");
    Ok(rustix::process::kill_process(parent, Signal::CONT)?)
}

fn become_root() -> io::Result<()> {
    let root = rustix::process::Uid::ROOT;
    Ok(rustix::thread::set_thread_res_uid(root, root, root)?)
}

fn raise_limit() -> io::Result<()> {
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    Ok(rustix::process::setrlimit(Resource::As, unlimited)?)
}

fn mount() -> io::Result<()> {
    Ok(rustix::mount::mount(
        "none",
        "/tmp",
        "tmpfs",
        MountFlags::empty(),
        None,
    )?)
}

#[allow(deprecated, reason = "the descriptor table stays as it is")]
fn new_user_namespace() -> io::Result<()> {
    Ok(rustix::thread::unshare(
        rustix::thread::UnshareFlags::NEWUSER,
    )?)
}

fn too_much_memory() -> io::Result<()> {
    let mut memory = Vec::<u8>::new();
    memory
        .try_reserve(TOO_MUCH_MEMORY_BYTES)
        .map_err(io::Error::other)
}

fn too_many_descriptors() -> io::Result<()> {
    let mut held = Vec::new();
    for _ in 0..TOO_MANY_DESCRIPTORS {
        held.push(rustix::io::dup(rustix::stdio::stdin())?);
    }
    Ok(())
}
