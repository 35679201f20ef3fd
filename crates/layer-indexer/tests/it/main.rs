//! The indexing process as a process: what it could do if hostile bytes had taken it over, and what
//! its parent does when it crashes or hangs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use confine::attempts;
use layer_indexer::{IndexerError, IndexerProcess, Outputs, Patience, child};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

#[test]
fn indexer_role() {
    attempts::report(&child::PROFILE);
}

#[test]
fn an_indexer_that_was_taken_over_can_only_compute() {
    assert_eq!(attempts::successes("indexer_role"), attempts::OF_COMPUTE);
}

/// A program in place of the indexer.
fn program(directory: &TempDir, script: &str) -> PathBuf {
    let path = directory.path().join("indexer");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

/// Feeds a megabyte, which is more than a pipe holds, and waits for the index.
async fn index_with(script: &str) -> IndexerError {
    let directory = tempfile::tempdir().unwrap();
    let index = File::create(directory.path().join("index")).unwrap();
    let program = program(&directory, script);
    let patience = Patience {
        input: Duration::from_millis(300),
        report: Duration::from_millis(300),
    };
    let layer = Bytes::from(vec![0; 1 << 20]);
    let digest = reference::Digest::sha256(Sha256::digest(&layer).into()).to_string();
    let outputs = Outputs {
        index: &index,
        scratch: &index,
        cache: None,
    };
    let process = IndexerProcess::spawn(&program, &digest, &digest, outputs).unwrap();
    let mut process = process.with_patience(patience);
    match process.feed(&layer).await {
        Ok(()) => process.finish().await.unwrap_err(),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_decoder_that_crashes_or_hangs_costs_one_layer_an_error() {
    let cases = [
        ("crashes at once", "kill -SEGV $$", "signal: 11"),
        (
            "crashes at the end",
            "cat > /dev/null; kill -ABRT $$",
            "signal: 6",
        ),
        ("reads nothing", "exec sleep 1000", "did not take its input"),
        (
            "never reports",
            "cat > /dev/null; exec sleep 1000",
            "did not report",
        ),
        (
            "closes its input and stays",
            "exec < /dev/null; exec sleep 1000",
            "did not report",
        ),
        (
            "reports nonsense",
            "cat > /dev/null; echo '{\"indexed\":7}'",
            "ended with",
        ),
        (
            "reports without end",
            "exec < /dev/null; exec yes",
            "ended with",
        ),
        ("succeeds without a report", "cat > /dev/null", "ended with"),
    ];
    for (name, script, expected) in cases {
        let error = index_with(script).await.to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
}
