//! `cargo xtask`: every task of this repository behind one door, each task a module.
//!
//! Invariants: pure Rust and none of our crates, so that it builds on a machine that has a
//! toolchain, a linker and nothing else; what a task starts, it stops. It deliberately has no
//! argument parser and no configuration: a task takes a flag or two and prints what it does.

mod arguments;
mod bench;
mod ci;
mod demo;
mod entry;
mod exact;
mod fuzz;
mod lab;
mod leftovers;
mod process;
mod python;
mod serving;
mod setup;
mod tidy;
mod tree;

use std::process::ExitCode;

use anyhow::Result;

use crate::arguments::Arguments;

const HELP: &str = "\
Tasks of the Holdfast repository.

Usage: cargo xtask TASK [FLAG…]

Tasks:
  setup [--check]                 install what building, testing and the demo need (Debian 12, root)
  demo [--profile dev|release] [--binary FILE]
                                  pack a private image, log in, run it lazily, rotate the password
  pack [demo|science|science-zstd|science-one-layer|science-many-layers]
                                  pack an image if it is not there, and print where it is
  ci                              everything that must pass: format, lints, tidy, docs, tests, demo
  tidy                            layers, dependencies, headers, lengths and other house rules
  bench NAME [--json FILE] [--runs N] [--only PART] [--binary FILE] [--plot]
                                  measure side by side; NAME is image
                                  (parts: index, start, reads)
                                  or calls (parts: warm, throughput, cold)
                                  or credentials (parts: cipher, vault, vend, crowd, rotating)
                                  or coldstart (links: 200mbit, the default, 24mbit, 800mbit,
                                  1gbit, capped; zstd, one-layer and many-layers
                                  are the first link and the image in other
                                  shapes; --plot draws into docs/benchmarks)
  exact [--stacks N] [--seed N]   compare random images with tar, overlay and containerd
  fuzz [TARGET…] [--minutes N] [--jobs N]
                                  look for inputs that break a reader, N minutes for each target
                                  (default 10), N targets at a time (default 1)
  help                            this text
";

fn main() -> ExitCode {
    let arguments = Arguments::from_process();
    match dispatch(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(mut arguments: Arguments) -> Result<ExitCode> {
    match arguments.next_word().as_deref() {
        Some("setup") => setup::run(arguments),
        Some("demo") => demo::run(arguments),
        Some("pack") => lab::pack(arguments),
        Some("ci") => ci::run(arguments),
        Some("tidy") => tidy::run(arguments),
        Some("bench") => bench::run(arguments),
        Some("exact") => exact::run(arguments),
        Some("fuzz") => fuzz::run(arguments),
        None | Some("help" | "--help" | "-h") => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        Some(other) => anyhow::bail!("no task named {other}\n\n{HELP}"),
    }
}
