//! Where things are on this machine: flag, then environment, then `/etc/holdfast/holdfast.toml`.
//!
//! The file is optional; a field it does not know is refused, since a misspelt setting that is
//! ignored is worse than none. Nothing secret stands in it.

use std::path::{Path, PathBuf};

use ids::WorkspaceName;
use serde::Deserialize;

use crate::args::Global;
use crate::failure::{Failure, Result};

const CONFIG_FILE: &str = "/etc/holdfast/holdfast.toml";
const DATA_DIR: &str = "/var/lib/holdfast";
const ROOT_KEY: &str = "/etc/holdfast/root.key";
const RUN_DIR: &str = "/run/holdfast";

/// A machine for running images has tens of gigabytes; the cache may have a few of them.
const CACHE_LIMIT: &str = "20g";

/// Larger is no configuration.
const CONFIG_MAX_BYTES: u64 = 64 << 10;

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) data_dir: PathBuf,
    pub(crate) root_key: PathBuf,
    /// Sockets, mounts and containers that live no longer than the machine is up.
    pub(crate) run_dir: PathBuf,
    pub(crate) workspace: WorkspaceName,
    pub(crate) cache_limit_bytes: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    data_dir: Option<PathBuf>,
    root_key: Option<PathBuf>,
    run_dir: Option<PathBuf>,
    workspace: Option<String>,
    cache_limit: Option<String>,
}

impl Settings {
    /// `global` holds what was typed, or else the environment.
    pub(crate) fn load(global: &Global) -> Result<Self> {
        let file = read(Path::new(CONFIG_FILE))?;
        let limit = file.cache_limit.as_deref().unwrap_or(CACHE_LIMIT);
        let choose = |typed: &Option<PathBuf>, stored: Option<PathBuf>, fallback: &str| {
            typed.clone().or(stored).unwrap_or_else(|| fallback.into())
        };
        let settings = Self {
            data_dir: choose(&global.data_dir, file.data_dir, DATA_DIR),
            root_key: choose(&global.root_key, file.root_key, ROOT_KEY),
            run_dir: choose(&global.run_dir, file.run_dir, RUN_DIR),
            workspace: global
                .workspace
                .as_deref()
                .or(file.workspace.as_deref())
                .map_or_else(|| Ok(WorkspaceName::default()), WorkspaceName::parse)
                .map_err(Failure::invalid)?,
            cache_limit_bytes: parse_size(limit)?,
        };
        settings.check()
    }

    fn check(self) -> Result<Self> {
        let data_dir =
            std::path::absolute(&self.data_dir).unwrap_or_else(|_| self.data_dir.clone());
        let root_key =
            std::path::absolute(&self.root_key).unwrap_or_else(|_| self.root_key.clone());
        if root_key.starts_with(&data_dir) {
            let (key, data) = (root_key.display(), data_dir.display());
            return Err(
                Failure::invalid(format!("the root key {key} lies inside {data}"))
                    .hint("a copy of the data directory must not hold the key to it"),
            );
        }
        Ok(Self {
            data_dir,
            root_key,
            ..self
        })
    }
}

fn read(path: &Path) -> Result<File> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.len() > CONFIG_MAX_BYTES => {
            return Err(Failure::invalid(format!("{} is too large", path.display())));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(File::default()),
        _ => {}
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::invalid(format!("{}: {error}", path.display())))?;
    toml::from_str(&text)
        .map_err(|error| Failure::invalid(format!("{}: {}", path.display(), error.message())))
}

/// `64m`, `2g`, `1048576`: binary units, as docker's `--shm-size` and `--memory` take them.
pub(crate) fn parse_size(text: &str) -> Result<u64> {
    container::parse_size_bytes(text)
        .map_err(|error| Failure::invalid(error).hint("such as 512m or 2g"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_setting_is_refused() {
        assert!(toml::from_str::<File>("data_dir = \"/x\"").is_ok());
        assert!(toml::from_str::<File>("datadir = \"/x\"").is_err());
    }
}
