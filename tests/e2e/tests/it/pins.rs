//! Pinned images, whose starts do without a registry that is away.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use e2e::Finished;
use e2e::image::{busybox, busybox_with};
use registry_sim::Entry;
use serde_json::Value;

use crate::functions;
use crate::serving::Serving;
use crate::support::{PASSWORD, Stage, USER, noise, until};

/// What starts print in these tests.
const MARK: &str = "it runs";

fn run(stage: &Stage) -> Finished {
    stage.home.run(&["run", &stage.image, "--", "cat", "/mark"])
}

fn stage() -> Stage {
    let marked = [Entry::file("mark", MARK)];
    Stage::logged_in(busybox_with(&marked))
}

fn pinned() -> Stage {
    let stage = stage();
    let pinned = stage.home.run(&["image", "pin", &stage.image, "--json"]);
    let pinned = pinned.ok().json();
    assert_eq!(pinned["offline_seconds"], 12 * 60 * 60, "{pinned}");
    stage
}

#[test]
fn a_pinned_image_starts_while_its_registry_is_away() {
    let mut stage = pinned();
    let digest = stage.home.run(&["image", "list", "--json"]).ok().json();
    assert_eq!(digest[0]["pinned_as"][0], *stage.image, "{digest}");
    stage.registry.stop();
    let started = run(&stage).ok();
    assert_eq!(started.stdout, MARK);
    for told in [
        "holdfast: outage: 127.0.0.1:",
        "was not reached: ",
        digest[0]["manifest_digest"].as_str().expect("a digest"),
        "proven at",
    ] {
        assert!(started.stderr.contains(told), "{told}: {}", started.stderr);
    }
    // A start that was not proven proves nothing: the time goes on from the last proof.
    let proven_at = |run: &Finished| {
        let (_, rest) = run.stderr.split_once("proven at ").expect("it says when");
        rest.split(' ').next().expect("a time").to_owned()
    };
    assert_eq!(proven_at(&run(&stage).ok()), proven_at(&started));
    // What is not pinned is not started, and neither is what is pinned no more.
    stage.home.run(&["image", "unpin", &stage.image]).ok();
    run(&stage).fails(125, "cannot read from");
    let again = stage.home.run(&["image", "unpin", &stage.image]);
    again.fails(5, "is not pinned");
    stage.registry.start_again();
    let proven = run(&stage).ok();
    assert!(!proven.stderr.contains("outage"), "{}", proven.stderr);
}

#[test]
fn a_tag_means_what_it_was_pinned_as_until_the_registry_says_otherwise() {
    let mut stage = pinned();
    stage.push("v1", busybox_with(&[Entry::file("mark", "another")]));
    assert_eq!(run(&stage).ok().stdout, "another");
    stage.registry.stop();
    assert_eq!(run(&stage).ok().stdout, MARK);
    stage.registry.start_again();
    stage.home.run(&["image", "pin", &stage.image]).ok();
    stage.registry.stop();
    assert_eq!(run(&stage).ok().stdout, "another");
}

#[test]
fn a_workspace_says_for_how_long_a_proof_counts() {
    let mut stage = pinned();
    let set = |offline: &str| {
        let words = ["workspace", "set", "--offline", offline, "--json"];
        stage.home.run(&words)
    };
    for bad in ["soon", "-1h", "31d", "1", "99999999999999999999d"] {
        assert_eq!(set(bad).code, 2, "{bad}");
    }
    assert_eq!(set("7d").ok().json()["offline_seconds"], 7 * 24 * 60 * 60);
    assert_eq!(set("0").ok().json()["offline_seconds"], 0);
    stage.registry.stop();
    let refused = run(&stage).fails(125, "cannot read from");
    assert!(
        refused.stderr.contains("has each start proven"),
        "{}",
        refused.stderr
    );
    let set = |offline: &str| stage.home.run(&["workspace", "set", "--offline", offline]);
    set("1s").ok();
    until("the proof is old", || run(&stage).code == 125);
    let refused = run(&stage).fails(125, "cannot read from");
    assert!(
        refused.stderr.contains("counts for 1s only"),
        "{}",
        refused.stderr
    );
    set("1h").ok();
    assert_eq!(run(&stage).ok().stdout, MARK);
}

#[test]
fn a_removed_credential_and_a_registry_that_answers_end_a_pinned_start() {
    let mut stage = pinned();
    stage.registry.stop();
    assert_eq!(run(&stage).ok().stdout, MARK);
    stage.registry.set_password("another");
    stage.registry.start_again();
    run(&stage).fails(125, "refused the user name or password");
    // It has said no: that it is away now takes nothing back.
    stage.registry.stop();
    let refused = run(&stage).fails(125, "cannot read from");
    assert!(
        refused.stderr.contains("the registry refused it"),
        "{}",
        refused.stderr
    );
    stage.registry.set_password(PASSWORD);
    stage.registry.start_again();
    run(&stage).ok();
    stage.registry.stop();
    assert_eq!(run(&stage).ok().stdout, MARK);
    stage.home.run(&["logout", &stage.scope()]).ok();
    let refused = run(&stage).fails(125, "cannot read from");
    assert!(
        refused.stderr.contains("nothing is proven"),
        "{}",
        refused.stderr
    );
    // A login cannot be had from a registry that is away, and what it gives is proven anew.
    stage.registry.start_again();
    stage.home.login(&stage.scope(), USER, PASSWORD).ok();
    stage.registry.stop();
    run(&stage).fails(125, "nothing is proven");
}

#[test]
fn another_workspace_starts_nothing_by_a_pin_that_is_not_its_own() {
    let mut stage = pinned();
    let scope = stage.scope();
    let words = [
        "--workspace",
        "other",
        "login",
        &scope,
        "--username",
        USER,
        "--password-stdin",
    ];
    stage.home.run_with_input(&words, PASSWORD).ok();
    let other = |words: &[&str]| stage.home.run(&[&["--workspace", "other"], words].concat());
    let start = ["run", &*stage.image, "--", "cat", "/mark"];
    assert_eq!(other(&start).ok().stdout, MARK);
    assert_eq!(
        other(&["image", "list", "--json"]).ok().json()[0]["pinned_as"],
        serde_json::json!([])
    );
    other(&["image", "unpin", &stage.image]).fails(5, "is not pinned");
    stage.registry.stop();
    let other = |words: &[&str]| stage.home.run(&[&["--workspace", "other"], words].concat());
    other(&start).fails(125, "cannot read from");
    assert_eq!(run(&stage).ok().stdout, MARK);
}

#[test]
fn what_is_pinned_is_whole_and_stays_in_the_cache() {
    let mut stage = stage();
    let holdfast = |words: &[&str]| stage.home.run(words).ok().json();
    holdfast(&["image", "index", &stage.image, "--json"]);
    holdfast(&["cache", "prune", "--all", "--json"]);
    holdfast(&["image", "pin", &stage.image, "--json"]);
    let verified = holdfast(&["image", "verify", &stage.image, "--json"]);
    let layer = &verified["layers"][0];
    assert_eq!(layer["spans_cached"], layer["spans"], "{verified}");
    let pruned = holdfast(&["cache", "prune", "--all", "--json"]);
    assert_eq!(pruned["layers"], 0, "{pruned}");
    let usage = holdfast(&["cache", "du", "--json"]);
    assert_eq!(usage["layers"][0]["pinned"], true, "{usage}");
    assert_eq!(usage["pinned_bytes"], usage["bytes"], "{usage}");
    let pruned = holdfast(&["cache", "prune", "--all", "--pinned", "--json"]);
    assert_eq!(pruned["layers"], 1, "{pruned}");
    let listed = holdfast(&["image", "list", "--json"]);
    assert_eq!(listed[0]["pinned_as"], serde_json::json!([]), "{listed}");
    stage.registry.stop();
    run(&stage).fails(125, "cannot read from");
}

/// What somebody took out of the cache by hand is missed before a start, and said.
#[test]
fn a_pinned_image_that_is_not_whole_any_more_does_not_start_without_its_registry() {
    let mut stage = pinned();
    let layers = stage.home.data_dir().join("cache/layers");
    stage.registry.stop();
    std::fs::remove_dir_all(&layers).expect("removes");
    let refused = run(&stage).fails(125, "cannot read from");
    assert!(
        refused.stderr.contains("not here any more"),
        "{}",
        refused.stderr
    );
    stage.registry.start_again();
    stage.home.run(&["image", "pin", &stage.image]).ok();
    stage.registry.stop();
    assert_eq!(run(&stage).ok().stdout, MARK);
}

#[test]
fn an_image_that_does_not_fit_is_refused_before_anything_is_read() {
    let stage = Stage::logged_in(busybox());
    let big = busybox_with(&[Entry::file("big", noise(1, 6 << 20))]);
    let big = stage.push("big", big);
    let configure = |limit: &str| {
        stage
            .home
            .configure(&format!("cache_limit = \"{limit}\"\n"));
    };
    configure("4m");
    let refused = stage.home.run(&["image", "pin", &big]).fails(10, &big);
    assert!(
        refused.stderr.contains("may take 4194304"),
        "{}",
        refused.stderr
    );
    let usage = || stage.home.run(&["cache", "du", "--json"]).ok().json();
    assert_eq!(usage()["layers"], Value::Array(Vec::new()));
    // Beside what is pinned there is room for what is not pinned too.
    configure("10m");
    stage.home.run(&["image", "pin", &big]).ok();
    let other = busybox_with(&[Entry::file("big", noise(2, 6 << 20))]);
    let other = stage.push("other", other);
    let refused = stage.home.run(&["image", "pin", &other]);
    refused.fails(10, "that are pinned");
    stage.home.run(&["run", &other, "--", "cat", "/big"]).ok();
    let usage = usage();
    assert!(usage["pinned_bytes"].as_u64() > Some(6 << 20), "{usage}");
    stage.home.run(&["image", "unpin", &big]).ok();
    stage.home.run(&["image", "pin", &other]).ok();
}

#[test]
fn a_registry_that_takes_a_question_and_says_nothing_is_away() {
    let mut stage = pinned();
    stage.registry.stop();
    let silent = TcpListener::bind(stage.registry.host()).expect("the port is free");
    let started = run(&stage).ok();
    assert_eq!(started.stdout, MARK);
    let told = "no answer within 10s";
    assert!(started.stderr.contains(told), "{}", started.stderr);
    drop(silent);
}

/// The gateway, which is asked anew after a restart, has no registry to ask.
#[test]
fn a_function_of_a_pinned_image_is_called_while_its_registry_is_away() {
    let mut stage = functions::Stage::new();
    let mut calling = stage.start_python(PASSWORD, &["cold_again"]);
    let mut lines = BufReader::new(calling.stdout.take().expect("piped"));
    let mut line = || {
        let mut line = String::new();
        lines.read_line(&mut line).expect("it writes");
        line
    };
    let mut next = calling.stdin.take().expect("piped");
    assert_eq!(line(), "called\n");
    stage.home.run(&["image", "pin", &stage.image]).ok();
    until("no container", || {
        let listed = stage.home.run(&["containers", "list", "--json"]).ok();
        listed.json() == Value::Array(Vec::new())
    });
    stage.registry.stop();
    stage.serve_again(Serving::end);
    writeln!(next, "again").expect("it reads");
    assert_eq!(line(), "called\n");
    // An answer is the last word, and is remembered.
    let words = ["workspace", "set", "--offline", "0"];
    stage.home.run(&words).ok();
    writeln!(next, "again").expect("it reads");
    let told = line();
    assert!(told.contains("has each start proven"), "{told}");
    drop(next);
    calling.wait().expect("it ends");
    stage.end();
}
