//! From start to nothing left: signals, ends of every kind, clearing away.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use container::{RunDir, RunDirError, live, reap_stale};
use ids::ContainerId;
use rustix::process::{Pid, Signal, kill_process};

use crate::fixture::{Place, Started, driver_path, groups_of, mounts_below};

fn signal(started: &Started, number: Signal) {
    let pid = Pid::from_child(&started.child);
    kill_process(pid, number).unwrap();
}

/// Waits for the container's first line.
fn first_line(started: &mut Started) -> String {
    let mut line = String::new();
    let mut output = BufReader::new(started.child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    started.child.stdout = Some(output.into_inner());
    line
}

fn nothing_left(place: &Place, id: &str) {
    assert_eq!(mounts_below(place.top.path()), Vec::<String>::new());
    assert!(groups_of(id).is_empty(), "{:?}", groups_of(id));
    assert!(!place.run_root().join(id).exists());
    assert!(!Path::new("/run/holdfast/roots").join(id).exists());
}

#[test]
fn signals_reach_the_program() {
    let place = Place::new();
    let table = [
        (Signal::INT, "INT"),
        (Signal::TERM, "TERM"),
        (Signal::HUP, "HUP"),
        (Signal::QUIT, "QUIT"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
    ];
    for (number, name) in table {
        let script = format!("trap 'exit 7' {name}; echo ready; sleep 1000 & wait");
        let mut started = place.start(&[], &["sh", "-c", &script], Stdio::null());
        assert_eq!(first_line(&mut started), "ready\n");
        signal(&started, number);
        assert_eq!(started.finish().code, Some(7), "{name}");
    }
}

#[test]
fn a_program_that_does_not_listen_is_killed_the_third_time() {
    let place = Place::new();
    let script = "trap 'echo asked' TERM; echo ready; while :; do sleep 1000 & wait; done";
    let mut started = place.start(&[], &["sh", "-c", script], Stdio::null());
    let mut output = BufReader::new(started.child.stdout.take().unwrap());
    for expected in ["ready\n", "asked\n", "asked\n"] {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, expected);
        signal(&started, Signal::TERM);
    }
    assert_eq!(started.finish().code, Some(137));
}

#[test]
fn nothing_is_left_behind() {
    let place = Place::new();
    for (options, command, code) in [
        (&[][..], &["true"][..], 0),
        (&[], &["sh", "-c", "sleep 1000 & exit 3"], 3),
        (&[], &["nothing"], 127),
        (&["volume=/nowhere:/x"], &["true"], 125),
        (&["user=nobody"], &["true"], 125),
    ] {
        let ran = place.run(options, command);
        assert_eq!(ran.code, Some(code), "{ran:?}");
        let left = fs::read_dir(place.run_root())
            .into_iter()
            .flatten()
            .flatten();
        let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
        assert!(left.iter().all(|name| name == ".lock"), "{left:?}");
        assert_eq!(mounts_below(place.top.path()), Vec::<String>::new());
    }
}

#[test]
fn a_killed_owner_is_cleared_away_by_the_next() {
    let place = Place::new();
    let script = ["sh", "-c", "echo ready; sleep 1000"];
    let mut started = place.start(&[], &script, Stdio::null());
    let event = started.events.next().unwrap();
    let id = event["id"].as_str().unwrap().to_owned();
    assert_eq!(first_line(&mut started), "ready\n");
    assert_eq!(reap_stale(&place.run_root()).len(), 0, "its owner lives");
    let living: Vec<_> = live(&place.run_root())
        .iter()
        .map(ContainerId::to_string)
        .collect();
    assert_eq!(living, [id.as_str()]);
    assert!(!groups_of(&id).is_empty());
    let mut reaper = Command::new("prlimit");
    reaper.arg("--nofile=4").arg(driver_path()).arg("reap");
    let reaper = reaper.arg(place.run_root()).output().unwrap();
    let text = String::from_utf8_lossy(&reaper.stdout);
    assert_eq!(
        text, "reaped 0 []\n",
        "nothing was left to open its lock with"
    );
    signal(&started, Signal::KILL);
    started.child.wait().unwrap();
    assert_eq!(live(&place.run_root()), []);
    assert!(
        !groups_of(&id).is_empty(),
        "the container outlives its owner"
    );
    let reaped = reap_stale(&place.run_root());
    assert_eq!(reaped.len(), 1);
    assert!(reaped[0].error.is_none(), "{reaped:?}");
    assert_eq!(reaped[0].id.to_string(), id);
    nothing_left(&place, &id);
    assert_eq!(reap_stale(&place.run_root()).len(), 0);
}

#[test]
fn what_is_no_container_is_not_cleared_away() {
    let place = Place::new();
    fs::create_dir_all(place.run_root().join("keep")).unwrap();
    fs::write(place.run_root().join("ctr-x"), "keep").unwrap();
    assert_eq!(reap_stale(&place.run_root()).len(), 0);
    assert!(place.run_root().join("keep").exists() && place.run_root().join("ctr-x").exists());
    assert_eq!(reap_stale(&place.top.path().join("nowhere")).len(), 0);
}

#[test]
fn clearing_never_deletes_behind_a_mount() {
    let place = Place::new();
    let kept = place.top.path().join("kept");
    fs::create_dir(&kept).unwrap();
    fs::write(kept.join("file"), "kept").unwrap();
    let dir = RunDir::create(&place.run_root(), ContainerId::new(), None).unwrap();
    rustix::mount::mount_bind(&kept, dir.lower()).unwrap();
    dir.remove().unwrap();
    assert_eq!(fs::read_to_string(kept.join("file")).unwrap(), "kept");
    assert_eq!(mounts_below(place.top.path()), Vec::<String>::new());
}

#[test]
fn a_dropped_directory_is_cleared_away() {
    let place = Place::new();
    let dir = RunDir::create(&place.run_root(), ContainerId::new(), None).unwrap();
    let path = dir.path().to_owned();
    assert!(path.exists());
    drop(dir);
    assert!(!path.exists());
}

#[test]
fn run_roots_that_cannot_hold_mounts_are_refused() {
    let place = Place::new();
    for name in ["a,b", "a:b", "a\\b"] {
        let root = place.top.path().join(name);
        let made = RunDir::create(&root, ContainerId::new(), None);
        assert!(matches!(made, Err(RunDirError::Path(_))), "{name}");
    }
    let made = RunDir::create(std::path::Path::new("relative"), ContainerId::new(), None);
    assert!(matches!(made, Err(RunDirError::Path(_))));
}

#[test]
fn a_disk_without_upper_layers_is_replaced_by_memory() {
    let place = Place::new();
    // An overlay cannot hold the upper layer of another.
    let (run, lower) = (place.run_root(), place.top.path().join("empty"));
    for name in ["empty", "upper", "work", "run"] {
        fs::create_dir(place.top.path().join(name)).unwrap();
    }
    let top = place.top.path().display();
    let options = format!(
        "lowerdir={},upperdir={top}/upper,workdir={top}/work",
        lower.display()
    );
    let options = std::ffi::CString::new(options).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("overlay", &run, "overlay", flags, options.as_c_str()).unwrap();
    let ran = place.sh(
        &[],
        "echo x > /new && cat /new && grep ' / ' /proc/mounts | wc -l",
    );
    rustix::mount::unmount(&run, rustix::mount::UnmountFlags::empty()).unwrap();
    assert_eq!(ran.ok(), "x\n1");
}
