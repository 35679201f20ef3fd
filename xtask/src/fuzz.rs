//! `cargo xtask fuzz [TARGET…]`: libFuzzer over the targets of the `fuzz` crate, for as long as
//! there is time.
//!
//! Invariants: the stable toolchain and nothing to install, since coverage is a pass of its own
//! compiler; what is built, found and kept is below `target/fuzz/`; a target stops at its first
//! finding, which is named together with the command that repeats it. It deliberately changes
//! nothing in `fuzz/corpus`: which input is worth keeping is for a person to say.

mod campaign;
mod report;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use crate::arguments::Arguments;
use crate::{process, tree};

use self::campaign::{Campaign, Outcome};

/// Minutes that each target gets unless `--minutes` says otherwise.
const DEFAULT_MINUTES: usize = 10;

/// What makes a program that libFuzzer can steer: counters on edges, and comparisons to learn from.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg=fuzzing",
];

/// Flags are joined by this byte, so that they may hold blanks.
const FLAG_SEPARATOR: &str = "\u{1f}";

pub(crate) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let minutes = arguments.number("--minutes")?.unwrap_or(DEFAULT_MINUTES);
    let jobs = arguments.number("--jobs")?.unwrap_or(1).max(1);
    let known = targets(&tree::root().join("fuzz/corpus"))?;
    let chosen = choose(&mut arguments, &known)?;
    arguments.finish()?;
    let programs = build()?;
    let campaign = Campaign {
        programs,
        data: tree::root().join("fuzz"),
        kept: tree::target().join("fuzz"),
        seconds: minutes * 60,
    };
    let outcomes = run_all(&campaign, chosen, jobs)?;
    report::print(&outcomes);
    let clean = outcomes.iter().all(|outcome| outcome.findings.is_empty());
    Ok(if clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Every target has a folder in the corpus, by which it is known here.
fn targets(corpus: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let subject = || format!("cannot list {}", corpus.display());
    for entry in std::fs::read_dir(corpus).with_context(subject)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// The targets that were named, or all.
fn choose(arguments: &mut Arguments, known: &[String]) -> Result<Vec<String>> {
    let mut chosen = Vec::new();
    while let Some(word) = arguments.next_word() {
        if !known.contains(&word) {
            bail!("no target named {word}; there are: {}", known.join(", "));
        }
        chosen.push(word);
    }
    Ok(if chosen.is_empty() {
        known.to_vec()
    } else {
        chosen
    })
}

/// Builds the programs and says where they are. A target triple is named so that the flags do not
/// reach build scripts and procedural macros.
fn build() -> Result<PathBuf> {
    let folder = tree::target().join("fuzz/build");
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut command = process::command("cargo", &["build", "--package", "fuzz", "--bins"]);
    command
        .args([
            "--features",
            "libfuzzer",
            "--profile",
            "fuzz",
            "--target",
            &triple,
        ])
        .arg("--target-dir")
        .arg(&folder)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join(FLAG_SEPARATOR))
        .current_dir(tree::root());
    process::run(&mut command).context("libFuzzer needs g++: see `cargo xtask setup`")?;
    Ok(folder.join(triple).join("fuzz"))
}

/// Runs the targets, so many at a time, in their order.
fn run_all(campaign: &Campaign, targets: Vec<String>, jobs: usize) -> Result<Vec<Outcome>> {
    let waiting = Mutex::new(VecDeque::from(targets));
    let next = || {
        waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    };
    let work = || -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        while let Some(target) = next() {
            outcomes.push(campaign.run(&target)?);
        }
        Ok(outcomes)
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        let mut outcomes = Vec::new();
        for worker in workers {
            outcomes.extend(worker.join().expect("a worker does not panic")?);
        }
        Ok(outcomes)
    })
}

#[cfg(test)]
mod tests {
    use super::choose;
    use crate::arguments::Arguments;

    #[test]
    fn targets_are_chosen_by_name() {
        let known = ["index", "layer"].map(str::to_owned);
        let chosen = |words| choose(&mut Arguments::from_words(words), &known);
        assert_eq!(chosen(&[]).unwrap(), known);
        assert_eq!(chosen(&["layer"]).unwrap(), ["layer"]);
        let error = chosen(&["other"]).unwrap_err().to_string();
        assert_eq!(error, "no target named other; there are: index, layer");
    }
}
