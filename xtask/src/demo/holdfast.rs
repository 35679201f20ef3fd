//! The binary under demonstration: run it, show what it says, keep that for the checks.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process;

/// A `holdfast` with directories and a root key of its own.
#[derive(Debug)]
pub(super) struct Holdfast {
    binary: PathBuf,
    data_dir: PathBuf,
    root_key: PathBuf,
    transcript_dir: PathBuf,
}

/// What one command came to.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: ExitStatus,
    pub(super) output: String,
    pub(super) errors: String,
    pub(super) timing: Option<Timing>,
}

/// The parts of `--timing-json` that the demo looks at.
#[derive(Debug)]
pub(super) struct Timing {
    pub(super) cold: bool,
    pub(super) bytes_fetched: u64,
    pub(super) bytes_total: u64,
    pub(super) phases: Vec<String>,
}

impl Holdfast {
    pub(super) fn new(binary: PathBuf, scratch: &Path) -> Result<Self> {
        if !binary.exists() {
            bail!("no binary at {}", binary.display());
        }
        let transcript_dir = scratch.join("transcript");
        fs::create_dir(&transcript_dir)?;
        Ok(Self {
            binary,
            data_dir: scratch.join("data"),
            root_key: scratch.join("root.key"),
            transcript_dir,
        })
    }

    pub(super) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Where all that was printed is kept.
    pub(super) fn transcript_dir(&self) -> &Path {
        &self.transcript_dir
    }

    /// Runs a command that has to succeed.
    pub(super) fn succeed(&self, arguments: &[&str]) -> Result<Answer> {
        let answer = self.run(arguments, None)?;
        if !answer.status.success() {
            bail!(
                "`holdfast {}` failed: {}",
                arguments.join(" "),
                answer.status
            );
        }
        Ok(answer)
    }

    /// Runs `run …` with its timing, which has to succeed.
    pub(super) fn run_timed(&self, arguments: &[&str]) -> Result<Answer> {
        let file = self.transcript_dir.join("timing.json");
        let mut command = self.command();
        let (run, rest) = arguments.split_first().context("no command")?;
        command.arg(run).arg("--timing-json").arg(&file).args(rest);
        let mut answer = self.finish(command, &shown(arguments), None)?;
        if !answer.status.success() {
            bail!("`holdfast run` failed: {}", answer.status);
        }
        let text = fs::read(&file).context("cannot read the timing")?;
        answer.timing = Timing::parse(&serde_json::from_slice(&text)?);
        Ok(answer)
    }

    pub(super) fn run(&self, arguments: &[&str], input: Option<&str>) -> Result<Answer> {
        let mut command = self.command();
        command.args(arguments);
        self.finish(command, &shown(arguments), input)
    }

    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .env("HOLDFAST_DATA_DIR", &self.data_dir)
            .env("HOLDFAST_ROOT_KEY", &self.root_key);
        command
    }

    /// Runs a command to its end, shows what it said as that of `shown`, and keeps it.
    pub(super) fn finish(
        &self,
        mut command: Command,
        shown: &str,
        input: Option<&str>,
    ) -> Result<Answer> {
        let arrow = if input.is_some() { " < password" } else { "" };
        println!("$ {shown}{arrow}");
        let output = process::output_with_input(&mut command, input.unwrap_or("").as_bytes())?;
        let answer = Answer {
            status: output.status,
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
            errors: String::from_utf8_lossy(&output.stderr).into_owned(),
            timing: None,
        };
        for line in answer.errors.lines().chain(answer.output.lines()) {
            println!("  {line}");
        }
        if let Some(code) = answer.status.code().filter(|code| *code != 0) {
            println!("  [exit code {code}]");
        }
        println!();
        self.keep(&answer)?;
        Ok(answer)
    }

    fn keep(&self, answer: &Answer) -> Result<()> {
        let count = fs::read_dir(&self.transcript_dir)?.count();
        let text = format!("{}\n{}", answer.output, answer.errors);
        fs::write(self.transcript_dir.join(format!("{count}.txt")), text)?;
        Ok(())
    }

    /// Every index file with the time it was written.
    pub(super) fn indexes(&self) -> Result<BTreeMap<PathBuf, SystemTime>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.data_dir.join("indexes")];
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(&folder)
                .with_context(|| format!("cannot list {}", folder.display()))?;
            for entry in entries {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                } else {
                    found.insert(entry.path(), entry.metadata()?.modified()?);
                }
            }
        }
        Ok(found)
    }
}

fn shown(arguments: &[&str]) -> String {
    process::show(&process::command("holdfast", arguments))
}

impl Timing {
    fn parse(value: &Value) -> Option<Self> {
        let phases = value["phases"].as_array()?;
        Some(Self {
            cold: value["cold"].as_bool()?,
            bytes_fetched: value["bytes_fetched"].as_u64()?,
            bytes_total: value["bytes_total"].as_u64()?,
            phases: phases
                .iter()
                .filter_map(|phase| phase["name"].as_str().map(str::to_owned))
                .collect(),
        })
    }
}
