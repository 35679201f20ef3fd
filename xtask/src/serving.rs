//! `holdfast serve` as a child of a task: on a free loopback port, asked to end, never left behind.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process;

/// What `holdfast` is told, for a port that is free and an answer that can be read.
pub(crate) const WORDS: &[&str] = &["--json", "serve", "--listen", "127.0.0.1:0"];

/// A gateway, until it is stopped or dropped.
pub(crate) struct Serving {
    child: Child,
    gateway: String,
    token: String,
}

impl Serving {
    /// Starts a command that ends in [`WORDS`], and waits until it listens.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start holdfast serve")?;
        let output = child.stdout.take().context("serve has no output")?;
        let mut serving = Self {
            child,
            gateway: String::new(),
            token: String::new(),
        };
        let listening = first_object(BufReader::new(output))?;
        let text = |field: &str| {
            let value = listening[field].as_str();
            value.with_context(|| format!("serve does not say its {field}: {listening}"))
        };
        text("gateway")?.clone_into(&mut serving.gateway);
        let token = std::fs::read_to_string(text("token_file")?)?;
        token.trim().clone_into(&mut serving.token);
        Ok(serving)
    }

    /// Its URL.
    pub(crate) fn gateway(&self) -> &str {
        &self.gateway
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Ends the gateway as an operator does, and with it all that it started.
    pub(crate) fn stop(mut self) -> Result<()> {
        let id = self.child.id().to_string();
        process::run(&mut process::command("kill", &["-TERM", &id]))?;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("serve ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines up to the first that closes an object.
fn first_object(output: impl BufRead) -> Result<Value> {
    let mut text = String::new();
    for line in output.lines() {
        let line = line?;
        text.push_str(&line);
        if line == "}" {
            break;
        }
    }
    serde_json::from_str(&text).context("serve ended before it listened")
}
