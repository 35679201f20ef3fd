//! One run of libFuzzer over one target: what it is given, and what its output says.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::process::{self, Service};

/// Resident memory at which an input counts as a finding. Readers bound what they hold, and the
/// working corpus itself takes some hundred.
const MEMORY_LIMIT_MB: usize = 2048;

/// Time at which one input counts as a finding; the slowest honest ones take milliseconds.
const INPUT_LIMIT_SECONDS: usize = 10;

/// Longest input: several blocks, spans and headers fit, and thousands of runs a second remain.
const INPUT_MAX_BYTES: usize = 64 << 10;

/// Units of `/proc/PID/stat`: what Linux tells every program, whatever the kernel counts in.
const TICKS_PER_SECOND: u64 = 100;

/// What all targets of one run share.
#[derive(Debug)]
pub(super) struct Campaign {
    /// Where the programs are.
    pub(super) programs: PathBuf,
    /// Corpora and dictionaries of the repository.
    pub(super) data: PathBuf,
    /// Working corpora, findings and logs.
    pub(super) kept: PathBuf,
    /// How long each target runs.
    pub(super) seconds: usize,
}

/// What came of one target.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) target: String,
    pub(super) counted: Counted,
    pub(super) cpu_seconds: u64,
    pub(super) findings: Vec<PathBuf>,
}

/// What libFuzzer counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) executions: u64,
    /// Edges that the corpora reached before anything was tried.
    pub(super) coverage_before: u64,
    pub(super) coverage: u64,
    pub(super) peak_memory_mb: u64,
}

impl Campaign {
    pub(super) fn run(&self, target: &str) -> Result<Outcome> {
        let [corpus, findings, logs] = ["corpus", "findings", "logs"].map(|it| self.kept.join(it));
        let (corpus, findings) = (corpus.join(target), findings.join(target));
        for folder in [&corpus, &findings, &logs] {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let log = logs.join(format!("{target}.log"));
        println!("{target}: {} s, log in {}", self.seconds, log.display());
        let before = files(&findings)?;
        let mut command = self.command(target, &corpus, &findings);
        let start = Instant::now();
        let (counted, cpu_seconds, ended) = watch(&mut command, &log)?;
        let found: Vec<PathBuf> = files(&findings)?.difference(&before).cloned().collect();
        if found.is_empty() {
            ended.with_context(|| format!("{target} failed: see {}", log.display()))?;
        }
        println!("{target}: {} s, {counted}", start.elapsed().as_secs());
        for path in &found {
            let program = self.program(target);
            println!(
                "{target}: FOUND, repeat with {} {}",
                program.display(),
                path.display()
            );
        }
        Ok(Outcome {
            target: target.to_owned(),
            counted,
            cpu_seconds,
            findings: found,
        })
    }

    fn program(&self, target: &str) -> PathBuf {
        self.programs.join(format!("fuzz-{target}"))
    }

    /// The first corpus is the one that libFuzzer adds to.
    fn command(&self, target: &str, corpus: &Path, findings: &Path) -> Command {
        let mut command = Command::new(self.program(target));
        command
            .arg(corpus)
            .arg(self.data.join("corpus").join(target))
            .arg(format!("-artifact_prefix={}/", findings.display()))
            .arg(format!("-max_total_time={}", self.seconds))
            .arg(format!("-rss_limit_mb={MEMORY_LIMIT_MB}"))
            .arg(format!("-timeout={INPUT_LIMIT_SECONDS}"))
            .arg(format!("-max_len={INPUT_MAX_BYTES}"))
            .arg("-print_final_stats=1")
            .env("RUST_BACKTRACE", "1");
        let dictionary = self
            .data
            .join("dictionaries")
            .join(format!("{target}.dict"));
        if dictionary.exists() {
            command.arg(format!("-dict={}", dictionary.display()));
        }
        command
    }
}

/// Runs to the end, keeping the output in a file. The last value says whether it exited with 0.
fn watch(command: &mut Command, log: &Path) -> Result<(Counted, u64, Result<()>)> {
    let shown = process::show(command);
    let mut service = Service::start(command.stdout(Stdio::null()).stderr(Stdio::piped()))?;
    let stderr = service.take_stderr().expect("standard error was asked for");
    let subject = || format!("cannot write {}", log.display());
    let mut file = File::create(log).with_context(subject)?;
    writeln!(file, "{shown}").with_context(subject)?;
    let mut counted = Counted::default();
    for line in BufReader::new(stderr).split(b'\n') {
        let line = line.context("cannot read what libFuzzer prints")?;
        let line = String::from_utf8_lossy(&line);
        writeln!(file, "{line}").with_context(subject)?;
        counted.read(&line);
    }
    // Its output has ended and nobody has waited for it: what it used can still be read.
    let cpu_seconds = cpu_seconds(service.id())?;
    Ok((counted, cpu_seconds, service.wait()))
}

impl Counted {
    /// Reads `#123 INITED cov: 45 ft: 67 …` and `stat::name: 89`.
    fn read(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("stat::number_of_executed_units:") => {
                read_number(&mut self.executions, &mut words);
            }
            Some("stat::peak_rss_mb:") => read_number(&mut self.peak_memory_mb, &mut words),
            Some(first) if first.starts_with('#') => {
                let event = words.next();
                if words.next() == Some("cov:") {
                    read_number(&mut self.coverage, &mut words);
                }
                if event == Some("INITED") {
                    self.coverage_before = self.coverage;
                }
            }
            _ => {}
        }
    }
}

impl std::fmt::Display for Counted {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            executions,
            coverage_before,
            coverage,
            peak_memory_mb,
        } = self;
        write!(
            formatter,
            "{executions} executions, coverage {coverage_before} to {coverage}, {peak_memory_mb} MB"
        )
    }
}

fn read_number<'a>(number: &mut u64, words: &mut impl Iterator<Item = &'a str>) {
    if let Some(read) = words.next().and_then(|word| word.parse().ok()) {
        *number = read;
    }
}

fn cpu_seconds(process: u32) -> Result<u64> {
    let path = format!("/proc/{process}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    match ticks(&text) {
        Some(ticks) => Ok(ticks / TICKS_PER_SECOND),
        None => bail!("{path} has another shape"),
    }
}

/// User and system time of a process, the 14th and 15th field. The second one is a name in
/// parentheses that may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn files(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let subject = || format!("cannot list {}", folder.display());
    let mut paths = BTreeSet::new();
    for entry in std::fs::read_dir(folder).with_context(subject)? {
        paths.insert(entry.with_context(subject)?.path());
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::{Counted, ticks};

    #[test]
    fn reads_what_libfuzzer_prints() {
        let mut counted = Counted::default();
        for line in [
            "INFO: Seed: 7",
            "#2\tINITED cov: 10 ft: 11 corp: 1/1b exec/s: 0 rss: 30Mb",
            "#90\tNEW    cov: 14 ft: 20 corp: 2/9b lim: 4 exec/s: 0 rss: 31Mb",
            "#100\tDONE   cov: 15 ft: 21 corp: 2/9b lim: 4 exec/s: 9 rss: 31Mb",
            "stat::number_of_executed_units: 100",
            "stat::peak_rss_mb:              31",
        ] {
            counted.read(line);
        }
        let expected = Counted {
            executions: 100,
            coverage_before: 10,
            coverage: 15,
            peak_memory_mb: 31,
        };
        assert_eq!(counted, expected);
    }

    #[test]
    fn reads_the_time_of_a_process() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 1 2 3 4 250 50 0 0 20 0 1 0 9 8 7";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks("7 (a"), None);
    }
}
