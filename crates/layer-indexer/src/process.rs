//! The parent's side of the indexing process.
//!
//! The parent hashes what it feeds, so that the child is believed in nothing that the manifest
//! says: a child that hostile bytes have taken over can at worst make this one layer unreadable.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use command_fds::{CommandFdExt, FdMapping};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

use crate::child::{CACHE_FD, Finished, INDEX_FD, Report, SCRATCH_FD};
use crate::error::IndexerError;

/// What a pipe holds: a longer write returns only after part of it was read.
const PIPE_BYTES: usize = 64 << 10;

/// A report is a few hundred bytes.
const REPORT_MAX_BYTES: u64 = 64 << 10;

/// How long a process is waited for that does nothing: then it hangs, and is killed.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Without taking more input. What it reads at once makes at most 1100 times as much output,
    /// which the slowest disk has long written by then.
    pub input: Duration,
    /// From the end of its input to its report: metadata at its limit is compressed meanwhile.
    pub report: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            input: Duration::from_mins(2),
            report: Duration::from_mins(5),
        }
    }
}

/// An indexing process that is being fed. Dropping it kills the process.
#[derive(Debug)]
pub struct IndexerProcess {
    child: Child,
    stdin: Option<ChildStdin>,
    hash: Sha256,
    expected: Expected,
    patience: Patience,
}

#[derive(Debug)]
struct Expected {
    layer_digest: String,
    diff_id: String,
}

/// Where it writes.
#[derive(Clone, Copy, Debug)]
pub struct Outputs<'a> {
    pub index: &'a File,
    /// Empty, and of no use afterwards.
    pub scratch: &'a File,
    pub cache: Option<CacheFile<'a>>,
}

/// Where the decompressed layer goes.
#[derive(Clone, Copy, Debug)]
pub struct CacheFile<'a> {
    pub file: &'a File,
    /// A layer that takes more of the disk than this leaves the file empty.
    pub limit_bytes: u64,
}

impl IndexerProcess {
    /// Starts `program layer-indexer`.
    pub fn spawn(
        program: &Path,
        layer_digest: &str,
        diff_id: &str,
        outputs: Outputs<'_>,
    ) -> Result<Self, IndexerError> {
        let failed = |error: std::io::Error| IndexerError::Process(error.to_string());
        let duplicate = |file: &File| file.try_clone().map(OwnedFd::from).map_err(failed);
        let mapping = |file: &File, child_fd| {
            let parent_fd = duplicate(file)?;
            Ok::<_, IndexerError>(FdMapping {
                parent_fd,
                child_fd,
            })
        };
        let mut mappings = vec![
            mapping(outputs.index, INDEX_FD)?,
            mapping(outputs.scratch, SCRATCH_FD)?,
        ];
        let mut command = Command::new(program);
        command.arg("layer-indexer");
        if let Some(cache) = outputs.cache {
            let limit = cache.limit_bytes.to_string();
            command.args(["--fill-cache", &limit]);
            mappings.push(mapping(cache.file, CACHE_FD)?);
        }
        command
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mapped = command.as_std_mut().fd_mappings(mappings).map(|_| ());
        mapped.map_err(|_| IndexerError::Process("descriptors collide".to_owned()))?;
        let mut child = command.spawn().map_err(failed)?;
        let expected = Expected {
            layer_digest: layer_digest.to_owned(),
            diff_id: diff_id.to_owned(),
        };
        Ok(Self {
            stdin: child.stdin.take(),
            child,
            hash: Sha256::new(),
            expected,
            patience: Patience::default(),
        })
    }

    pub fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// Feeds the next bytes. A process that stopped reading tells why in `finish`; one that hangs
    /// is killed.
    pub async fn feed(&mut self, bytes: &Bytes) -> Result<(), IndexerError> {
        self.hash.update(bytes);
        for piece in bytes.chunks(PIPE_BYTES) {
            let Some(stdin) = &mut self.stdin else {
                return Ok(());
            };
            match timeout(self.patience.input, stdin.write_all(piece)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => {
                    self.stdin = None;
                    return Err(self.failure().await);
                }
                Err(_) => return Err(self.hangs("take its input", self.patience.input).await),
            }
        }
        Ok(())
    }

    /// Ends the input, waits for the index, and compares both digests: they are as expected.
    pub async fn finish(mut self) -> Result<Finished, IndexerError> {
        drop(self.stdin.take());
        let hash = std::mem::take(&mut self.hash);
        let found = reference::Digest::sha256(hash.finalize().into()).to_string();
        // What is another layer may be no layer at all, which is not what is wrong with it.
        compare("layer", self.expected.layer_digest.clone(), found)?;
        let finished = self.report().await?;
        let indexed = &finished.indexed;
        let Expected {
            layer_digest,
            diff_id,
        } = self.expected;
        compare("indexed", layer_digest, indexed.layer_digest.clone())?;
        compare("uncompressed", diff_id, indexed.diff_id.clone())?;
        Ok(finished)
    }

    async fn hangs(&mut self, what: &str, patience: Duration) -> IndexerError {
        // A process that cannot be killed is left to the kernel.
        let _ = self.child.kill().await;
        IndexerError::Process(format!(
            "it did not {what} within {patience:?} and was killed"
        ))
    }

    async fn failure(&mut self) -> IndexerError {
        match self.report().await {
            Err(error) => error,
            Ok(_) => IndexerError::Process("it stopped reading".to_owned()),
        }
    }

    async fn report(&mut self) -> Result<Finished, IndexerError> {
        let patience = self.patience.report;
        match timeout(patience, self.last_word()).await {
            Ok(report) => report,
            Err(_) => Err(self.hangs("report", patience).await),
        }
    }

    async fn last_word(&mut self) -> Result<Finished, IndexerError> {
        let failed = |error: std::io::Error| IndexerError::Process(error.to_string());
        let mut line = Vec::new();
        if let Some(stdout) = self.child.stdout.take() {
            stdout
                .take(REPORT_MAX_BYTES)
                .read_to_end(&mut line)
                .await
                .map_err(failed)?;
        }
        let status = self.child.wait().await.map_err(failed)?;
        match serde_json::from_slice(&line) {
            Ok(Report::Indexed(finished)) if status.success() => Ok(finished),
            Ok(Report::Failed(error)) => Err(error.into()),
            _ => Err(IndexerError::Process(format!("it ended with {status}"))),
        }
    }
}

fn compare(what: &'static str, expected: String, found: String) -> Result<(), IndexerError> {
    if expected == found {
        return Ok(());
    }
    Err(IndexerError::Digest {
        what,
        expected,
        found,
    })
}
