//! The OCI runtime of this machine: which one, whether it is new enough, and starting a container
//! with it.
//!
//! `runc` is preferred. `crun` serves where control groups are version 2 only: on mixed machines it
//! refuses to run. The runtime starts the container detached and exits; the container is then our
//! own child, because orphans of this process come back to it.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::process::set_child_subreaper;
use serde::Deserialize;

use crate::bundle::{self, BundleError};
use crate::cgroup::{CgroupMode, Cgroups};
use crate::executable::ExecutableError;
use crate::network::Network;
use crate::run_dir::RunDir;
use crate::running::Running;
use crate::spec::ContainerSpec;
use crate::starting::Starting;
use crate::stdio::{Console, ContainerStdio};
use crate::streams::Streams;
use crate::tool::{self, excerpt};

/// In the container's directory.
const LOG: &str = "log.json";

/// What the runtime may write to its log before we stop reading.
const MAX_LOG_BYTES: usize = 64 << 10;

/// A program that runs containers.
#[derive(Clone, Debug)]
pub struct Runtime {
    kind: Kind,
    program: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Runc,
    Crun,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Crun => "crun",
        }
    }

    /// The first that knows recursively read-only mounts.
    fn oldest(self) -> Version {
        match self {
            Self::Runc => Version(1, 1, 0),
            Self::Crun => Version(1, 4, 0),
        }
    }
}

/// A runtime's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u32, u32, u32);

impl Version {
    /// Out of what the runtime prints for `--version`.
    fn parse(text: &str) -> Option<Self> {
        let word = text
            .split_whitespace()
            .skip_while(|word| *word != "version")
            .nth(1)?;
        let mut numbers = word.split(|letter: char| !letter.is_ascii_digit());
        let mut next = || numbers.next().and_then(|number| number.parse().ok());
        Some(Self(next()?, next()?, next().unwrap_or(0)))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Why this machine cannot run containers.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// None found.
    #[error("no container runtime is installed: apt-get install runc")]
    Missing,
    /// Only one that cannot work here.
    #[error("crun cannot run containers where cgroups are {mode}: apt-get install runc")]
    WrongCgroups {
        /// How they are mounted.
        mode: &'static str,
    },
    /// Too old.
    #[error("{name} {version} is too old, {oldest} is needed: apt-get install {name}")]
    TooOld {
        /// The program.
        name: &'static str,
        /// What is there.
        version: Version,
        /// What is needed.
        oldest: Version,
    },
    /// Does not answer.
    #[error("cannot ask {name} for its version: {complaint}")]
    Broken {
        /// The program.
        name: &'static str,
        /// Why not.
        complaint: String,
    },
}

/// Why a container did not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not be prepared.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The runtime could not start the program.
    #[error(transparent)]
    Executable(#[from] ExecutableError),
    /// The runtime refused.
    #[error("{name} cannot start the container: {complaint}")]
    Runtime {
        /// The program.
        name: &'static str,
        /// What it said.
        complaint: String,
    },
    /// A terminal was asked for where there is none.
    #[error("a terminal was asked for, but standard input is not one")]
    NotATerminal,
    /// Captured streams are pipes, and there is no input.
    #[error("a terminal or input was asked for, but the container's streams are captured")]
    NotCapturable,
    /// The machine said no.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl RunError {
    pub(crate) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }

    /// What `run` exits with: 126 and 127 as shells do, 125 for anything of ours.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Executable(error) | Self::Bundle(BundleError::Executable(error)) => {
                error.exit_code()
            }
            _ => 125,
        }
    }
}

impl Runtime {
    /// Finds the runtime of this machine and makes sure that it is new enough.
    pub fn find() -> Result<Self, RuntimeError> {
        let mode = Cgroups::detect().map_or(CgroupMode::Missing, |groups| groups.mode());
        let (kind, program) = choose(tool::find, mode)?;
        let output = tool::command(&program, None)
            .arg("--version")
            .stdin(Stdio::null())
            .output();
        let output = output.map_err(|error| RuntimeError::Broken {
            name: kind.name(),
            complaint: error.to_string(),
        })?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = Version::parse(&text).ok_or_else(|| RuntimeError::Broken {
            name: kind.name(),
            complaint: excerpt(&[output.stdout.as_slice(), &output.stderr].concat()),
        })?;
        if version < kind.oldest() {
            return Err(RuntimeError::TooOld {
                name: kind.name(),
                version,
                oldest: kind.oldest(),
            });
        }
        Ok(Self {
            kind,
            program,
            version,
        })
    }

    /// `runc` or `crun`.
    pub fn name(&self) -> &'static str {
        self.kind.name()
    }

    /// Where it is.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Which one it is.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Starts a container. Dropping the future stops the start; what was made until then goes with
    /// the directory.
    pub async fn run(
        &self,
        spec: &ContainerSpec,
        dir: &RunDir,
        network: &Network,
        streams: Streams,
    ) -> Result<Running, RunError> {
        self.make(&["run", "--detach"], spec, dir, network, streams)
            .await
    }

    /// The same but for its command, which waits: nothing of the image runs.
    pub async fn create(
        &self,
        spec: &ContainerSpec,
        dir: &RunDir,
        network: &Network,
        streams: Streams,
    ) -> Result<Created, RunError> {
        let waiting = self.make(&["create"], spec, dir, network, streams).await?;
        Ok(Created {
            runtime: self.clone(),
            waiting,
        })
    }

    async fn make(
        &self,
        how: &[&str],
        spec: &ContainerSpec,
        dir: &RunDir,
        network: &Network,
        streams: Streams,
    ) -> Result<Running, RunError> {
        let console = Console::of(&spec.process, &streams)?;
        let size = console.as_ref().and_then(|_| Console::size());
        prepare(spec, dir, network, size).await?;
        set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(|errno| RunError::io("adopt the container")(errno.into()))?;
        let mut stdio = ContainerStdio::new(dir, &spec.process, console, streams)
            .map_err(RunError::io("connect the container's input and output"))?;
        let process = self.start(how, dir, &mut stdio).await?;
        Running::new(spec, process, stdio)
            .map_err(RunError::io("connect the container's input and output"))
    }

    /// Runs the runtime until it has started the container. Answers its first process.
    async fn start(
        &self,
        how: &[&str],
        dir: &RunDir,
        stdio: &mut ContainerStdio,
    ) -> Result<OwnedFd, RunError> {
        let mut command = self.command(dir);
        command
            .args(how)
            .args(["--bundle", ".", "--pid-file", "pid"])
            .args(stdio.arguments())
            .arg(dir.id().to_string());
        let io = || RunError::io("run the container runtime");
        stdio.connect(&mut command);
        let mut starting = Starting::spawn(command, dir).map_err(io())?;
        let status = stdio.wait_for(starting.child()).await.map_err(io())?;
        if !status.success() {
            starting.fail();
            return Err(self.explain(dir));
        }
        let process = starting.finish(dir);
        process.map_err(RunError::io("find the container's process"))
    }

    /// The runtime, for a container that has its state in this directory.
    fn command(&self, dir: &RunDir) -> Command {
        let mut command = tool::command(&self.program, Some(dir.owner()));
        command.current_dir(dir.path());
        command.args(["--root", "runtime", "--log", LOG, "--log-format", "json"]);
        command
    }

    /// What went wrong, out of the runtime's log.
    fn explain(&self, dir: &RunDir) -> RunError {
        let bytes = fs::read(dir.path().join(LOG)).unwrap_or_default();
        let log = &bytes[..bytes.len().min(MAX_LOG_BYTES)];
        let complaint = last_error(&String::from_utf8_lossy(log));
        if let Some(error) = executable_error(&complaint) {
            return error.into();
        }
        RunError::Runtime {
            name: self.name(),
            complaint: excerpt(complaint.as_bytes()),
        }
    }
}

/// A container whose command waits to be let begin. Dropping it ends nothing; it goes with its
/// directory.
#[derive(Debug)]
pub struct Created {
    runtime: Runtime,
    waiting: Running,
}

impl Created {
    /// Lets the command begin.
    pub async fn start(self, dir: &RunDir) -> Result<Running, RunError> {
        let io = || RunError::io("let the container's command begin");
        let gone = || io()(io::ErrorKind::Interrupted.into());
        let _open = dir.gate().enter().ok_or_else(gone)?;
        let mut command = self.runtime.command(dir);
        command.arg("start").arg(dir.id().to_string());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        let mut command = tokio::process::Command::from(command);
        let status = command.kill_on_drop(true).status().await.map_err(io())?;
        if status.success() {
            Ok(self.waiting)
        } else {
            Err(self.runtime.explain(dir))
        }
    }
}

/// Prepares in a thread of its own: it may block on an image whose registry does not answer, and
/// whoever waits here must be able to stop waiting.
async fn prepare(
    spec: &ContainerSpec,
    dir: &RunDir,
    network: &Network,
    console: Option<(u16, u16)>,
) -> Result<(), RunError> {
    let (spec, layout) = (spec.clone(), dir.layout().clone());
    let facts = network.facts().clone();
    let gate = Arc::clone(dir.gate());
    let work = move || {
        let Some(_open) = gate.enter() else {
            return Err(BundleError::Write(io::ErrorKind::Interrupted.into()));
        };
        bundle::prepare(&spec, &layout, &facts, console)
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| RunError::io("prepare the container")(io::Error::other(error)))??;
    Ok(())
}

fn choose(
    find: impl Fn(&str) -> Option<PathBuf>,
    mode: CgroupMode,
) -> Result<(Kind, PathBuf), RuntimeError> {
    if let Some(program) = find("runc") {
        return Ok((Kind::Runc, program));
    }
    match (find("crun"), mode) {
        (Some(program), CgroupMode::Unified) => Ok((Kind::Crun, program)),
        (Some(_), _) => Err(RuntimeError::WrongCgroups {
            mode: mode.as_str(),
        }),
        (None, _) => Err(RuntimeError::Missing),
    }
}

#[derive(Deserialize)]
struct LogLine {
    level: String,
    msg: String,
}

/// The last error of a runtime's log, one JSON object a line.
fn last_error(log: &str) -> String {
    let lines = log.lines().rev();
    let parsed = lines.filter_map(|line| serde_json::from_str::<LogLine>(line).ok());
    let mut errors = parsed.filter(|line| line.level == "error" || line.level == "fatal");
    errors
        .next()
        .map_or_else(|| String::from("it gave no reason"), |line| line.msg)
}

/// Failures to execute, in the words of either runtime.
fn executable_error(complaint: &str) -> Option<ExecutableError> {
    let program = quoted_after(complaint, "exec: \"", '"')
        .or_else(|| quoted_after(complaint, "executable file `", '`'))
        .or_else(|| quoted_after(complaint, "executable path `", '`'))
        .or_else(|| quoted_after(complaint, "open executable: `", '`'))?;
    let program = program.escape_debug().to_string();
    let says = |words: &str| complaint.to_ascii_lowercase().contains(words);
    if says("no such file") || says("not found in $path") {
        Some(ExecutableError::NotFound(program))
    } else if says("permission denied") || says("is a directory") {
        Some(ExecutableError::Denied(program))
    } else if says("exec format error") {
        Some(ExecutableError::Format(program))
    } else {
        None
    }
}

fn quoted_after<'a>(text: &'a str, start: &str, end: char) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let table = [
            (
                "runc version 1.1.5+ds1\ncommit: x\nspec: 1.0.2-dev\n",
                Some(Version(1, 1, 5)),
            ),
            ("crun version 1.8.1\ncommit: x", Some(Version(1, 8, 1))),
            ("runc version 1.2.0-rc.1", Some(Version(1, 2, 0))),
            ("runc version 1.3", Some(Version(1, 3, 0))),
            ("runc version x", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(Version::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn choices() {
        let both = ["runc", "crun"];
        let table: &[(&[&str], CgroupMode, &str)] = &[
            (&both, CgroupMode::Unified, "runc"),
            (&both, CgroupMode::Hybrid, "runc"),
            (&["crun"], CgroupMode::Unified, "crun"),
            (
                &["crun"],
                CgroupMode::Hybrid,
                "crun cannot run containers where cgroups are v1 with v2 beside it: \
                 apt-get install runc",
            ),
            (
                &[],
                CgroupMode::Unified,
                "no container runtime is installed: apt-get install runc",
            ),
        ];
        for (installed, mode, expected) in table {
            let find = |name: &str| installed.contains(&name).then(|| PathBuf::from(name));
            let got = match choose(find, *mode) {
                Ok((kind, _)) => kind.name().to_owned(),
                Err(error) => error.to_string(),
            };
            assert_eq!(got, *expected);
        }
    }

    #[test]
    fn failures_to_execute() {
        let table = [
            (
                "runc run failed: exec: \"nope\": executable file not found in $PATH",
                Some((127, "`nope` is not in the image")),
            ),
            (
                "exec: \"/bin/nope\": stat /bin/nope: no such file or directory",
                Some((127, "`/bin/nope` is not in the image")),
            ),
            (
                r#"exec: "/bin": permission denied"#,
                Some((126, "`/bin` cannot be executed: permission denied")),
            ),
            (
                r#"exec: "/x": is a directory"#,
                Some((126, "`/x` cannot be executed: permission denied")),
            ),
            (
                "executable file `nope` not found in $PATH: No such file or directory",
                Some((127, "`nope` is not in the image")),
            ),
            (
                "open executable: `/x`: Permission denied",
                Some((126, "`/x` cannot be executed: permission denied")),
            ),
            (
                "error mounting \"proc\" to rootfs at \"/proc\": no such file",
                None,
            ),
            ("it gave no reason", None),
        ];
        for (complaint, expected) in table {
            let got = executable_error(complaint);
            let got = got.map(|error| (error.exit_code(), error.to_string()));
            let got = got.as_ref().map(|(code, text)| (*code, text.as_str()));
            assert_eq!(got, expected, "{complaint}");
        }
    }

    #[test]
    fn logs() {
        let log = "{\"level\":\"warning\",\"msg\":\"w\"}\n{\"level\":\"error\",\"msg\":\"first\"}\n\
                   {\"level\":\"error\",\"msg\":\"second\"}\n\
                   {\"level\":\"info\",\"msg\":\"i\"}\ntrash";
        assert_eq!(last_error(log), "second");
        assert_eq!(last_error("trash"), "it gave no reason");
    }
}
