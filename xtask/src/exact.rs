//! `cargo xtask exact`: many more random stacks of layers than the tests compare with tar,
//! the kernel's overlay and containerd.
//!
//! The comparison itself is the mount's own test, told by the environment how many and from which
//! seed: what a long run finds, one seed shows again. Needs root and what `setup` installs.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::arguments::Arguments;
use crate::process;
use crate::tree;

/// A run that is worth its name, and that still ends within the hour.
const STACKS: usize = 10_000;

pub(crate) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let stacks = arguments.number("--stacks")?.unwrap_or(STACKS);
    let seed = arguments.number("--seed")?;
    arguments.finish()?;
    let words = ["test", "--package", "image-mount", "--test", "it", "--"];
    let filter = ["--nocapture", "stacks::"];
    let mut command = process::command("cargo", &[&words[..], &filter].concat());
    command.current_dir(tree::root());
    command.env("HOLDFAST_EXACT_STACKS", stacks.to_string());
    if let Some(seed) = seed {
        command.env("HOLDFAST_EXACT_SEED", seed.to_string());
    }
    process::run(&mut command).context("the stacks are not all alike")?;
    Ok(ExitCode::SUCCESS)
}
