//! The `holdfast` binary: parse, run one command, report.
//!
//! The hidden roles (`mount-server`, `mount-janitor`, `layer-indexer`, `key-keeper`) are decided
//! before anything else is set up: they inherit descriptors, have no environment and must not start
//! threads first.

mod app;
mod args;
mod authority;
mod bounded_file;
mod causes;
mod client;
mod commands;
mod contexts;
mod failure;
mod gateway_url;
mod output;
mod progress;
mod resolved;
mod secret_input;
mod settings;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use args::{Cli, Command};
use commands::{credential_helper, roles};
use failure::{Failure, Kind, Result};

fn main() -> ExitCode {
    // Commands wait for this role: it does without their grammar, which takes a third of its start.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|word| word == roles::KEY_KEEPER)
    {
        return roles::key_keeper();
    }
    let cli = Cli::parse_from(words());
    match &cli.command {
        Command::MountServer => return roles::mount_server(),
        Command::MountJanitor { directory } => return roles::mount_janitor(directory),
        Command::LayerIndexer { fill_cache } => return roles::layer_indexer(*fill_cache),
        _ => {}
    }
    let json = cli.global.json;
    match run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.report(json);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// What was typed. Docker starts its helpers by their programs' names.
fn words() -> impl Iterator<Item = OsString> {
    let mut words = std::env::args_os();
    let program = words.next();
    let name = program
        .as_deref()
        .and_then(|path| Path::new(path).file_name());
    let is_helper = name.is_some_and(|name| name == credential_helper::PROGRAM);
    let command = is_helper.then(|| OsString::from("credential-helper"));
    program.into_iter().chain(command).chain(words)
}

fn run(cli: Cli) -> Result<u8> {
    start_log();
    // Credentials pass through this process: no core dump, no debugger of the same user.
    confine::forbid_dumps().map_err(|error| Failure::of(Kind::Machine, &error))?;
    // A second installation is refused; the first is this one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::new(Kind::Machine, format!("cannot start threads: {error}")))?;
    // As a task: what is awaited here itself would run on this thread, and each word between a
    // gateway and its worker wake it besides those that they come and go by.
    let command = runtime.spawn(commands::dispatch(cli));
    let result = runtime.block_on(command);
    let result = result.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    // Blocking work that is still going on (a read of standard input) must not keep us here.
    runtime.shutdown_background();
    result
}

/// Warnings go to standard error; `HOLDFAST_LOG` asks for more.
fn start_log() {
    let filter = EnvFilter::try_from_env("HOLDFAST_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .init();
}
