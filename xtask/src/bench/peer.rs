//! The peer's side: pull everything with skopeo, unpack it with umoci, run it with runc.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::entry::Entry;
use crate::lab::TAG;
use crate::process;

/// An image as the peer has it: a layout and a bundle below one folder.
#[derive(Debug)]
pub(super) struct Peer {
    folder: PathBuf,
    entry: Entry,
}

impl Peer {
    pub(super) fn new(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Self {
            folder: folder.to_path_buf(),
            entry: Entry::default(),
        })
    }

    /// The same state, its programs started elsewhere.
    pub(super) fn within(&self, entry: Entry) -> Self {
        Self {
            folder: self.folder.clone(),
            entry,
        }
    }

    pub(super) fn rootfs(&self) -> PathBuf {
        self.bundle().join("rootfs")
    }

    /// Forgets everything.
    pub(super) fn forget(&self) -> Result<()> {
        process::run(
            process::command("rm", &["-rf"])
                .arg(self.layout())
                .arg(self.bundle()),
        )
    }

    pub(super) fn pull(&self, image: &str, auth_file: &Path) -> Result<()> {
        let mut command = self.entry.command("skopeo");
        command
            .args([
                "copy",
                "--quiet",
                "--src-tls-verify=false",
                "--src-authfile",
            ])
            .arg(auth_file);
        command.arg(format!("docker://{image}"));
        process::capture(command.arg(format!("oci:{}:{TAG}", self.layout().display()))).map(drop)
    }

    pub(super) fn unpack(&self) -> Result<()> {
        let image = format!("{}:{TAG}", self.layout().display());
        let mut command = self.entry.command("umoci");
        command.args(["unpack", "--image", &image]);
        process::capture(command.arg(self.bundle())).map(drop)
    }

    /// Sets the command of the bundle: no terminal, and the host's network as ours has it.
    pub(super) fn prepare(&self, words: &[&str]) -> Result<()> {
        let path = self.bundle().join("config.json");
        let text = std::fs::read(&path).context("umoci left no config.json")?;
        let mut config: Value = serde_json::from_slice(&text)?;
        config["process"]["args"] = json!(words);
        config["process"]["terminal"] = json!(false);
        let namespaces = config["linux"]["namespaces"].as_array_mut();
        namespaces
            .context("no namespaces")?
            .retain(|namespace| namespace["type"] != "network");
        Ok(std::fs::write(&path, serde_json::to_vec(&config)?)?)
    }

    pub(super) fn run(&self, expected: &str) -> Result<()> {
        let output = process::capture(&mut self.start_command())?;
        if output.trim_end() != expected {
            bail!("the peer's command printed {output:?} instead of {expected:?}");
        }
        Ok(())
    }

    /// Starts the command that was prepared.
    pub(super) fn start_command(&self) -> Command {
        let mut command = self.entry.command("runc");
        command.arg("--root").arg(self.folder.join("runc"));
        command.args(["run", "--bundle"]).arg(self.bundle());
        command.arg(format!("holdfast-bench-{}", std::process::id()));
        command
    }

    fn layout(&self) -> PathBuf {
        self.folder.join("layout")
    }

    fn bundle(&self) -> PathBuf {
        self.folder.join("bundle")
    }
}
