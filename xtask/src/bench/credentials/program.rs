//! `credential_speed` of `broker`: built once, run for every part, and the registry of both sides.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{process, tree};

pub(super) struct Program(PathBuf);

impl Program {
    pub(super) fn build() -> Result<Self> {
        println!("building credential_speed (release)");
        let mut command = process::command("cargo", &["build", "--release", "--quiet"]);
        command.args(["--package", "broker", "--example", "credential_speed"]);
        process::run(command.current_dir(tree::root()))?;
        let built = tree::target().join("release/examples/credential_speed");
        Ok(Self(built))
    }

    /// One run of a part, in a folder that is empty before and gone afterwards.
    pub(super) fn run(&self, part: &str, folder: &Path, words: &[&str]) -> Result<Value> {
        std::fs::create_dir_all(folder)?;
        let mut command = std::process::Command::new(&self.0);
        let printed = process::capture(command.arg(part).arg(folder).args(words));
        std::fs::remove_dir_all(folder)?;
        parse(&printed?)
    }

    pub(super) fn cipher(&self) -> Result<Value> {
        let mut command = std::process::Command::new(&self.0);
        parse(&process::capture(command.arg("cipher"))?)
    }

    pub(super) fn registry(&self) -> Result<Registry> {
        let mut command = process::command("setpriv", &["--pdeathsig=KILL"]);
        let mut child = command
            .arg(&self.0)
            .arg("registry")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the registry")?;
        let output = child.stdout.take().context("the registry has no output")?;
        let mut registry = Registry {
            child,
            host: String::new(),
        };
        BufReader::new(output).read_line(&mut registry.host)?;
        registry.host.truncate(registry.host.trim_end().len());
        Ok(registry)
    }
}

fn parse(printed: &str) -> Result<Value> {
    serde_json::from_str(printed).context("credential_speed prints no JSON")
}

/// A simulated registry with a token service, until it is dropped.
pub(super) struct Registry {
    child: Child,
    host: String,
}

impl Registry {
    pub(super) fn host(&self) -> &str {
        &self.host
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
