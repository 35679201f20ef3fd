//! `cargo xtask ci`: everything that must pass, in the order in which it fails cheapest.
//!
//! Invariants: the same on a laptop and in CI; caches only below `target/`; each step owns what it
//! starts and stops it; the closing line counts the tests that ran. It deliberately has no flags.

use std::io::{self, BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::arguments::Arguments;
use crate::leftovers::Snapshot;
use crate::{demo, lab, process, python, setup, tidy, tree};

pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    arguments.finish()?;
    let before = Snapshot::take()?;
    let mut steps = Steps::new();
    steps.step("setup", || succeed(setup::run(Arguments::none())?))?;
    steps.step("fetch", || cargo(&["fetch", "--locked"]))?;
    steps.step("format", || cargo(&["fmt", "--all", "--check"]))?;
    steps.step("tidy", || succeed(tidy::run(Arguments::none())?))?;
    steps.step("clippy", clippy)?;
    steps.step("docs", docs)?;
    steps.step("build", || {
        cargo(&["build", "--workspace", "--bins", "--tests", "--examples"])
    })?;
    steps.step("image", || succeed(lab::pack(Arguments::none())?))?;
    let mut count = TestCount::default();
    let tests = steps.step("tests", || test(&mut count));
    let tests = tests.and_then(|()| steps.step("runner", || test_runner(&mut count)));
    let tests = tests.and_then(|()| steps.step("sdk", || test_sdk(&mut count)));
    let demo = tests.and_then(|()| steps.step("demo", demo_with_what_was_built));
    let clean = steps.step("leftovers", || before.check());
    steps.print();
    println!("{} passed, {} failed", count.passed, count.failed);
    demo.and(clean).map(|()| ExitCode::SUCCESS)
}

fn clippy() -> Result<()> {
    cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ])
}

fn docs() -> Result<()> {
    let mut command = cargo_command(&["doc", "--workspace", "--no-deps", "--quiet"]);
    process::run(command.env("RUSTDOCFLAGS", "-D warnings"))
}

/// The demo runs the binary of the build step: building it alone would choose other features.
fn demo_with_what_was_built() -> Result<()> {
    let binary = tree::target().join("debug/holdfast");
    let binary = binary
        .to_str()
        .context("the target directory's name is not UTF-8")?;
    succeed(demo::run(Arguments::from_words(&["--binary", binary]))?)
}

fn cargo(arguments: &[&str]) -> Result<()> {
    process::run(&mut cargo_command(arguments))
}

fn cargo_command(arguments: &[&str]) -> Command {
    let mut command = process::command("cargo", arguments);
    command.current_dir(tree::root());
    command
}

fn succeed(code: ExitCode) -> Result<()> {
    if code != ExitCode::SUCCESS {
        bail!("see above");
    }
    Ok(())
}

/// Far more than any test takes. Who waits for a test that never ends is told by nobody which it
/// is: the runner names it once, after a minute.
const LONGEST_SILENCE: Duration = Duration::from_mins(10);

/// Runs all tests once and counts what cargo's own closing lines say.
fn test(count: &mut TestCount) -> Result<()> {
    let mut command = cargo_command(&["test", "--workspace", "--no-fail-fast"]);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo test")?;
    let stdout = child.stdout.take().expect("standard output was asked for");
    let lines = lines_of(stdout);
    loop {
        match lines.recv_timeout(LONGEST_SILENCE) {
            Ok(line) => {
                let line = line.context("cannot read what the tests print")?;
                let line = String::from_utf8_lossy(&line);
                println!("{line}");
                count.add(&line);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                end_with_children(&mut child)?;
                bail!("the tests have said nothing for {LONGEST_SILENCE:?}: one of them hangs");
            }
        }
    }
    let status = child.wait().context("lost cargo test")?;
    if !status.success() {
        bail!("tests failed ({status})");
    }
    if count.passed == 0 {
        bail!("no test ran");
    }
    Ok(())
}

/// Read by a thread, so that whoever takes them may lose patience.
fn lines_of(stdout: ChildStdout) -> Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n') {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The program that hangs is cargo's child, which cargo would leave behind.
fn end_with_children(child: &mut Child) -> Result<()> {
    let parent = child.id().to_string();
    process::run(&mut process::command("pkill", &["-KILL", "-P", &parent]))?;
    child.kill().context("cannot end cargo test")
}

fn test_runner(count: &mut TestCount) -> Result<()> {
    let words = ["-m", "unittest", "discover", "runner/tests"];
    let mut command = process::command("python3", &words);
    test_python(command.current_dir(tree::root()), count)
}

fn test_sdk(count: &mut TestCount) -> Result<()> {
    let mut command = Command::new(python::interpreter("sdk"));
    command.args(["-m", "unittest"]);
    test_python(command.current_dir(tree::root().join("sdk/python")), count)
}

/// Python's own test runner. It says on standard error how many tests there were.
fn test_python(command: &mut Command, count: &mut TestCount) -> Result<()> {
    // What it compiles is no source, and would be found by whoever packs the runner.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    let output = command.stdin(Stdio::null()).output();
    let output = output.context("python is missing: see `cargo xtask setup`")?;
    let told = String::from_utf8_lossy(&output.stderr);
    print!("{}{told}", String::from_utf8_lossy(&output.stdout));
    count.add_unittest(&told);
    if !output.status.success() {
        bail!("Python tests failed ({})", output.status);
    }
    Ok(())
}

#[derive(Debug, Default)]
struct TestCount {
    passed: u64,
    failed: u64,
}

impl TestCount {
    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 0 ignored; …`.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        for part in result.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let number = words.next().and_then(|word| word.parse::<u64>().ok());
            match (number, words.next()) {
                (Some(number), Some("passed")) => self.passed += number,
                (Some(number), Some("failed")) => self.failed += number,
                _ => {}
            }
        }
    }

    /// Adds `Ran 85 tests in 11.4s` and `FAILED (failures=1, errors=2)`.
    fn add_unittest(&mut self, told: &str) {
        let number = |text: &str| text.parse::<u64>().unwrap_or(0);
        for line in told.lines() {
            if let Some(ran) = line.strip_prefix("Ran ") {
                self.passed += number(ran.split(' ').next().unwrap_or_default());
            } else if let Some(failed) = line.strip_prefix("FAILED (") {
                let counts = failed.trim_end_matches(')').split(", ");
                let failed: u64 = counts
                    .filter_map(|count| count.split_once('='))
                    .filter(|(what, _)| ["failures", "errors"].contains(what))
                    .map(|(_, count)| number(count))
                    .sum();
                self.failed += failed;
                self.passed = self.passed.saturating_sub(failed);
            }
        }
    }
}

/// Steps and how long each took.
#[derive(Debug)]
struct Steps {
    done: Vec<(String, Duration)>,
}

impl Steps {
    fn new() -> Self {
        Self { done: Vec::new() }
    }

    fn step(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        println!("\n=== {name}");
        let start = Instant::now();
        let result = work().with_context(|| format!("step {name}"));
        let took = start.elapsed();
        println!(
            "=== {name}: {} in {}",
            if result.is_ok() { "ok" } else { "FAILED" },
            show(took)
        );
        self.done.push((name.to_owned(), took));
        result
    }

    fn print(&self) {
        println!();
        for (name, took) in &self.done {
            println!("{name:>9}  {}", show(*took));
        }
        let total = self.done.iter().map(|(_, took)| *took).sum();
        println!("{:>9}  {}", "total", show(total));
    }
}

fn show(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!(
            "{} min {:02} s",
            duration.as_secs() / 60,
            duration.as_secs() % 60
        )
    }
}

#[cfg(test)]
mod tests {
    use super::TestCount;

    #[test]
    fn counts_what_cargo_test_prints() {
        let mut count = TestCount::default();
        for line in [
            "running 3 tests",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
        ] {
            count.add(line);
        }
        assert_eq!((count.passed, count.failed), (5, 1));
    }

    #[test]
    fn counts_what_unittest_prints() {
        let mut count = TestCount::default();
        count.add_unittest("...\n-----\nRan 85 tests in 11.438s\n\nOK\n");
        assert_eq!((count.passed, count.failed), (85, 0));
        count.add_unittest("Ran 4 tests in 1s\n\nFAILED (failures=1, errors=2, skipped=1)\n");
        assert_eq!((count.passed, count.failed), (86, 3));
    }
}
