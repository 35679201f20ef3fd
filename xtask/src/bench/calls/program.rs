//! A Python program of this bench: it makes calls when it is told to, and says how long they took.
//!
//! It ends when its standard input does, also when this process dies; one that does not is killed.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::python;

/// How long a program may take to end what it has begun: Ray stops processes of its own.
const ENDING: Duration = Duration::from_secs(15);
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// A Python file and what it imports, as text.
pub(super) struct Source {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
}

const TURNS: Source = Source {
    name: "turns",
    text: include_str!("turns.py"),
};

/// Where a program is: a directory of its own, since what is beside it may be sent along.
pub(super) struct Place {
    name: &'static str,
    folder: PathBuf,
}

impl Place {
    /// Writes the program to a directory below `parent`.
    pub(super) fn new(source: &Source, parent: &Path) -> Result<Self> {
        let folder = parent.join(source.name);
        std::fs::create_dir_all(&folder)?;
        for Source { name, text } in [source, &TURNS] {
            std::fs::write(folder.join(format!("{name}.py")), text)?;
        }
        Ok(Self {
            name: source.name,
            folder,
        })
    }

    /// A command in that directory, with a log and nothing of our own environment.
    pub(super) fn command(&self, program: impl AsRef<OsStr>, log: &str) -> Result<Command> {
        let mut command = Command::new(program);
        command
            .current_dir(&self.folder)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.folder.with_file_name("home"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stderr(File::create(self.log(log))?);
        Ok(command)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.with_file_name(format!("{name}.log"))
    }
}

/// A program that waits to be told.
pub(super) struct Program {
    child: Child,
    input: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    log: PathBuf,
}

impl Program {
    /// Starts the program of a place.
    pub(super) fn start(
        place: &Place,
        environment: &str,
        variables: &[(&str, &str)],
    ) -> Result<Self> {
        let mut child = place
            .command(python::interpreter(environment), place.name)?
            .arg(format!("{}.py", place.name))
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", place.name))?;
        Ok(Self {
            input: child.stdin.take(),
            answers: BufReader::new(child.stdout.take().context("a pipe was asked for")?),
            log: place.log(place.name),
            child,
        })
    }

    /// Has so many calls of one kind be made; gives milliseconds.
    pub(super) fn make(&mut self, kind: &str, count: usize) -> Result<Vec<f64>> {
        let mut input = self.input.as_ref().context("a pipe was asked for")?;
        // A program that has ended says why in its log.
        let _ = writeln!(input, "{kind} {count}");
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        if line.is_empty() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(LAST_LINES).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            bail!("a program of the bench ended:\n{}", last.join("\n"));
        }
        serde_json::from_str(&line).with_context(|| format!("it said {line:?}"))
    }

    /// How many calls a second were made of so many at once.
    pub(super) fn make_together(&mut self, kind: &str, count: u32) -> Result<f64> {
        let took_ms: f64 = self.make(kind, count as usize)?.iter().sum();
        Ok(f64::from(count) * 1000.0 / took_ms)
    }
}

/// Of a log, in an error: enough for a traceback.
const LAST_LINES: usize = 30;

impl Drop for Program {
    fn drop(&mut self) {
        self.input = None;
        end(&mut self.child);
    }
}

/// Waits until a program that was asked to end has ended, and kills it if it does not.
pub(super) fn end(child: &mut Child) {
    let begin = Instant::now();
    while matches!(child.try_wait(), Ok(None)) {
        if begin.elapsed() > ENDING {
            let _ = child.kill();
        }
        std::thread::sleep(LOOK_PAUSE);
    }
}
