//! `cargo xtask bench`: side-by-side measurements.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::arguments::Arguments;

pub(crate) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let _ = arguments.number("--runs")?;
    bail!("no bench yet")
}
