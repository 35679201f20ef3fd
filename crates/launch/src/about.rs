//! What a running container says of itself, for those who list and stop containers.
//!
//! A file in the container's own directory: it is there exactly as long as the container is.

use std::fs;
use std::io;
use std::path::Path;

use container::RunDir;
use serde::{Deserialize, Serialize};

const FILE: &str = "about.json";

/// Larger is not ours.
const MAX_BYTES: u64 = 64 << 10;

/// Who started a container, of what.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct About {
    pub name: Option<String>,
    pub image: String,
    pub command: Vec<String>,
    /// The process that ends the container when it is asked to end.
    pub owner_pid: u32,
    /// Seconds since 1970.
    pub started_at: i64,
}

/// A container that is running.
#[derive(Clone, Debug)]
pub struct Container {
    pub id: String,
    pub about: About,
}

impl About {
    pub(crate) fn write(&self, dir: &RunDir) -> io::Result<()> {
        fs::write(dir.path().join(FILE), serde_json::to_vec(self)?)
    }

    fn read(directory: &Path) -> Option<Self> {
        let path = directory.join(FILE);
        if fs::metadata(&path).ok()?.len() > MAX_BYTES {
            return None;
        }
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }
}

/// The containers below a directory whose owners live.
pub fn list(containers_dir: &Path) -> Vec<Container> {
    let Ok(entries) = fs::read_dir(containers_dir) else {
        return Vec::new();
    };
    let container = |entry: fs::DirEntry| {
        let about = About::read(&entry.path())?;
        let id = entry.file_name().into_string().ok()?;
        Path::new("/proc")
            .join(about.owner_pid.to_string())
            .exists()
            .then_some(Container { id, about })
    };
    let mut containers: Vec<Container> = entries.flatten().filter_map(container).collect();
    containers.sort_by_key(|container| container.about.started_at);
    containers
}
