//! `cargo xtask bench NAME`: ours beside a peer, measured in one run.
//!
//! Invariants: contenders take turns, so that a noisy minute hits all of them; medians with their
//! range are shown; a missed target is printed and is not an error, since a benchmark is no test.

mod calls;
mod coldstart;
mod credentials;
mod image;
mod lab;
mod ours;
mod peer;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use self::lab::Lab;
use self::report::Row;
use crate::arguments::Arguments;
use crate::setup;

const NAMES: &str = "image, calls, credentials, coldstart";

/// Turns that each contender gets unless `--runs` says otherwise.
const DEFAULT_RUNS: usize = 3;

/// What the command line says about any bench.
struct Options {
    runs: usize,
    /// One part of the bench by name.
    only: Option<String>,
    /// A binary to measure instead of building one.
    binary: Option<PathBuf>,
    /// Draw what was measured, where the bench can.
    plot: bool,
}

pub(crate) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let json = arguments.value("--json")?.map(PathBuf::from);
    let mut options = Options {
        runs: arguments.number("--runs")?.unwrap_or(DEFAULT_RUNS).max(1),
        only: arguments.value("--only")?,
        binary: arguments.value("--binary")?.map(PathBuf::from),
        plot: arguments.flag("--plot"),
    };
    let name = arguments
        .next_word()
        .with_context(|| format!("which bench? there are: {NAMES}"))?;
    arguments.finish()?;
    setup::require_root()?;
    let rows = match name.as_str() {
        "image" => measure(image::PARTS, options, Lab::new)?,
        "calls" => measure(calls::PARTS, options, Lab::new)?,
        "coldstart" => {
            let default = || coldstart::DEFAULT_PART.to_owned();
            options.only.get_or_insert_with(default);
            measure(coldstart::PARTS, options, coldstart::Lab::new)?
        }
        "credentials" => {
            let lab = |options| credentials::Lab::new(&options);
            measure(credentials::PARTS, options, lab)?
        }
        other => bail!("no bench named {other}; there are: {NAMES}"),
    };
    report::print(&rows);
    if let Some(path) = json {
        report::write_json(&path, &name, &rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A part of a bench by the name that `--only` takes.
type Part<L> = (&'static str, fn(&L) -> Result<Vec<Row>>);

fn measure<L>(
    parts: &[Part<L>],
    mut options: Options,
    lab: impl FnOnce(Options) -> Result<L>,
) -> Result<Vec<Row>> {
    let only = options.only.take();
    let is_chosen = |name: &str| only.as_deref().is_none_or(|only| only == name);
    let chosen: Vec<&Part<L>> = parts.iter().filter(|(name, _)| is_chosen(name)).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = parts.iter().map(|(name, _)| *name).collect();
        bail!("no such part; there are: {}", names.join(", "));
    }
    let runs = options.runs;
    let lab = lab(options)?;
    let mut rows = Vec::new();
    for (name, part) in chosen {
        println!("measuring {name} ({runs} runs each)");
        rows.extend(part(&lab)?);
    }
    Ok(rows)
}

/// What `work` gives and how many seconds it took.
fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let start = Instant::now();
    let value = work()?;
    Ok((value, start.elapsed().as_secs_f64()))
}

/// Forgets what the kernel has read, so that the next reads come from where the data is.
fn drop_page_cache() -> Result<()> {
    crate::process::run(&mut crate::process::command("sync", &[""; 0]))?;
    std::fs::write("/proc/sys/vm/drop_caches", "3").context("cannot drop the page cache")
}
