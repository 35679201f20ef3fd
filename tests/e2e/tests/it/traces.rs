//! Traces: what one start read is on its way before the next one of the same workspace asks for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use e2e::home;
use e2e::image::busybox;
use registry_sim::{Entry, Layer};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::{PASSWORD, Stage, USER, leftovers, noise, signal, wait_for_line};

/// Reads a few of many files, out of their order. A guess finds none of them.
const SCRIPT: &str = "cat /data/17 /data/3 /data/11 /data/8 > /dev/null; echo done";

/// Spans of these files, at the least: a file has three of its own.
const SPANS: u64 = 8;

/// Half a minute is recorded, on a busy machine.
const RECORDED_WITHIN: Duration = Duration::from_mins(2);

fn stage() -> Stage {
    let file = |number: u64| Entry::file(&format!("data/{number}"), noise(number, 700_000));
    let mut entries = vec![Entry::directory("data")];
    entries.extend((0..20).map(file));
    Stage::logged_in(busybox().layer(Layer::gzip(&entries)))
}

/// A start with nothing in the cache; gives its timing.
fn cold_start(stage: &Stage, workspace: &str, script: &str) -> Value {
    stage.home.run(&["image", "index", &stage.image]).ok();
    stage.home.run(&["cache", "prune", "--all"]).ok();
    let timing = stage.home.path().join("timing.json");
    let words = ["--workspace", workspace, "run", "--timing-json"];
    let path = timing.to_str().expect("utf-8");
    let command = [path, &stage.image, "--", "sh", "-c", script];
    let run = stage.home.run(&[&words[..], &command].concat()).ok();
    assert_eq!(run.stdout, "done\n");
    serde_json::from_slice(&fs::read(timing).expect("a timing")).expect("JSON")
}

fn number(timing: &Value, name: &str) -> u64 {
    timing[name].as_u64().expect("a number")
}

/// Nothing before the first is kept, with its directory.
fn traces(stage: &Stage) -> Vec<PathBuf> {
    let list = |path: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(path).into_iter().flatten();
        entries
            .map(|entry| entry.expect("an entry").path())
            .collect()
    };
    let workspaces = list(&stage.home.data_dir().join("traces"));
    workspaces.iter().flat_map(|path| list(path)).collect()
}

#[test]
fn a_start_is_given_what_the_last_one_read() {
    let stage = stage();
    let first = cold_start(&stage, "default", SCRIPT);
    let guessed = number(&first, "spans_prefetched");
    assert!((1..SPANS).contains(&guessed), "the program alone: {first}");
    let second = cold_start(&stage, "default", SCRIPT);
    assert!(number(&second, "prefetch_hits") >= SPANS, "{second}");
    assert_eq!(
        second["spans_prefetched"], second["prefetch_hits"],
        "{second}"
    );
    assert!(
        number(&second, "bytes_fetched") <= number(&first, "bytes_fetched"),
        "{first} {second}"
    );
    let other = cold_start(&stage, "default", "cat /data/3 > /dev/null; echo done");
    assert!(
        number(&other, "prefetch_hits") > 3,
        "its program is known: {other}"
    );
}

#[test]
fn another_workspaces_trace_is_not_used() {
    let stage = stage();
    cold_start(&stage, "default", SCRIPT);
    let words = ["--workspace", "other", "login", &stage.scope()];
    let more = ["--username", USER, "--password-stdin"];
    let login = [&words[..], &more].concat();
    stage.home.run_with_input(&login, PASSWORD).ok();
    let other = cold_start(&stage, "other", SCRIPT);
    assert!(number(&other, "spans_prefetched") < SPANS, "{other}");
    let again = cold_start(&stage, "other", SCRIPT);
    assert!(number(&again, "prefetch_hits") >= SPANS, "{again}");
}

#[test]
fn a_damaged_trace_is_none() {
    let stage = stage();
    cold_start(&stage, "default", SCRIPT);
    let paths = traces(&stage);
    assert!(!paths.is_empty());
    for path in &paths {
        let length = fs::metadata(path).expect("a file").len();
        fs::write(path, noise(7, usize::try_from(length).expect("short"))).expect("written");
    }
    let damaged = cold_start(&stage, "default", SCRIPT);
    assert!(number(&damaged, "spans_prefetched") < SPANS, "{damaged}");
    let mended = cold_start(&stage, "default", SCRIPT);
    assert!(number(&mended, "prefetch_hits") >= SPANS, "{mended}");
}

#[test]
fn a_killed_run_leaves_a_usable_trace_or_none() {
    let stage = stage();
    let script = SCRIPT.replace("echo done", "echo up; sleep 600");
    let words = ["run", &stage.image, "--", "sh", "-c", &script];
    let mut child = stage.home.spawn(&words);
    wait_for_line(&mut child);
    signal(&child, Signal::KILL);
    let killed = home::finish(child, "");
    assert_ne!(killed.code, 0);
    cold_start(&stage, "default", SCRIPT);
    let traced = cold_start(&stage, "default", SCRIPT);
    assert!(number(&traced, "prefetch_hits") >= SPANS, "{traced}");
    assert_eq!(leftovers(&stage.home), Vec::<String>::new());
}

#[test]
fn who_runs_for_long_leaves_a_trace_before_its_end() {
    let stage = stage();
    let script = SCRIPT.replace("echo done", "echo up; sleep 600");
    let words = ["run", &stage.image, "--", "sh", "-c", &script];
    let mut child = stage.home.spawn(&words);
    wait_for_line(&mut child);
    let begun = Instant::now();
    while traces(&stage).len() < 3 {
        assert!(begun.elapsed() < RECORDED_WITHIN, "nothing is recorded");
        std::thread::sleep(Duration::from_millis(100));
    }
    signal(&child, Signal::KILL);
    home::finish(child, "");
    let traced = cold_start(&stage, "default", SCRIPT);
    assert!(number(&traced, "prefetch_hits") >= SPANS, "{traced}");
}
