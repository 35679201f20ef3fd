//! Functions on a worker of another machine, which here is another data directory.

use std::io::Write;
use std::process::Child;

use e2e::Home;
use e2e::home::finish;
use rustix::process::{Pid, Signal, kill_process};

use crate::functions::{
    Stage, assert_nothing_is_left, container_directories, files_of, used_directories,
};
use crate::serving::Serving;
use crate::support::{PASSWORD, until};

fn run_worker(home: &Home, gateway: &str) -> Child {
    home.spawn(&["worker", "run", gateway, "--name", "node-1"])
}

pub(crate) fn join(home: &Home, gateway: &str, token: &str) -> Child {
    let mut child = run_worker(home, gateway);
    let mut input = child.stdin.take().expect("piped");
    input.write_all(token.as_bytes()).expect("it reads");
    child
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("it runs");
}

#[test]
fn a_function_runs_on_a_worker_of_another_machine() {
    let stage = Stage::with(Serving::start_without_worker);
    let node = Home::new().with_own_program();
    let gateway = stage.serving().workers().to_owned();
    let made = stage.home.run(&["worker", "token", "--json"]).ok().json();
    let token = made["token"].as_str().expect("a token").to_owned();
    let mut worker = join(&node, &gateway, &token);
    let first = stage.python(&["greet", "world"]).ok();
    assert_eq!(first.stdout, "greeting world\nHello, world!\n");
    assert_eq!(used_directories(&node).len(), 1, "it runs there");
    until("another sandbox", || {
        container_directories(&node).len() == 2
    });
    assert_eq!(container_directories(&stage.home).len(), 0);

    signal(&worker, Signal::KILL);
    worker.wait().expect("it ends");
    // The token has been used, and none is asked for.
    let worker = run_worker(&node, &gateway);
    let again = stage.python(&["greet", "again"]).ok();
    assert!(
        again.stdout.ends_with("Hello, again!\n"),
        "{}",
        again.stdout
    );

    assert!(!node.root_key().exists(), "a worker has no root key");
    for path in files_of(&node) {
        let bytes = std::fs::read(&path).unwrap_or_default();
        for secret in [PASSWORD, &token] {
            let mut places = bytes.windows(secret.len());
            let is_there = places.any(|at| at == secret.as_bytes());
            assert!(!is_there, "a secret is in {}", path.display());
        }
    }
    let listed = stage.home.run(&["worker", "list", "--json"]).ok().json();
    assert_eq!(listed[0]["name"], "node-1", "{listed}");
    stage.home.run(&["worker", "remove", "node-1"]).ok();
    finish(worker, "").fails(4, "joins with a token");
    assert_nothing_is_left(&node);
    let thief = Home::new();
    finish(run_worker(&thief, &gateway), &token).fails(4, "was used before");
    stage.end();
}

/// A worker that has joined and tells what was fetched ahead.
fn telling_worker(stage: &Stage, home: &Home, name: &str) -> Child {
    let made = stage.home.run(&["worker", "token", "--json"]).ok().json();
    let token = made["token"].as_str().expect("a token").to_owned();
    let words = ["worker", "run", stage.serving().workers(), "--name", name];
    let mut command = home.command(&words);
    command.env("HOLDFAST_LOG", "worker=debug");
    let mut child = e2e::home::spawn(command);
    let mut input = child.stdin.take().expect("piped");
    input.write_all(token.as_bytes()).expect("it reads");
    child
}

/// Ends a worker; how many spans that were fetched ahead each of its containers has read.
fn hits(worker: Child) -> Vec<u64> {
    signal(&worker, Signal::TERM);
    let told = worker.wait_with_output().expect("it ends").stderr;
    let told = String::from_utf8_lossy(&told);
    let number = |line: &str| {
        let (_, told) = line.split_once(" fetched ahead, ")?;
        told.split(' ').next()?.parse().ok()
    };
    told.lines().filter_map(number).collect()
}

#[test]
fn what_one_worker_has_read_is_fetched_ahead_on_another() {
    let stage = Stage::with(Serving::start_without_worker);
    let [first, second] = [(); 2].map(|()| Home::new().with_own_program());
    let worker = telling_worker(&stage, &first, "node-1");
    stage.python(&["cold"]).ok();
    let on_first = hits(worker);
    // Of the one that looked for Python nothing was known: a guess was fetched.
    let [guessed, ..] = on_first[..] else {
        panic!("it has run containers");
    };
    assert!(
        !first.data_dir().join("traces").exists(),
        "they are kept once"
    );
    until("they are kept", || {
        stage.home.data_dir().join("traces").exists()
    });
    let worker = telling_worker(&stage, &second, "node-2");
    stage.python(&["cold"]).ok();
    let [foretold] = hits(worker)[..] else {
        panic!("one container has run");
    };
    assert!(foretold > guessed, "{foretold} and {guessed} of a guess");
    stage.end();
}

#[test]
fn what_was_given_out_is_listed_and_a_removed_worker_too() {
    let stage = Stage::with(Serving::start_without_worker);
    let node = Home::new().with_own_program();
    let gateway = stage.serving().workers().to_owned();
    let made = stage.home.run(&["worker", "token", "--json"]).ok().json();
    let token = made["token"].as_str().expect("a token").to_owned();
    let mut worker = join(&node, &gateway, &token);
    stage.python(&["greet", "world"]).ok();
    let blast = |home: &Home, of: &[&str]| {
        let asked = [&["audit", "blast", "--json"], of].concat();
        home.run(&asked).ok().json()
    };
    let given = blast(&stage.home, &["--worker", "node-1"]);
    let first = &given["exposed"][0];
    assert_eq!(first["alive"], true, "{given}");
    let scope = first["scope"].as_str().expect("a scope").to_owned();
    assert!(!given.to_string().contains(PASSWORD));
    let of_scope = blast(&stage.home, &["--credential", &scope]);
    assert!(of_scope["exposed"].as_array().expect("rows").len() >= 2);
    assert_eq!(
        blast(&stage.home, &["--worker", "node-1", "--since", "0s"])["exposed"],
        serde_json::json!([])
    );

    let removed = stage.home.run(&["worker", "remove", "node-1", "--json"]);
    let removed = removed.ok().json();
    assert_eq!(
        (&removed["name"], &removed["exposed"]),
        (&"node-1".into(), &given["exposed"])
    );
    assert_eq!(removed["rotate"], given["rotate"]);
    worker.wait().expect("it is cut off");
    let after = blast(&stage.home, &["--worker", "node-1"]);
    assert_eq!(after["exposed"][0]["container"], first["container"]);
    let nobody = ["audit", "blast", "--worker", "node-9"];
    stage
        .home
        .run(&nobody)
        .fails(5, "no worker \"node-9\" has ever joined");
}
