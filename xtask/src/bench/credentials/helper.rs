//! `docker-credential-pass`: one of Docker's credential helpers, over `pass` and a key of its own.

use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::lab::Scratch;
use crate::{process, setup};

pub(super) const NAME: &str = "docker-credential-pass get: a process, pass and gpg";

/// Enough for a 99th percentile that is not the worst by much, at a tenth of a second each.
const QUESTIONS: usize = 30;
const SERVER: &str = "https://registry.test";
/// As long as what ours opens.
const SECRET_BYTES: usize = 1024;

pub(super) struct Helper {
    folder: Scratch,
}

impl Helper {
    pub(super) fn new() -> Result<Self> {
        setup::need(&[
            ("golang-docker-credential-helpers", "a peer in benches"),
            ("pass", "what it keeps passwords with"),
            ("gnupg", "what that encrypts with"),
        ])?;
        // gpg-agent has its socket there, whose path must be short.
        let folder = Scratch::new(&std::env::temp_dir(), "holdfast-pass")?;
        let helper = Self { folder };
        let mut home = std::fs::DirBuilder::new();
        home.mode(0o700).create(helper.path("gnupg"))?;
        let mut key = helper.command("gpg");
        key.args(["--batch", "--quiet", "--passphrase", "", "--quick-gen-key"]);
        process::capture(key.args(["bench@holdfast.test", "default", "default", "never"]))?;
        process::capture(helper.command("pass").args(["init", "bench@holdfast.test"]))?;
        let secret = "v".repeat(SECRET_BYTES);
        let login = json!({ "ServerURL": SERVER, "Username": "puller", "Secret": secret });
        helper.ask("store", &login.to_string())?;
        Ok(helper)
    }

    /// The time that each of some questions took.
    pub(super) fn times(&self) -> Result<Vec<Duration>> {
        (0..QUESTIONS).map(|_| self.time()).collect()
    }

    fn time(&self) -> Result<Duration> {
        let begun = Instant::now();
        let answer = self.ask("get", SERVER)?;
        let time = begun.elapsed();
        let answer: Value = serde_json::from_str(&answer)?;
        if answer["Secret"].as_str().map(str::len) != Some(SECRET_BYTES) {
            bail!("docker-credential-pass does not give what it was given");
        }
        Ok(time)
    }

    fn ask(&self, question: &str, input: &str) -> Result<String> {
        let mut command = self.command("docker-credential-pass");
        let output = process::output_with_input(command.arg(question), input.as_bytes())?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            bail!("docker-credential-pass {question} failed: {}", said.trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// A command that knows no other keys and passwords than these.
    fn command(&self, program: &str) -> Command {
        let mut command = process::command(program, &[""; 0]);
        command
            .env("HOME", self.folder.path())
            .env("GNUPGHOME", self.path("gnupg"))
            .env("PASSWORD_STORE_DIR", self.path("store"));
        command
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Helper {
    /// gpg started an agent, which would outlive its folder by a moment.
    fn drop(&mut self) {
        let mut command = self.command("gpgconf");
        if let Err(error) = process::capture(command.args(["--kill", "all"])) {
            eprintln!("warning: {error:#}");
        }
    }
}
