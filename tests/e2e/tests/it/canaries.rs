//! Twelve canary secrets go through login, run, failure and rotation; none is found anywhere.
//!
//! Searched, raw and as base64: standard output and error of every command, every file of the
//! data and run directories, and the command line and environment of every process that has this
//! home's paths in it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine;
use e2e::Finished;
use e2e::image::busybox;

use crate::support::{Stage, USER};

/// Distinct in every byte that matters, so that a hit names its source.
fn canary(number: usize) -> String {
    format!(
        "canary-{number:02}-{:016x}",
        0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number as u64 + 1)
    )
}

#[test]
fn no_secret_is_found_anywhere() {
    let canaries: Vec<String> = (0..12).map(canary).collect();
    let mut stage = Stage::new(busybox());
    let watch = Watch::start(stage.home.path(), &canaries);
    let mut said = Vec::new();
    for secret in &canaries[..4] {
        stage.registry.set_password(secret);
        said.push(stage.home.login(&stage.scope(), USER, secret).ok());
        said.push(
            stage
                .home
                .run(&["run", "--timing", &stage.image, "--", "env"])
                .ok(),
        );
    }
    for secret in &canaries[4..8] {
        said.push(
            stage
                .home
                .login(&stage.scope(), USER, secret)
                .fails(4, "error"),
        );
        said.push(
            stage
                .home
                .login("127.0.0.1:1/gone", USER, secret)
                .fails(6, "error"),
        );
    }
    stage.registry.set_password(&canaries[8]);
    said.push(
        stage
            .home
            .run(&["run", &stage.image, "true"])
            .fails(125, "error"),
    );
    said.push(stage.home.run(&["credentials", "check", "--json"]));
    let rotate = ["credentials", "rotate", &stage.scope(), "--password-stdin"];
    said.push(stage.home.run_with_input(&rotate, &canaries[8]).ok());
    said.push(stage.home.run(&["run", &stage.image, "true"]).ok());
    said.push(
        stage
            .home
            .run_with_input(&["secret", "set", "plain"], &canaries[9])
            .ok(),
    );
    said.push(stage.home.run(&["secret", "list", "--json"]).ok());
    let detect = ["credentials", "detect", "--registry", "ghcr.io", "--json"];
    let keys = format!(
        r#"{{"GITHUB_USERNAME":"o","GITHUB_TOKEN":"{}"}}"#,
        canaries[10]
    );
    said.push(stage.home.run_with_input(&detect, &keys).ok());
    let keys = format!(r#"{{"NO_SUCH_KEY":"{}"}}"#, canaries[11]);
    said.push(
        stage
            .home
            .run_with_input(&detect, &keys)
            .fails(3, "NO_SUCH_KEY"),
    );
    let processes_seen = watch.stop();
    assert!(
        processes_seen > 0,
        "the watch saw no process: it proves nothing"
    );
    assert_silent(&said, &canaries);
    assert_absent(stage.home.path(), &canaries);
}

/// A secret in the forms in which it would travel.
fn needles(canaries: &[String]) -> Vec<Vec<u8>> {
    let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
    let mut needles = Vec::new();
    for secret in canaries {
        needles.push(secret.clone().into_bytes());
        // Each alignment of the secret inside a longer base64 text, without its unstable edges.
        for shift in 0..3 {
            let padded = [vec![b'x'; shift], secret.clone().into_bytes()].concat();
            let encoded = engine.encode(padded);
            let stable = &encoded[if shift == 0 { 0 } else { 4 }..encoded.len() - 4];
            needles.push(stable.as_bytes().to_vec());
        }
    }
    needles
}

fn holds_any<'a>(haystack: &[u8], needles: &'a [Vec<u8>]) -> Option<&'a [u8]> {
    let found = |needle: &&Vec<u8>| {
        haystack
            .windows(needle.len())
            .any(|window| window == **needle)
    };
    needles.iter().find(found).map(Vec::as_slice)
}

fn assert_silent(said: &[Finished], canaries: &[String]) {
    let needles = needles(canaries);
    for run in said {
        for text in [&run.stdout, &run.stderr] {
            assert_eq!(
                holds_any(text.as_bytes(), &needles),
                None,
                "in output {text}"
            );
        }
    }
}

pub(crate) fn assert_absent(directory: &Path, canaries: &[String]) {
    let needles = needles(canaries);
    let mut pending = vec![directory.to_owned()];
    let mut files = 0;
    while let Some(path) = pending.pop() {
        for entry in std::fs::read_dir(&path)
            .expect("a readable directory")
            .flatten()
        {
            let kind = entry.file_type().expect("a file type");
            if kind.is_dir() {
                pending.push(entry.path());
            } else if kind.is_file() {
                files += 1;
                let content = std::fs::read(entry.path()).expect("a readable file");
                assert_eq!(
                    holds_any(&content, &needles),
                    None,
                    "in {}",
                    entry.path().display()
                );
            }
        }
    }
    assert!(files > 3, "only {files} files were searched");
}

/// Looks at every process that belongs to a home, again and again.
struct Watch {
    stop: Arc<AtomicBool>,
    found: Arc<Mutex<Vec<String>>>,
    thread: std::thread::JoinHandle<usize>,
}

impl Watch {
    fn start(home: &Path, canaries: &[String]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let found = Arc::new(Mutex::new(Vec::new()));
        let (stopped, findings) = (Arc::clone(&stop), Arc::clone(&found));
        let (home, needles) = (home.to_str().expect("utf-8").to_owned(), needles(canaries));
        let thread = std::thread::spawn(move || {
            let mut seen = 0;
            while !stopped.load(Ordering::Relaxed) {
                seen += look(&home, &needles, &findings);
            }
            seen
        });
        Self {
            stop,
            found,
            thread,
        }
    }

    fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.thread.join().expect("the watch does not panic");
        let found = self.found.lock().expect("the watch does not panic");
        assert!(found.is_empty(), "{found:?}");
        seen
    }
}

/// One look at `/proc`. A process is ours when its program is holdfast or its words name the home.
fn look(home: &str, needles: &[Vec<u8>], found: &Mutex<Vec<String>>) -> usize {
    let mut seen = 0;
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let cmdline = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        let program = std::fs::read_link(entry.path().join("exe")).unwrap_or_default();
        let ours = program.ends_with("holdfast")
            || [&cmdline, &environ].iter().any(|text| {
                text.windows(home.len())
                    .any(|window| window == home.as_bytes())
            });
        if !ours {
            continue;
        }
        seen += 1;
        for (what, text) in [("cmdline", &cmdline), ("environ", &environ)] {
            if holds_any(text, needles).is_some() {
                let place = format!("{} of {}", what, entry.path().display());
                found.lock().expect("no panic while held").push(place);
            }
        }
    }
    seen
}

#[test]
fn the_search_finds_what_is_there() {
    let canaries = [canary(3)];
    let needles = needles(&canaries);
    let engine = base64::engine::general_purpose::STANDARD;
    for text in [
        format!("x{}y", canaries[0]),
        engine.encode(format!("alice:{}", canaries[0])),
        engine.encode(format!("a:{}", canaries[0])),
        engine.encode(format!("bo:{}", canaries[0])),
    ] {
        assert!(holds_any(text.as_bytes(), &needles).is_some(), "{text}");
    }
    assert_eq!(holds_any(b"nothing here", &needles), None);
}
