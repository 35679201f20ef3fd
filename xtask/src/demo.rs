//! `cargo xtask demo`: the first thing a user does, end to end.

use std::process::ExitCode;

use anyhow::Result;

use crate::arguments::Arguments;

pub(crate) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let _ = arguments.value("--profile")?;
    let _ = arguments.value("--binary")?;
    arguments.finish()?;
    Ok(ExitCode::SUCCESS)
}
