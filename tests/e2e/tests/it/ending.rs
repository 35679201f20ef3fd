//! How a container ends, in order or not, and that nothing of it is left.

use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use e2e::image::busybox;
use e2e::{Home, home};
use registry_sim::{Entry, Layer};
use rustix::process::Signal;

use crate::support::{Stage, files_below, leftovers, noise, signal, until, wait_for_line};

#[test]
fn nothing_is_left_behind() {
    let stage = Stage::logged_in(busybox());
    stage.home.run(&["run", &stage.image, "true"]).ok();
    stage.home.run(&["run", &stage.image, "false"]).fails(1, "");
    assert_eq!(leftovers(&stage.home), Vec::<String>::new());
}

/// What is made beside the registry's answer goes when the answer is no.
#[test]
fn a_refused_start_leaves_nothing() {
    let stage = Stage::logged_in(busybox()).with_own_program();
    let missing = stage.image.replace("v1", "v2");
    stage.home.run(&["run", &missing, "true"]).fails(125, "v2");
    assert_eq!(leftovers(&stage.home), Vec::<String>::new());
    until("no process", || stage.home.processes().is_empty());
    stage.home.run(&["logout", &stage.scope()]).ok();
    stage
        .home
        .run(&["run", &stage.image, "true"])
        .fails(125, "");
    assert_eq!(leftovers(&stage.home), Vec::<String>::new());
    until("no process", || stage.home.processes().is_empty());
}

/// A start of what was proven before is made while the registry is asked, and begins with its word.
#[test]
fn what_is_not_proven_does_not_begin() {
    let mut stage = Stage::logged_in(busybox()).with_own_program();
    let marks = stage.home.path().join("marks");
    std::fs::create_dir(&marks).expect("a directory");
    let volume = format!("{}:/marks", marks.display());
    let touch = |stage: &Stage, name: &str| {
        let script = format!("echo > /marks/{name}");
        let words = ["run", "-v", &volume, &stage.image, "sh", "-c", &script];
        stage.home.run(&words)
    };
    touch(&stage, "first").ok();
    stage.registry.stop();
    touch(&stage, "second").fails(125, "");
    assert_eq!(leftovers(&stage.home), Vec::<String>::new());
    until("no process", || stage.home.processes().is_empty());
    stage.registry.start_again();
    touch(&stage, "third").ok();
    let is_there = |name: &str| marks.join(name).exists();
    let began = ["first", "second", "third"].map(is_there);
    assert_eq!(began, [true, false, true]);
}

#[test]
fn ctrl_c_reaches_the_command_and_everything_is_cleared_away() {
    let stage = Stage::logged_in(busybox());
    let script = "trap 'exit 42' INT; echo up; while true; do sleep 1; done";
    let mut child = stage
        .home
        .spawn(&["run", &stage.image, "--", "sh", "-c", script]);
    wait_for_line(&mut child);
    signal(&child, Signal::INT);
    let ended = home::finish(child, "");
    assert_eq!(ended.code, 42, "{}", ended.stderr);
    assert_eq!(leftovers(&stage.home), Vec::<String>::new());
}

#[test]
fn a_command_that_heeds_no_signal_is_killed_at_the_third() {
    let stage = Stage::logged_in(busybox());
    let script = "trap '' INT; echo up; sleep 600; true";
    let mut child = stage
        .home
        .spawn(&["run", &stage.image, "--", "sh", "-c", script]);
    wait_for_line(&mut child);
    while child.try_wait().expect("the child is ours").is_none() {
        signal(&child, Signal::INT);
        std::thread::sleep(Duration::from_millis(200));
    }
    let ended = home::finish(child, "");
    assert_eq!(ended.code, 137, "{}", ended.stderr);
    assert_eq!(leftovers(&stage.home), Vec::<String>::new());
}

/// Whoever removes a credential says what becomes of what runs with it.
#[test]
fn a_removed_credential_ends_a_command_where_that_was_said() {
    let script = "echo up; sleep 2; echo done";
    let start = |stage: &Stage| {
        let mut child = stage
            .home
            .spawn(&["run", &stage.image, "--", "sh", "-c", script]);
        wait_for_line(&mut child);
        child
    };
    for running in ["continue", "drain"] {
        let stage = Stage::logged_in(busybox());
        let child = start(&stage);
        let removed = ["logout", &stage.scope(), "--running", running, "--json"];
        let removed = stage.home.run(&removed).ok().json();
        assert_eq!(removed["running"], running);
        let ended = home::finish(child, "");
        assert_eq!(ended.code, 0, "{running}: {}", ended.stderr);
    }
    let stage = Stage::logged_in(busybox());
    let mut child =
        stage
            .home
            .spawn(&["run", &stage.image, "--", "sh", "-c", "echo up; sleep 600"]);
    wait_for_line(&mut child);
    let scope = stage.scope();
    stage
        .home
        .run(&["logout", &scope, "--running", "kill"])
        .ok();
    let ended = home::finish(child, "");
    assert_eq!(ended.code, 137, "{}", ended.stderr);
    let why = format!("the credential for {scope} was removed");
    assert!(ended.stderr.contains(&why), "{}", ended.stderr);
    assert_eq!(leftovers(&stage.home), Vec::<String>::new());
    let never = ["logout", &scope, "--running", "never"];
    stage.home.run(&never).fails(2, "continue, drain or kill");
}

/// Where `logout` does not say it, the workspace has.
#[test]
fn a_workspace_says_what_becomes_of_its_containers() {
    let home = Home::new();
    let running = |words: &[&str]| {
        let words = [&["workspace"][..], words, &["--json"]].concat();
        home.run(&words).ok().json()["running"].take()
    };
    assert_eq!(running(&["show"]), "continue");
    assert_eq!(running(&["set", "--running", "drain"]), "drain");
    assert_eq!(running(&["show"]), "drain");
    assert_eq!(running(&["show", "--workspace", "theirs"]), "continue");
    let listed = home.run(&["workspace", "list", "--json"]).ok().json();
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
    home.run(&["workspace", "set", "--running", "never"])
        .fails(2, "continue, drain or kill");
    for (flag, expected) in [(&[][..], "drain"), (&["--running", "kill"], "kill")] {
        let stage = Stage::logged_in(busybox());
        let set = ["workspace", "set", "--running", "drain"];
        stage.home.run(&set).ok();
        let (scope, logout) = (stage.scope(), ["logout", "--json"]);
        let words = [&logout[..], flag, &[&scope]].concat();
        let removed = stage.home.run(&words).ok().json();
        assert_eq!(removed["running"], expected);
    }
}

#[test]
fn after_sigkill_the_next_start_cleans_up() {
    let stage = Stage::logged_in(busybox());
    let mut child =
        stage
            .home
            .spawn(&["run", &stage.image, "--", "sh", "-c", "echo up; sleep 600"]);
    wait_for_line(&mut child);
    signal(&child, Signal::KILL);
    home::finish(child, "");
    stage.home.run(&["run", &stage.image, "true"]).ok();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !leftovers(&stage.home).is_empty() && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_eq!(leftovers(&stage.home), Vec::<String>::new());
}

/// Waits for the end without reading what the process prints.
#[track_caller]
fn ends_within(child: &mut Child, patience: Duration) {
    let deadline = Instant::now() + patience;
    while child.try_wait().expect("the child is ours").is_none() {
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_name_is_one_containers_and_stop_ends_it() {
    let stage = Stage::logged_in(busybox());
    let (home, image) = (&stage.home, stage.image.as_str());
    let script = "echo up; sleep 600";
    let mut child = home.spawn(&["run", "--name", "box_1", image, "sh", "-c", script]);
    wait_for_line(&mut child);
    let listed = home.run(&["ps", "--json"]).ok().json();
    assert_eq!(listed[0]["name"], "box_1");
    assert_eq!(listed[0]["image"], image);
    home.run(&["run", "--name", "box_1", image, "true"])
        .fails(125, "box_1 is running");
    home.run(&["stop", "--time", "1", "box_1"]).ok();
    let ended = home::finish(child, "");
    assert_eq!(ended.code, 137, "{}", ended.stderr);
    assert_eq!(home.run(&["ps", "--json"]).ok().stdout.trim(), "[]");
    assert_eq!(leftovers(home), Vec::<String>::new());
}

#[test]
fn output_that_nobody_reads_does_not_keep_a_container() {
    let stage = Stage::logged_in(busybox());
    let script = "echo up; while true; do echo more; done";
    let words = ["run", "--name", "loud", &stage.image, "sh", "-c", script];
    let mut child = stage.home.spawn(&words);
    wait_for_line(&mut child);
    stage.home.run(&["stop", "--time", "1", "loud"]).ok();
    ends_within(&mut child, Duration::from_secs(20));
    assert_eq!(leftovers(&stage.home), Vec::<String>::new());
}

/// Files that a start makes for the time of indexing.
fn half_made(home: &Home) -> Vec<PathBuf> {
    let directories = ["tmp", "cache/incoming"].map(|name| home.data_dir().join(name));
    let files = directories.iter().map(|path| files_below(path));
    files.flatten().collect()
}

#[test]
fn an_interrupt_at_any_moment_leaves_nothing() {
    let big = Entry::file("big", noise(7, 6 << 20));
    let stage = Stage::logged_in(busybox().layer(Layer::gzip(&[big])));
    let words = ["run", &stage.image, "sleep", "600"];
    for wait_ms in [0, 30, 60, 120, 250, 500, 1000] {
        let mut child = stage.home.spawn(&words);
        std::thread::sleep(Duration::from_millis(wait_ms));
        while child.try_wait().expect("the child is ours").is_none() {
            signal(&child, Signal::INT);
            std::thread::sleep(Duration::from_millis(50));
        }
        let ended = home::finish(child, "");
        assert!([-1, 130, 137].contains(&ended.code), "{wait_ms}: {ended:?}");
        assert_eq!(leftovers(&stage.home), Vec::<String>::new(), "{wait_ms}");
    }
    stage.home.run(&["run", &stage.image, "true"]).ok();
    assert_eq!(half_made(&stage.home), Vec::<PathBuf>::new());
}
