//! Running other programs, with errors that name the program, its arguments and its last words.
//!
//! Nothing here goes through a shell. A [`Service`] is a child that dies with its owner.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Characters of a failed program's standard error that an error message repeats.
const TAIL_CHARACTERS: usize = 2000;

/// A command from a program and its arguments.
pub(crate) fn command<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// Runs to the end with inherited output; fails unless it exits with 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command
        .status()
        .with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

/// Runs to the end in silence and returns standard output; fails unless it exits with 0.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{}` failed: {}\n{}",
            show(command),
            output.status,
            tail(&text)
        );
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` printed something that is not UTF-8", show(command)))
}

/// Runs to the end and returns whatever came of it.
pub(crate) fn output(command: &mut Command) -> Result<Output> {
    command
        .output()
        .with_context(|| format!("cannot start `{}`", show(command)))
}

/// As [`output`], feeding standard input first. The text must fit a pipe (64 KiB).
pub(crate) fn output_with_input(command: &mut Command, input: &[u8]) -> Result<Output> {
    let shown = show(command);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let mut pipe = child.stdin.take().expect("standard input was asked for");
    // A program may refuse and leave before it reads: its exit status tells more than EPIPE.
    let _ = pipe.write_all(input);
    drop(pipe);
    child
        .wait_with_output()
        .with_context(|| format!("lost `{shown}`"))
}

/// The command as a person would type it.
pub(crate) fn show(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|word| quote(&word.to_string_lossy())),
    );
    words.join(" ")
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn tail(text: &str) -> &str {
    let text = text.trim_end();
    let start = text.len().saturating_sub(TAIL_CHARACTERS);
    let start = (start..=text.len())
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0);
    &text[start..]
}

/// A background program that is killed and reaped when it goes out of scope.
#[derive(Debug)]
pub(crate) struct Service {
    child: Child,
}

impl Service {
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let shown = show(command);
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start `{shown}`"))?;
        Ok(Self { child })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the program has ended by itself.
    pub(crate) fn wait(&mut self) -> Result<()> {
        let status = self.child.wait()?;
        if !status.success() {
            bail!("it ended with {status}");
        }
        Ok(())
    }

    /// What the program says on standard error, when it was started with a pipe there.
    pub(crate) fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::{capture, command, output_with_input, show};

    #[test]
    fn shows_commands_as_typed() {
        assert_eq!(
            show(&command("a", &["b c", "d", "it's"])),
            r"a 'b c' d 'it'\''s'"
        );
    }

    #[test]
    fn a_failure_names_the_program_and_its_last_words() {
        let error = capture(&mut command("sh", &["-c", "echo sorry >&2; exit 3"])).unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.contains("exit status: 3") && text.contains("sorry"),
            "{text}"
        );
        let error = capture(&mut command("/no/such/program", &[""; 0])).unwrap_err();
        assert!(format!("{error:#}").contains("cannot start `/no/such/program`"));
    }

    #[test]
    fn input_reaches_the_program() {
        let output = output_with_input(&mut command("cat", &[""; 0]), b"hello").unwrap();
        assert_eq!(output.stdout, b"hello");
    }
}
