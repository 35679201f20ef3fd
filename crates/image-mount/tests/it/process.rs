//! The mount process as a process: how it starts, what it answers, how it ends and dies.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use image_mount::{MountError, MountProcess};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Mounted, Published, Script, archive, blocking, is_mounted, program};
use credential::auth::RegistryAuth;

/// Longest wait for something that has been set in motion: a test that gets here has failed.
const PATIENCE: Duration = Duration::from_mins(1);

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("in time")
}

fn three_files() -> Vec<u8> {
    archive("for i in 1 2 3; do head -c 900000 /dev/urandom > $i; done")
}

fn kill(mounted: &Mounted, signal: Signal) {
    let pid = i32::try_from(mounted.process.pid()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// The signal stops each thread for itself, when it gets to it.
async fn stopped(pid: u32) {
    let is_stopped = |task: io::Result<fs::DirEntry>| {
        let stat = fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
        stat.contains(") T ")
    };
    let tasks = format!("/proc/{pid}/task");
    while !fs::read_dir(&tasks).unwrap().all(is_stopped) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A handle on the process that tells when it is gone, whoever its parent is.
async fn gone(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let Ok(handle) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else {
        return;
    };
    blocking(move || {
        let mut wanted = [PollFd::new(&handle, PollFlags::IN)];
        let timeout = PATIENCE.try_into().unwrap();
        let ended = rustix::event::poll(&mut wanted, Some(&timeout)).unwrap();
        assert_eq!(ended, 1, "it lives");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_and_the_trace_are_told_while_it_runs() {
    let image = Published::new(&[three_files()]).await;
    let mounted = image.mount().await;
    let before = mounted.process.stats().await.unwrap();
    assert_eq!((before.fs.reads, before.spans_present), (0, 0));
    assert!(mounted.process.trace().await.unwrap().is_empty());
    let path = image.path("3");
    blocking(move || fs::read(path).unwrap()).await;
    let after = mounted.process.stats().await.unwrap();
    assert!(
        after.fs.reads > 0 && after.fs.bytes_served >= 900_000,
        "{after:?}"
    );
    assert!(after.spans_present > 0 && after.fs.bytes_fetched < after.fs.bytes_total);
    let trace = mounted.process.trace().await.unwrap();
    assert!(trace.len() as u64 <= after.spans && !trace.is_empty());
    assert_ne!(trace[0].span, 0, "the last file is not at the start");
    let last = mounted.stop().await;
    // The end of what was asked for beside it may have come meanwhile.
    assert!(last.fs.bytes_fetched >= after.fs.bytes_fetched);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_once_needs_no_registry() {
    let image = Published::new(&[three_files()]).await;
    let read = |image: &Published| {
        let paths = ["1", "2", "3"].map(|name| image.path(name));
        blocking(move || paths.map(|path| blake3::hash(&fs::read(path).unwrap())))
    };
    let mounted = image.mount().await;
    let first = read(&image).await;
    mounted.stop().await;
    image.sim.faults(|faults| faults.outage = true);
    let mounted = image.mount().await;
    assert_eq!(read(&image).await, first);
    let stats = mounted.stop().await;
    assert_eq!(
        (
            stats.fs.bytes_fetched,
            stats.fs.retries,
            stats.auth_requests
        ),
        (0, 0, 0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_has_no_environment_and_leaves_no_core() {
    let image = Published::new(&[three_files()]).await;
    let mounted = image.mount().await;
    let proc = PathBuf::from(format!("/proc/{}", mounted.process.pid()));
    let environment = fs::read(proc.join("environ")).unwrap();
    // The shell that stands in for holdfast adds where it is.
    let environment = String::from_utf8(environment).unwrap();
    let names: Vec<_> = environment.split_terminator('\0').collect();
    assert!(
        names.iter().all(|name| name.starts_with("PWD=/")),
        "{names:?}"
    );
    let limits = fs::read_to_string(proc.join("limits")).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    mounted.stop().await;
}

/// What the kernel says of each thread of the process that has this name.
fn statuses(pid: u32, thread: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let paths = tasks.map(|task| task.unwrap().path());
    let named =
        paths.filter(|path| fs::read_to_string(path.join("comm")).unwrap().trim() == thread);
    named
        .map(|path| fs::read_to_string(path.join("status")).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_threads_that_serve_are_confined() {
    let image = Published::new(&[three_files()]).await;
    let mounted = image.mount().await;
    let path = image.path("2");
    blocking(move || fs::read(path).unwrap()).await;
    for thread in ["mount", "fuser-0", "fuser-1"] {
        let statuses = statuses(mounted.process.pid(), thread);
        assert!(!statuses.is_empty(), "{thread}");
        for status in statuses {
            let field = |name: &str| {
                let line = status
                    .lines()
                    .find_map(|line| line.strip_prefix(name))
                    .unwrap();
                line.split_whitespace().next().unwrap().to_owned()
            };
            let user: u32 = field("Uid:").parse().unwrap();
            assert!(user >= 0x7000_0000, "{thread}: {user}");
            assert_eq!(field("Gid:"), field("Uid:"), "{thread}");
            assert_eq!(field("NoNewPrivs:"), "1", "{thread}");
            assert_eq!(field("Seccomp:"), "2", "{thread}");
            for set in ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:"] {
                assert_eq!(field(set).trim_matches('0'), "", "{thread} {set}");
            }
        }
    }
    mounted.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_dies_is_told_and_reads_fail_at_once() {
    let image = Published::new(&[three_files()]).await;
    let mut mounted = image.mount().await;
    image.sim.faults(|faults| faults.outage = true);
    let mut logs = mounted.process.take_logs().unwrap();
    let path = image.path("1");
    let reading = tokio::task::spawn_blocking(move || fs::read(path));
    in_time(logs.recv()).await.expect("the read waits");
    kill(&mounted, Signal::KILL);
    assert!(in_time(reading).await.unwrap().is_err());
    let (path, other) = (image.path("2"), image.path("nothing"));
    // Until the handle takes it off, the mount is there and dead.
    for path in [path, other] {
        let error = blocking(move || fs::read(path)).await.unwrap_err();
        let code = io::Error::raw_os_error(&error);
        let expected = [rustix::io::Errno::NOTCONN, rustix::io::Errno::NOENT];
        assert!(
            expected
                .iter()
                .any(|errno| code == Some(errno.raw_os_error())),
            "{error}"
        );
    }
    let error = in_time(mounted.process.died()).await;
    assert!(error.to_string().contains("signal: 9"), "{error}");
    assert!(!is_mounted(&image.request.mountpoint));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parent_that_is_gone_takes_the_mount_with_it() {
    let image = Published::new(&[three_files()]).await;
    let mounted = image.mount().await;
    let pid = mounted.process.pid();
    drop(mounted.process);
    gone(pid).await;
    assert!(!is_mounted(&image.request.mountpoint));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_in_use_goes_away_too() {
    let image = Published::new(&[three_files()]).await;
    let mounted = image.mount().await;
    let path = image.path("1");
    let open = blocking(move || fs::File::open(path).unwrap()).await;
    mounted.stop().await;
    let error = blocking(move || io::Read::read(&mut &open, &mut [0; 10]))
        .await
        .unwrap_err();
    assert_eq!(
        error.raw_os_error(),
        Some(rustix::io::Errno::NOTCONN.raw_os_error())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mount_of_a_terminated_process_is_taken_off() {
    let image = Published::new(&[three_files()]).await;
    let mut mounted = image.mount().await;
    kill(&mounted, Signal::TERM);
    in_time(mounted.process.died()).await;
    assert!(!is_mounted(&image.request.mountpoint));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_hangs_is_killed_and_its_mount_taken_off() {
    let image = Published::new(&[three_files()]).await;
    let mounted = image.mount().await;
    let pid = mounted.process.pid();
    kill(&mounted, Signal::STOP);
    in_time(stopped(pid)).await;
    let path = image.path("1");
    let reading = tokio::task::spawn_blocking(move || fs::read(path));
    let error = in_time(mounted.process.stop()).await.unwrap_err();
    assert!(matches!(error, MountError::Silent { .. }), "{error}");
    assert!(in_time(reading).await.unwrap().is_err());
    assert!(!is_mounted(&image.request.mountpoint));
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

/// Whoever asks whether a mount is dead does not hang with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_that_does_not_answer_is_told() {
    let image = Published::new(&[three_files()]).await;
    let mounted = image.mount().await;
    let look = || {
        let mountpoint = image.request.mountpoint.clone();
        blocking(move || image_mount::unmount_dead(&mountpoint))
    };
    assert!(!look().await.unwrap(), "it answers");
    kill(&mounted, Signal::STOP);
    in_time(stopped(mounted.process.pid())).await;
    let error = in_time(look()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    kill(&mounted, Signal::CONT);
    assert!(!look().await.unwrap(), "it answers again");
    mounted.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_that_somebody_took_off_is_a_death() {
    let image = Published::new(&[three_files()]).await;
    let mut mounted = image.mount().await;
    image_mount::unmount(&image.request.mountpoint).unwrap();
    let error = in_time(mounted.process.died()).await;
    assert!(matches!(error, MountError::Died { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_mounted_is_refused_by_kind() {
    type Spoil = fn(&mut Published);
    let spoil_index: Spoil = |image| {
        let mut bytes = fs::read(&image.request.layers[0].index_path).unwrap();
        bytes.truncate(bytes.len() / 2);
        fs::write(&image.request.layers[0].index_path, bytes).unwrap();
    };
    let no_room_for_layers: Spoil = |image| {
        let layers = image.directory.path().join("cache/layers");
        fs::remove_dir(&layers).unwrap();
        fs::write(layers, "").unwrap();
    };
    let cases: [(&str, Spoil, &str); 7] = [
        (
            "no index",
            |image| image.request.layers[0].index_path = "/nowhere".into(),
            "Index",
        ),
        ("half an index", spoil_index, "Index"),
        (
            "another root",
            |image| image.request.layers[0].index.root[3] ^= 1,
            "Index",
        ),
        (
            "another layer",
            |image| image.request.layers[0].index.header.layer_digest.push('0'),
            "Index",
        ),
        (
            "no directory",
            |image| image.request.mountpoint = "/nowhere".into(),
            "Mountpoint",
        ),
        ("no directory for the cache", no_room_for_layers, "Cache"),
        (
            "no certificate",
            |image| image.request.ca_pem = Some(b"nonsense".to_vec()),
            "Request",
        ),
    ];
    for (name, spoil, expected) in cases {
        let mut image = Published::new(&[archive("echo 1 > a")]).await;
        spoil(&mut image);
        let auth = Script::answering(Ok(RegistryAuth::anonymous()));
        let error = image.mount_with(auth).await.map(|_| ()).unwrap_err();
        let kind = format!("{error:?}");
        assert!(kind.starts_with(expected), "{name}: {kind}");
        assert!(!is_mounted(&image.request.mountpoint), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_no_mount_server_is_an_error() {
    let image = Published::new(&[archive("echo 1 > a")]).await;
    for (program, expected) in [("/nowhere/holdfast", "Spawn"), ("/bin/false", "Died")] {
        let auth = Script::answering(Ok(RegistryAuth::anonymous()));
        let spawned = MountProcess::spawn(Path::new(program), image.request.clone(), auth);
        let error = in_time(spawned).await.unwrap_err();
        assert!(
            format!("{error:?}").starts_with(expected),
            "{program}: {error:?}"
        );
    }
    assert!(program().is_file());
}
