//! The root key is in one process that no hostile byte reaches: looked for where it must not be.

use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::net::TcpListener;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use e2e::image::busybox;
use e2e::{Home, home};
use rustix::fs::{CWD, FileType, FlockOperation, Mode, OFlags, flock, mknodat};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Stage, signal, wait_for_line};

/// What takes longer does not come.
const PATIENCE: Duration = Duration::from_secs(30);
/// Read at a time from a process's memory.
const PIECE: usize = 1 << 20;
/// A user that is not root.
const NOBODY: u32 = 65534;

/// A command that has opened the vault, or is about to, and its keeper.
struct Opened {
    command: Child,
    keeper: u32,
}

impl Opened {
    /// A container that runs until its input ends.
    fn running(stage: &Stage) -> Self {
        let words = ["run", "-i", &stage.image, "sh", "-c", "echo up; cat"];
        let mut command = stage.home.spawn(&words);
        wait_for_line(&mut command);
        Self::of(command)
    }

    fn of(command: Child) -> Self {
        let keeper = eventually("a keeper", || keeper_of(command.id()));
        Self { command, keeper }
    }

    fn kill_keeper(&self) {
        let pid = i32::try_from(self.keeper).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a pid"), Signal::KILL).expect("it is there");
    }
}

/// Looks again and again until there is something.
#[track_caller]
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::yield_now();
    }
}

/// The child of a process that is a keeper.
fn keeper_of(parent: u32) -> Option<u32> {
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.find(|process: &u32| {
        let words = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        words.ends_with(b"\0key-keeper\0") && status(*process, "PPid") == parent.to_string()
    })
}

/// A line of a process's `status`; nothing when it is gone.
fn status(process: u32, field: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(":\t"));
    line.unwrap_or_default().to_owned()
}

fn is_gone(process: u32) -> bool {
    let state = status(process, "State");
    state.is_empty() || state.starts_with('Z')
}

/// The root key as bytes and as the digits of its file.
fn forms(home: &Home) -> [Vec<u8>; 2] {
    let file = std::fs::read_to_string(home.root_key()).expect("a root key");
    let digits = file
        .lines()
        .find_map(|line| line.strip_prefix("key "))
        .expect("a key");
    let pair = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal");
    let bytes = (0..digits.len()).step_by(2).map(pair).collect();
    [bytes, digits.as_bytes().to_vec()]
}

/// How often each form is in all that a process has mapped and can read.
fn search(process: u32, needles: &[Vec<u8>]) -> Vec<usize> {
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).expect("its mappings");
    let memory = File::open(format!("/proc/{process}/mem")).expect("its memory");
    let (mut found, mut searched) = (vec![0; needles.len()], 0);
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ').expect("a range");
        if rest.starts_with('r') {
            let (start, end) = range.split_once('-').expect("two ends");
            let number = |text| u64::from_str_radix(text, 16).expect("an address");
            let range = number(start)..number(end);
            searched += search_range(&memory, range, needles, &mut found);
        }
    }
    let status = status(process, "VmRSS");
    let resident: u64 = status
        .trim_end_matches(" kB")
        .trim()
        .parse()
        .expect("a size");
    assert!(
        searched >= resident * 1024,
        "only {searched} bytes searched"
    );
    found
}

/// Answers how many bytes were there to be searched.
fn search_range(memory: &File, range: Range<u64>, needles: &[Vec<u8>], found: &mut [usize]) -> u64 {
    let overlap = needles.iter().map(Vec::len).max().unwrap_or(1) as u64 - 1;
    let mut piece = vec![0; PIECE];
    let mut at = range.start;
    while at < range.end {
        let wanted = usize::try_from(range.end - at).map_or(PIECE, |left| left.min(PIECE));
        // Pages that are the kernel's own, or lie behind the end of a file, cannot be read.
        let Ok(got) = memory.read_at(&mut piece[..wanted], at) else {
            break;
        };
        for (count, needle) in found.iter_mut().zip(needles) {
            *count += occurrences(&piece[..got], needle);
        }
        at += got as u64;
        if got < PIECE {
            break;
        }
        at -= overlap;
    }
    at - range.start
}

fn occurrences(bytes: &[u8], needle: &[u8]) -> usize {
    let windows = bytes.windows(needle.len());
    let found = windows.filter(|window| window[0] == needle[0] && *window == needle);
    found.count()
}

/// The command and all that it started and holdfast is, without the keeper.
fn others(opened: &Opened) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let children = numbers.filter(|process: &u32| {
        let program = std::fs::read_link(format!("/proc/{process}/exe")).unwrap_or_default();
        let parent = status(*process, "PPid") == opened.command.id().to_string();
        parent && program.ends_with("holdfast") && *process != opened.keeper
    });
    let mut others: Vec<u32> = children.collect();
    others.push(opened.command.id());
    others
}

#[test]
fn the_root_key_is_in_the_memory_of_the_keeper_alone() {
    let stage = Stage::logged_in(busybox());
    let opened = Opened::running(&stage);
    let forms = forms(&stage.home);
    let kept = search(opened.keeper, &forms);
    assert!(kept[0] > 0, "the search finds nothing: it proves nothing");
    let others = others(&opened);
    assert!(
        others.len() >= 2,
        "a command and its mount process: {others:?}"
    );
    for process in others {
        assert_eq!(search(process, &forms), [0, 0], "in process {process}");
    }
    home::finish(opened.command, "");
}

/// The key is made by the same command that then waits for a registry.
#[test]
fn a_command_that_made_the_root_key_has_never_had_it() {
    let home = Home::new();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let host = silent.local_addr().expect("an address").to_string();
    let words = ["login", &host, "--username", "alice", "--password-stdin"];
    let mut command = home.spawn(&words);
    let mut stdin = command.stdin.take().expect("a pipe");
    stdin.write_all(b"pw").expect("it reads");
    drop(stdin);
    let _asked = silent.accept().expect("it asks the registry");
    let mut opened = Opened::of(command);
    let forms = forms(&home);
    let kept = search(opened.keeper, &forms);
    assert!(kept[0] > 0, "the search finds nothing: it proves nothing");
    assert_eq!(search(opened.command.id(), &forms), [0, 0]);
    signal(&opened.command, Signal::KILL);
    opened.command.wait().expect("it is ours");
    eventually("the end of the keeper", || {
        is_gone(opened.keeper).then_some(())
    });
}

/// Another process that opens the vault, as far as a command can see.
struct Held(File);

impl Held {
    fn lock(home: &Home) -> Self {
        home.run(&["credentials", "list"]).ok();
        let file = File::open(home.data_dir().join("vault.db.lock")).expect("a lock");
        flock(&file, FlockOperation::LockExclusive).expect("nobody has it");
        Self(file)
    }

    fn release(&self) {
        flock(&self.0, FlockOperation::Unlock).expect("it is held");
    }
}

#[test]
fn a_keeper_has_nothing_but_its_socket() {
    let home = Home::new();
    let held = Held::lock(&home);
    let left_open = [(); 40].map(|()| File::open("/etc/passwd").expect("it is there"));
    for file in &left_open {
        fcntl_setfd(file, FdFlags::empty()).expect("a flag");
    }
    let opened = Opened::of(home.spawn(&["credentials", "list"]));
    let keeper = opened.keeper;
    eventually("its limits", || {
        let most: u64 = limit(keeper, "Max open files").parse().expect("a number");
        (most < 1000).then_some(())
    });
    assert_eq!(limit(keeper, "Max core file size"), "0");
    assert_eq!(limit(keeper, "Max address space"), (256 << 20).to_string());
    assert_eq!(status(keeper, "NoNewPrivs"), "1");
    assert_eq!(status(keeper, "Threads"), "1");
    assert_eq!(
        status(keeper, "NSsid"),
        keeper.to_string(),
        "a session of its own"
    );
    let place = |what| format!("/proc/{keeper}/{what}");
    assert_eq!(std::fs::read(place("environ")).expect("readable"), b"");
    assert_eq!(
        std::fs::read_link(place("cwd")).expect("a link"),
        Path::new("/")
    );
    let inherited = descriptors(opened.command.id());
    assert!(
        inherited.contains(&"/etc/passwd".to_owned()),
        "{inherited:?}"
    );
    let mut kept = descriptors(keeper);
    kept.retain(|file| file != "/dev/null");
    assert!(
        kept.len() == 1 && kept[0].starts_with("socket:"),
        "{kept:?}"
    );
    held.release();
    home::finish(opened.command, "").ok();
}

fn limit(process: u32, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{process}/limits")).expect("limits");
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let first = line.and_then(|line| line.split_whitespace().next());
    first.unwrap_or_default().to_owned()
}

fn descriptors(process: u32) -> Vec<String> {
    let directory = format!("/proc/{process}/fd");
    let links = std::fs::read_dir(directory)
        .expect("its descriptors")
        .flatten();
    let files = links.filter_map(|link| std::fs::read_link(link.path()).ok());
    files.map(|file| file.display().to_string()).collect()
}

/// The memory of a process that runs as another user than root, as that user sees it.
#[test]
fn a_keeper_is_closed_to_its_own_user() {
    let home = Home::new();
    let program = home.path().join("holdfast");
    std::fs::copy(home::binary(), &program).expect("a copy that anybody can run");
    chown(home.path(), Some(NOBODY), Some(NOBODY)).expect("ours");
    let as_nobody = || {
        let mut command = Command::new(&program);
        command
            .args(["credentials", "list"])
            .env_clear()
            .envs(
                home.command(&[])
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .current_dir(home.path())
            .uid(NOBODY)
            .gid(NOBODY)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    };
    let made = as_nobody().spawn().expect("it starts");
    home::finish(made, "").ok();
    let lock = File::open(home.data_dir().join("vault.db.lock")).expect("a lock");
    flock(&lock, FlockOperation::LockExclusive).expect("nobody has it");
    let opened = Opened::of(as_nobody().spawn().expect("it starts"));
    assert!(status(opened.keeper, "Uid").starts_with(&NOBODY.to_string()));
    let memory = format!("/proc/{}/mem", opened.keeper);
    let owner = || std::fs::metadata(&memory).expect("it is there").uid();
    eventually("not dumpable", || (owner() == 0).then_some(()));

    let mut control = Command::new("cat");
    control.uid(NOBODY).gid(NOBODY).stdin(Stdio::piped());
    let mut control = control.spawn().expect("cat starts");
    let reads = |process: u32| {
        let mut cat = Command::new("cat");
        cat.arg(format!("/proc/{process}/maps"))
            .uid(NOBODY)
            .gid(NOBODY);
        cat.output().expect("cat starts").status.success()
    };
    eventually("another process of the user can be read", || {
        reads(control.id()).then_some(())
    });
    assert!(!reads(opened.keeper), "a keeper's memory is nobody's");
    drop(control.stdin.take());
    control.wait().expect("it is ours");
    flock(&lock, FlockOperation::Unlock).expect("it is held");
    home::finish(opened.command, "").ok();
}

#[test]
fn a_killed_keeper_fails_its_command_and_no_other() {
    let home = Home::new();
    for (words, code) in [
        (vec!["credentials", "list"], 11),
        (vec!["vault", "verify"], 11),
        (vec!["run", "127.0.0.1:1/a/b", "true"], 125),
    ] {
        let held = Held::lock(&home);
        let opened = Opened::of(home.spawn(&words));
        opened.kill_keeper();
        held.release();
        let ended = home::finish(opened.command, "").fails(code, "key keeper ended");
        for says in ["signal: 9", "hint: run the command again"] {
            assert!(
                ended.stderr.contains(says),
                "{says:?} not in {}",
                ended.stderr
            );
        }
        home.run(&["vault", "verify"]).ok();
    }
}

#[test]
fn a_keeper_ends_when_its_command_is_killed() {
    let stage = Stage::logged_in(busybox());
    let mut opened = Opened::running(&stage);
    assert!(!is_gone(opened.keeper));
    signal(&opened.command, Signal::KILL);
    opened.command.wait().expect("it is ours");
    eventually("the end of the keeper", || {
        is_gone(opened.keeper).then_some(())
    });
    stage.home.run(&["run", &stage.image, "true"]).ok();
}

/// A key file that is a pipe shows who opens it: while the keeper is stopped, nobody does.
#[test]
fn nobody_but_the_keeper_opens_the_key_file() {
    let home = Home::new();
    let held = Held::lock(&home);
    std::fs::remove_file(home.root_key()).expect("it was made");
    mknodat(
        CWD,
        home.root_key(),
        FileType::Fifo,
        Mode::from_raw_mode(0o600),
        0,
    )
    .expect("a pipe");
    let opened = Opened::of(home.spawn(&["credentials", "list"]));
    let keeper = i32::try_from(opened.keeper).ok().and_then(Pid::from_raw);
    let keeper = keeper.expect("a pid");
    kill_process(keeper, Signal::STOP).expect("it is there");
    held.release();
    eventually("the command has the lock", || {
        match flock(&held.0, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                held.release();
                None
            }
            Err(_) => Some(()),
        }
    });
    eventually("the command waits", || {
        sleeps(opened.command.id()).then_some(())
    });
    // A pipe that nobody has open for reading cannot be opened for writing without waiting.
    let writer = || {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        OpenOptions::new()
            .write(true)
            .custom_flags(flags)
            .open(home.root_key())
    };
    let error = writer().expect_err("nobody has opened it");
    assert_eq!(
        error.raw_os_error(),
        Some(Errno::NXIO.raw_os_error()),
        "{error}"
    );
    kill_process(keeper, Signal::CONT).expect("it is there");
    let _writer = eventually("the keeper opens it", || writer().ok());
    home::finish(opened.command, "").fails(11, "is not a regular file");
}

/// Whether every thread of a process waits for something.
fn sleeps(process: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("its threads");
    threads.flatten().all(|thread| {
        let text = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        text.lines().any(|line| line.starts_with("State:\tS"))
    })
}

#[test]
fn what_is_wrong_with_the_key_is_told_as_ever() {
    let home = Home::new();
    home.run_with_input(&["secret", "set", "plain"], "value")
        .ok();
    let key = std::fs::read(home.root_key()).expect("a key");
    let list = ["secret", "list"];
    let path = home.root_key();
    let mode = |mode| std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("ours");
    let told = |says: &str, hint: &str| {
        let ended = home.run(&list).fails(11, says);
        assert!(
            ended.stderr.contains(hint),
            "{hint:?} not in {}",
            ended.stderr
        );
    };
    mode(0o644);
    told(
        "is open to others (mode 0644)",
        &format!("chmod 600 {}", path.display()),
    );
    mode(0o600);
    std::fs::write(&path, "no key").expect("written");
    told(
        "does not start as a holdfast root key",
        "put the key file back",
    );
    std::fs::remove_file(&path).expect("removed");
    told("is missing", "put the key back from where it is kept");
    let other = Home::new();
    other.run(&list).ok();
    std::fs::copy(other.root_key(), &path).expect("copied");
    told(
        "was sealed under root key",
        "put the key back from where it is kept",
    );
    std::fs::write(&path, key).expect("written");
    home.run(&list).ok();
}

/// The key is taken from where it was made and given as a credential, and as an open file; a key
/// that was given is followed by one in a file.
#[test]
fn a_root_key_that_was_given_is_read_and_followed() {
    let home = Home::new();
    home.run_with_input(&["secret", "set", "plain"], "value")
        .ok();
    let credentials = home.path().join("credentials");
    std::fs::create_dir(&credentials).expect("made");
    let given = credentials.join("root");
    std::fs::rename(home.root_key(), &given).expect("moved");
    let piped = |command| home::finish(home::spawn(command), "");
    let by_credential = |words: &[&str]| {
        let mut command = home.command(words);
        command
            .env("HOLDFAST_ROOT_KEY", "credential:root")
            .env("CREDENTIALS_DIRECTORY", &credentials);
        piped(command)
    };
    by_credential(&["vault", "verify"]).ok();
    by_credential(&["vault", "rotate-key"]).fails(11, "does not replace it");

    let script = "exec \"$0\" \"$@\" 7<\"$KEY\"";
    let mut by_descriptor = home.command_by(&["sh", "-c", script], &["vault", "verify"]);
    by_descriptor
        .env("HOLDFAST_ROOT_KEY", "fd:7")
        .env("KEY", &given);
    piped(by_descriptor).ok();
    let mut nothing = home.command(&["vault", "verify"]);
    nothing.env("HOLDFAST_ROOT_KEY", "fd:7");
    piped(nothing).fails(11, "is missing");
    let mut nowhere = home.command(&["vault", "verify"]);
    nowhere.env("HOLDFAST_ROOT_KEY", "credential:root");
    piped(nowhere).fails(3, "there is no $CREDENTIALS_DIRECTORY");

    let new = home.root_key();
    let new = new.to_str().expect("text");
    by_credential(&["vault", "rotate-key", "--to", new]).ok();
    by_credential(&["vault", "verify"]).fails(11, "was sealed under root key");
    std::fs::remove_file(&given).expect("removed");
    home.run(&["vault", "verify"]).ok();
}

/// A command may be started where its group of processes is another namespace's.
#[test]
fn a_keeper_starts_in_a_namespace_of_processes() {
    let home = Home::new();
    let words = ["credentials", "list"];
    let command = home.command_by(&["unshare", "--pid", "--fork"], &words);
    home::finish(home::spawn(command), "").ok();
}
