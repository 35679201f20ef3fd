//! Our side of a bench: a release build of `holdfast` with state of its own, run in silence.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::entry::Entry;
use crate::lab::Login;
use crate::{process, tree};

#[derive(Debug)]
pub(super) struct Ours {
    binary: PathBuf,
    folder: PathBuf,
    entry: Entry,
}

impl Ours {
    /// Builds the binary unless one is given; its state will be below `folder`.
    pub(super) fn new(binary: Option<PathBuf>, folder: &Path) -> Result<Self> {
        let binary = binary.map_or_else(build, Ok)?;
        // Who enters a lane comes out in another working directory.
        let binary = std::path::absolute(binary)?;
        Ok(Self {
            binary,
            folder: folder.to_path_buf(),
            entry: Entry::default(),
        })
    }

    /// The same program and state, started elsewhere.
    pub(super) fn within(&self, entry: Entry) -> Self {
        Self {
            binary: self.binary.clone(),
            folder: self.folder.clone(),
            entry,
        }
    }

    pub(super) fn binary(&self) -> &Path {
        &self.binary
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.entry.command(&self.binary);
        command.args(arguments);
        self.with_state(command)
    }

    /// The same on some cores, as taskset(1) takes them.
    pub(super) fn command_on(&self, cores: &str, arguments: &[&str]) -> Command {
        let mut command = self.entry.command("taskset");
        command.args(["--cpu-list", cores]).arg(&self.binary);
        command.args(arguments);
        self.with_state(command)
    }

    fn with_state(&self, mut command: Command) -> Command {
        command.env("HOLDFAST_DATA_DIR", self.folder.join("data"));
        command.env("HOLDFAST_ROOT_KEY", self.folder.join("root.key"));
        command
    }

    /// Standard output of a command that has to succeed.
    pub(super) fn output(&self, arguments: &[&str]) -> Result<String> {
        process::capture(&mut self.command(arguments))
    }

    pub(super) fn login(&self, address: &str, login: &Login) -> Result<()> {
        let scope = format!("{address}/acme");
        let arguments = [
            "login",
            &scope,
            "--username",
            login.username,
            "--password-stdin",
            "--plain-http",
        ];
        let mut command = self.command(&arguments);
        let output = process::output_with_input(&mut command, login.password.as_bytes())?;
        if !output.status.success() {
            bail!(
                "login failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(())
    }

    /// Forgets everything: credentials, indexes and cache.
    pub(super) fn forget(&self) -> Result<()> {
        for name in ["data", "root.key"] {
            process::run(process::command("rm", &["-rf"]).arg(self.folder.join(name)))?;
        }
        Ok(())
    }

    pub(super) fn empty_cache(&self) -> Result<()> {
        self.output(&["cache", "prune", "--all"]).map(drop)
    }

    /// As if no command had run before.
    pub(super) fn forget_traces(&self) -> Result<()> {
        let traces = self.folder.join("data/traces");
        process::run(process::command("rm", &["-rf"]).arg(traces))
    }

    /// Runs a command in an image, on the host's network, and returns its timing document.
    pub(super) fn run(&self, image: &str, words: &[&str], expected: &str) -> Result<Value> {
        let output = process::capture(&mut self.start_command(image, words))?;
        if output.trim_end() != expected {
            bail!("the command printed {output:?} instead of {expected:?}");
        }
        self.timing()
    }

    /// Starts a command in an image, on the network that it is started in.
    pub(super) fn start_command(&self, image: &str, words: &[&str]) -> Command {
        let mut command = self.command(&["run", "--userns", "host", "--network", "host"]);
        command.arg("--timing-json").arg(self.timing_file());
        command.args([image, "--"]).args(words);
        command
    }

    /// How many files the kernel reads by itself, or will in a moment.
    pub(super) fn backing_files(&self) -> Result<usize> {
        let folder = self.folder.join("data/cache/backing");
        Ok(std::fs::read_dir(folder)?.count())
    }

    /// The timing document of the last command.
    pub(super) fn timing(&self) -> Result<Value> {
        let text = std::fs::read(self.timing_file()).context("no timing was written")?;
        serde_json::from_slice(&text).context("the timing is not JSON")
    }

    fn timing_file(&self) -> PathBuf {
        self.folder.join("timing.json")
    }
}

fn build() -> Result<PathBuf> {
    println!("building holdfast (release)");
    let mut command = process::command("cargo", &["build", "--release", "--quiet"]);
    process::run(
        command
            .args(["--package", "holdfast-cli"])
            .current_dir(tree::root()),
    )?;
    Ok(tree::target().join("release/holdfast"))
}
