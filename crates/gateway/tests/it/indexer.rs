//! This test program as the indexer of layers, which is a process of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Tells the program that it is one, since its environment is empty otherwise.
const ROLE: &str = "HOLDFAST_TEST_INDEXES";

/// A program that indexes: this one, with what tests print out of the way.
pub(crate) fn program(directory: &Path) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let only = "--exact indexer::indexes --test-threads 1";
    let script = format!(
        "#!/bin/sh\n{ROLE}=1 exec '{}' {only} 9>&1 >/dev/null\n",
        this.display()
    );
    let path = directory.join("indexer");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn indexes() {
    if std::env::var_os(ROLE).is_none() {
        // Run with the other tests: there is no layer.
        return;
    }
    let report = fs::File::options()
        .write(true)
        .open("/proc/self/fd/9")
        .unwrap();
    rustix::stdio::dup2_stdout(&report).unwrap();
    let succeeded = layer_indexer::child::main(None);
    std::process::exit(i32::from(!succeeded));
}
