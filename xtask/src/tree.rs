//! Where the repository is and which files of it are ours.
//!
//! Files are found by walking, not by asking git, so that a source archive can be checked too.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Folders that hold nothing written by us.
const SKIPPED: &[&str] = &["target", ".git", "node_modules", ".venv", "__pycache__"];

/// What is checked in as others made it; `runner/vendor.md` says whose it is.
const VENDORED: &[&str] = &["runner/src/cloudpickle"];

/// The top of the repository.
pub(crate) fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest
        .parent()
        .expect("xtask is a folder of the repository")
        .to_path_buf()
}

/// Where tasks keep what they build: `target/`, or where cargo was told to.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// One text file of ours.
#[derive(Debug)]
pub(crate) struct SourceFile {
    /// Relative to the top, with forward slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl SourceFile {
    pub(crate) fn has_extension(&self, extensions: &[&str]) -> bool {
        let extension = Path::new(&self.path)
            .extension()
            .and_then(|text| text.to_str());
        extension.is_some_and(|extension| extensions.contains(&extension))
    }
}

/// Reads every file below `root` that has one of the extensions, sorted by path.
pub(crate) fn read_sources(root: &Path, extensions: &[&str]) -> Result<Vec<SourceFile>> {
    let mut sources = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder)
            .with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type()?;
            if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
                if !VENDORED.iter().any(|path| root.join(path) == entry.path()) {
                    folders.push(entry.path());
                }
            } else if kind.is_file() {
                sources.extend(read_source(root, &entry.path(), extensions)?);
            }
        }
    }
    sources.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(sources)
}

fn read_source(root: &Path, path: &Path, extensions: &[&str]) -> Result<Option<SourceFile>> {
    let extension = path
        .extension()
        .and_then(|text| text.to_str())
        .unwrap_or_default();
    if !extensions.contains(&extension) {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read {} as UTF-8", path.display()))?;
    let path = path
        .strip_prefix(root)
        .expect("the walk starts at the root");
    Ok(Some(SourceFile {
        path: path.to_string_lossy().into_owned(),
        text,
    }))
}
