//! Asks a program `docker-credential-NAME`, within limits. What it prints is a secret, and is in no
//! message; a program that hangs or floods is ended together with whatever it started.

use std::ffi::OsStr;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use credential::docker_config::{TEXT_LIMIT, shown_key};
use credential::docker_helper::{HelperName, is_not_found, read_list, read_reply};
use credential::{Detected, RegistryScope};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::failure::{Failure, Kind, Result};

/// A cloud's helper asks its service, a keychain its owner. Kubernetes gives its own a minute too.
const TIME_LIMIT: Duration = Duration::from_mins(1);
/// As long as a file of logins may be.
const OUTPUT_LIMIT_BYTES: usize = TEXT_LIMIT;
/// Variables of ours that are no helper's business.
const OWN_SECRETS: [&str; 1] = ["HOLDFAST_TOKEN"];

/// What a helper has for a server.
pub(super) async fn get(
    name: &HelperName,
    server: &str,
    scope: &RegistryScope,
) -> Result<Detected> {
    let program = name.program();
    let said = ask(&program, "get", server, TIME_LIMIT).await;
    let output = match said {
        Ok(output) => output,
        Err(HelperError::NotFound) => {
            let message = format!("{program} has nothing for {}", shown_key(server));
            return Err(Failure::new(Kind::NotFound, message));
        }
        Err(error) => return Err(error.into_failure(&program)),
    };
    read_reply(scope.registry(), &output)
        .map_err(|error| Failure::invalid(format!("{program} {error}")))
}

/// The servers that a helper knows.
pub(super) async fn list(name: &HelperName) -> Result<Vec<String>> {
    let program = name.program();
    let said = ask(&program, "list", "", TIME_LIMIT).await;
    let output = said.map_err(|error| error.into_failure(&program))?;
    read_list(&output).map_err(|_| Failure::invalid(format!("{program} gave no list of servers")))
}

/// Why a helper has not answered.
#[derive(Debug)]
enum HelperError {
    Start(io::Error),
    Pipe(io::Error),
    Silent(Duration),
    TooLong,
    NotFound,
    Failed(ExitStatus),
}

impl HelperError {
    fn into_failure(self, program: &str) -> Failure {
        let message = match &self {
            Self::Start(error) => format!("cannot be started: {error}"),
            Self::Pipe(error) => format!("cannot be spoken to: {error}"),
            Self::Silent(limit) => format!("gave no answer in {} s and was ended", limit.as_secs()),
            Self::TooLong => format!("printed over {OUTPUT_LIMIT_BYTES} bytes and was ended"),
            Self::NotFound => "has nothing like that".to_owned(),
            Self::Failed(status) => format!("failed: {status}"),
        };
        let failure = Failure::new(Kind::Machine, format!("{program} {message}"));
        match self {
            Self::Start(error) if error.kind() == io::ErrorKind::NotFound => {
                failure.hint("is it on the PATH? sudo has another one")
            }
            Self::Failed(_) => failure.hint(format!("ask it by hand: echo HOST | {program} get")),
            _ => failure,
        }
    }
}

/// The process group of a helper; what is left of it ends with this.
struct Group {
    leader: Option<Pid>,
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.leader {
            // It may have ended by itself.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

async fn ask(
    program: impl AsRef<OsStr>,
    action: &str,
    input: &str,
    time_limit: Duration,
) -> Result<Zeroizing<Vec<u8>>, HelperError> {
    let mut command = Command::new(program);
    for name in OWN_SECRETS {
        command.env_remove(name);
    }
    let child = command
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    let mut child = child.map_err(HelperError::Start)?;
    let mut group = Group {
        leader: child.id().and_then(|id| Pid::from_raw(id.cast_signed())),
    };
    let answered = timeout(time_limit, converse(&mut child, input)).await;
    let (output, status) = answered.map_err(|_| HelperError::Silent(time_limit))??;
    // It is collected, and its number may be another's from now on.
    group.leader = None;
    match status.success() {
        true => Ok(output),
        false if is_not_found(&output) => Err(HelperError::NotFound),
        false => Err(HelperError::Failed(status)),
    }
}

/// Says what is asked, hears what is answered, and waits for the end.
async fn converse(
    child: &mut Child,
    input: &str,
) -> Result<(Zeroizing<Vec<u8>>, ExitStatus), HelperError> {
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input.as_bytes()).await {
            // Not every action is read for.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                return Err(HelperError::Pipe(error));
            }
            _ => {}
        }
    }
    let mut output = Zeroizing::new(Vec::new());
    if let Some(stdout) = child.stdout.take() {
        let mut stdout = stdout.take(OUTPUT_LIMIT_BYTES as u64 + 1);
        let read = stdout.read_to_end(&mut output).await;
        read.map_err(HelperError::Pipe)?;
    }
    if output.len() > OUTPUT_LIMIT_BYTES {
        return Err(HelperError::TooLong);
    }
    let status = child.wait().await.map_err(HelperError::Pipe)?;
    Ok((output, status))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::{Read, Write};
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::PathBuf;
    use std::sync::mpsc;
    use std::thread;

    use tempfile::TempDir;

    use super::*;

    /// Long enough for a shell on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(30);

    fn helper(directory: &TempDir, script: &str) -> PathBuf {
        let path = directory.path().join("docker-credential-test");
        let mut options = OpenOptions::new();
        let mut file = options
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o700)
            .open(&path)
            .expect("a file");
        file.write_all(format!("#!/bin/sh\n{script}\n").as_bytes())
            .expect("a script");
        path
    }

    async fn says(script: &str, time_limit: Duration) -> Result<String, HelperError> {
        let directory = TempDir::new().expect("a directory");
        let program = helper(&directory, script);
        let output = ask(&program, "get", "r.example", time_limit).await?;
        Ok(String::from_utf8_lossy(&output).into_owned())
    }

    #[tokio::test]
    async fn a_helper_is_asked_and_heard() {
        let answer = says("echo \"$1 $(cat)\"", PATIENCE)
            .await
            .expect("it answers");
        assert_eq!(answer, "get r.example\n");
        let deaf = says("echo yes", PATIENCE).await.expect("it answers");
        assert_eq!(deaf, "yes\n");
    }

    #[tokio::test]
    async fn what_a_helper_prints_is_in_no_message() {
        for script in [
            "echo CANARY; echo CANARY >&2; exit 1",
            "echo CANARY; kill -9 $$",
        ] {
            let error = says(script, PATIENCE).await.expect_err("it fails");
            assert!(matches!(error, HelperError::Failed(_)), "{error:?}");
            let mut shown = format!("{error:?}");
            shown.push_str(&error.into_failure("x").message);
            assert!(!shown.contains("CANARY"), "{shown}");
        }
        let script = "echo credentials not found in native keychain; exit 1";
        let error = says(script, PATIENCE).await.expect_err("it has nothing");
        assert!(matches!(error, HelperError::NotFound), "{error:?}");
    }

    #[tokio::test]
    async fn a_helper_that_hangs_or_floods_is_ended_with_its_children() {
        let directory = TempDir::new().expect("a directory");
        let fifo = directory.path().join("alive");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, mode).expect("a fifo");
        // Readers of the fifo hear its end when the last process that holds it is gone.
        let hold = format!("exec 3<>{}", fifo.display());
        let hangs = format!("{hold}; sleep 1000 & sleep 1000");
        let floods = format!("{hold}; sleep 1000 & cat /dev/zero");
        for (script, limit) in [(hangs, Duration::from_millis(300)), (floods, PATIENCE)] {
            let heard = fs::OpenOptions::new()
                .read(true)
                .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
                .open(&fifo)
                .expect("the fifo");
            rustix::io::ioctl_fionbio(&heard, false).expect("waits");
            let error = says(&script, limit).await.expect_err("it is ended");
            let is_ended = matches!(error, HelperError::Silent(_) | HelperError::TooLong);
            assert!(is_ended, "{error:?}");
            let (said, end) = mpsc::channel();
            thread::spawn(move || said.send((&heard).read(&mut [0])));
            let end = end.recv_timeout(PATIENCE).expect("all of them ended");
            assert_eq!(end.expect("reads"), 0);
        }
    }
}
