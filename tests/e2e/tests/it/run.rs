//! `holdfast run` on a private image: what a person types, sees, and gets back.

use std::io::Read;
use std::time::{Duration, Instant};

use e2e::home;
use e2e::image::busybox;
use registry_sim::{Entry, Layer};
use rustix::process::Signal;
use serde_json::json;

use crate::support::{Stage, USER, noise};

#[test]
fn a_private_image_runs_after_one_login() {
    let stage = Stage::logged_in(busybox());
    let run = stage
        .home
        .run(&["run", &stage.image, "--", "echo", "hello"])
        .ok();
    assert_eq!(run.stdout, "hello\n");
    let again = stage.home.run(&["run", &stage.image, "echo", "again"]).ok();
    assert_eq!(again.stdout, "again\n");
    assert!(
        !again.stderr.contains("indexing"),
        "indexed twice: {}",
        again.stderr
    );
}

#[test]
fn exit_codes_are_the_commands_own() {
    let stage = Stage::logged_in(busybox());
    for (command, code) in [
        (vec!["sh", "-c", "exit 7"], 7),
        (vec!["true"], 0),
        (vec!["/no/such/program"], 127),
        (vec!["/etc/passwd"], 126),
        (vec!["sh", "-c", "sh -c 'kill -9 $$'; exit $?"], 137),
    ] {
        let mut words = vec!["run", &stage.image, "--"];
        words.extend(&command);
        let run = stage.home.run(&words);
        assert_eq!(run.code, code, "{command:?}: {}", run.stderr);
    }
}

#[test]
fn flags_reach_the_container() {
    let stage = Stage::logged_in(busybox());
    let host = stage.home.path().join("shared");
    std::fs::create_dir(&host).expect("a directory to share");
    std::fs::write(host.join("note"), "from the host").expect("a note");
    let volume = format!("{}:/mnt/shared:ro", host.display());
    for (flags, script, output) in [
        (vec!["-e", "GREETING=hi"], "echo $GREETING", "hi"),
        (vec!["-w", "/tmp"], "pwd", "/tmp"),
        (vec!["-u", "app"], "id -u", "1000"),
        (vec!["-u", "1234:5678"], "id -g", "5678"),
        (vec!["-v", &volume], "cat /mnt/shared/note", "from the host"),
        (
            vec!["-v", &volume],
            "echo x > /mnt/shared/note || echo refused",
            "refused",
        ),
        (vec!["--network", "none"], "ls /sys/class/net", "lo"),
        (vec!["--name", "box-1"], "cat /etc/hostname", "box-1"),
    ] {
        let mut words = vec!["run"];
        words.extend(&flags);
        words.extend([stage.image.as_str(), "--", "sh", "-c", script]);
        let run = stage.home.run(&words).ok();
        assert_eq!(run.stdout.trim_end(), output, "{flags:?}: {}", run.stderr);
    }
}

#[test]
fn the_image_configuration_decides_what_flags_leave_open() {
    let image = busybox()
        .config("Entrypoint", json!(["/bin/sh", "-c"]))
        .config("Cmd", json!(["id -u; pwd; cat data; echo \" $COLOR\""]))
        .config("Env", json!(["PATH=/bin", "COLOR=green"]))
        .config("User", json!("app"))
        .config("WorkingDir", json!("/srv"))
        .layer(Layer::gzip(&[Entry::file("srv/data", "in the image")]));
    let stage = Stage::logged_in(image);
    let run = stage.home.run(&["run", &stage.image]).ok();
    assert_eq!(run.stdout, "1000\n/srv\nin the image green\n");
    let run = stage
        .home
        .run(&["run", "-e", "COLOR=red", &stage.image, "--", "echo $COLOR"])
        .ok();
    assert_eq!(run.stdout, "red\n");
}

#[test]
fn standard_input_flows_only_when_asked_for() {
    let stage = Stage::logged_in(busybox());
    let run = stage
        .home
        .run_with_input(&["run", "-i", &stage.image, "cat"], "through")
        .ok();
    assert_eq!(run.stdout, "through");
    let run = stage
        .home
        .run_with_input(&["run", &stage.image, "cat"], "unheard")
        .ok();
    assert_eq!(run.stdout, "");
}

#[test]
fn a_wrong_password_is_told_and_nothing_is_stored() {
    let stage = Stage::new(busybox());
    stage
        .home
        .login(&stage.scope(), USER, "wrong")
        .fails(4, "error: ");
    let list = stage.home.run(&["credentials", "list", "--json"]).ok();
    assert_eq!(list.json(), json!([]));
    stage
        .home
        .run(&["run", &stage.image, "true"])
        .fails(125, "holdfast login");
}

#[test]
fn a_changed_password_needs_a_login_and_no_new_index() {
    let mut stage = Stage::logged_in(busybox());
    stage.home.run(&["run", &stage.image, "true"]).ok();
    stage.registry.set_password("the new one");
    stage
        .home
        .run(&["run", &stage.image, "true"])
        .fails(125, "holdfast login");
    stage.home.login(&stage.scope(), USER, "the new one").ok();
    let run = stage.home.run(&["run", &stage.image, "echo", "back"]).ok();
    assert_eq!(run.stdout, "back\n");
    assert!(
        !run.stderr.contains("indexing"),
        "indexed again: {}",
        run.stderr
    );
}

#[test]
fn logout_ends_the_right_to_start() {
    let stage = Stage::logged_in(busybox());
    stage.home.run(&["run", &stage.image, "true"]).ok();
    stage.home.run(&["logout", &stage.scope()]).ok();
    stage
        .home
        .run(&["run", &stage.image, "true"])
        .fails(125, "holdfast login");
    stage
        .home
        .run(&["logout", &stage.scope()])
        .fails(5, &stage.scope());
}

#[test]
fn the_anonymous_pull_is_explicit() {
    let stage = Stage::logged_in(busybox());
    let words = ["run", "--credential", "none", &stage.image, "true"];
    stage.home.run(&words).fails(125, "demands a login");
}

#[test]
fn the_mounted_tree_is_lazy() {
    let big = Entry::file("big", noise(1, 8 << 20));
    let stage = Stage::logged_in(busybox().layer(Layer::gzip(&[big])));
    stage.home.run(&["image", "index", &stage.image]).ok();
    stage.home.run(&["cache", "prune", "--all"]).ok();
    let timing = stage.home.path().join("timing.json");
    let words = [
        "run",
        "--timing-json",
        timing.to_str().expect("utf-8"),
        &stage.image,
        "true",
    ];
    stage.home.run(&words).ok();
    let text = std::fs::read_to_string(&timing).expect("the timing file");
    let timing: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let fetched = timing["bytes_fetched"].as_u64().expect("a number");
    let total = timing["bytes_total"].as_u64().expect("a number");
    assert!(
        fetched > 0 && fetched * 3 < total,
        "fetched {fetched} of {total}"
    );
    assert_eq!(timing["cold"], true);
    assert_eq!(timing["exit_code"], 0);
    assert!(
        timing["phases"]
            .as_array()
            .is_some_and(|phases| !phases.is_empty())
    );
}

#[test]
fn nothing_is_left_behind() {
    let stage = Stage::logged_in(busybox());
    stage.home.run(&["run", &stage.image, "true"]).ok();
    stage.home.run(&["run", &stage.image, "false"]).fails(1, "");
    assert_eq!(leftovers(&stage.home), Vec::<String>::new());
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

/// Waits until the command inside the container has printed its first byte.
fn wait_for_line(child: &mut std::process::Child) {
    let stdout = child.stdout.as_mut().expect("standard output is piped");
    let mut first = [0];
    stdout
        .read_exact(&mut first)
        .expect("the command says that it is up");
}

fn signal(child: &std::process::Child, signal: Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).expect("the child is ours");
}

/// Mounts and processes that still name this home.
fn leftovers(home: &e2e::Home) -> Vec<String> {
    let needle = home.path().to_str().expect("utf-8");
    let mounts = std::fs::read_to_string("/proc/mounts").expect("/proc/mounts");
    let mut found: Vec<String> = mounts
        .lines()
        .filter(|line| line.contains(needle))
        .map(str::to_owned)
        .collect();
    let containers = home.run_dir().join("containers");
    if let Ok(entries) = std::fs::read_dir(containers) {
        let paths = entries.flatten().map(|entry| entry.path());
        let paths = paths.filter(|path| path.is_dir());
        found.extend(paths.map(|path| path.display().to_string()));
    }
    found
}
