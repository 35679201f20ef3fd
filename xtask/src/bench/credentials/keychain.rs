//! go-containerregistry, by a program in `keychain/` that pins it: its keychain reads Docker's
//! configuration, its transport asks a token service.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{process, tree};

/// `puller:correct-horse-battery`, the simulated registry's login, as Docker has it.
const LOGIN: &str = "cHVsbGVyOmNvcnJlY3QtaG9yc2UtYmF0dGVyeQ==";

/// The program, or why there is none.
pub(super) enum Keychain {
    Built(PathBuf),
    Missing,
}

impl Keychain {
    /// Builds it, with what it depends on, below `target/`.
    pub(super) fn build() -> Result<Self> {
        if process::output(&mut process::command("go", &["version"])).is_err() {
            return Ok(Self::Missing);
        }
        println!("building go-containerregistry's keychain");
        let folder = tree::target().join("go");
        let built = folder.join("keychain");
        let mut command = process::command("go", &["build", "-modcacherw", "-mod=readonly", "-o"]);
        command
            .arg(&built)
            .env("GOMODCACHE", folder.join("modules"))
            .env("GOCACHE", folder.join("cache"))
            .current_dir(tree::root().join("xtask/src/bench/credentials/keychain"));
        process::run(command.arg("."))?;
        Ok(Self::Built(built))
    }

    /// One run of some callers; nothing where it could not be built.
    pub(super) fn run(&self, question: &Question<'_>) -> Result<Option<Value>> {
        let Self::Built(program) = self else {
            return Ok(None);
        };
        let counts = [question.callers, question.each].map(|count| count.to_string());
        let mut command = std::process::Command::new(program);
        command.args([question.what, question.host]).args(counts);
        let printed = process::capture(command.env("DOCKER_CONFIG", question.config))?;
        let pace = serde_json::from_str(&printed).context("keychain prints no JSON")?;
        Ok(Some(pace))
    }

    /// What stands in a row beside ours.
    pub(super) fn name(&self, what: &str) -> String {
        match self {
            Self::Built(_) => format!("go-containerregistry: {what}"),
            Self::Missing => "not measured: Go is not installed".to_owned(),
        }
    }
}

pub(super) struct Question<'a> {
    pub(super) what: &'static str,
    pub(super) host: &'a str,
    /// A folder with Docker's `config.json`.
    pub(super) config: &'a Path,
    pub(super) callers: usize,
    pub(super) each: usize,
}

/// Writes Docker's configuration, logged in to a registry.
pub(super) fn log_in(config: &Path, host: &str) -> Result<()> {
    std::fs::create_dir_all(config)?;
    let text = json!({ "auths": { host: { "auth": LOGIN } } });
    Ok(std::fs::write(
        config.join("config.json"),
        text.to_string(),
    )?)
}
