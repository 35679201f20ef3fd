//! What a running container says of itself, for those who list and stop containers.
//!
//! A file in the container's own directory: it is there exactly as long as the container is.

use std::fs;
use std::io;
use std::path::Path;

use container::live;
use ids::ContainerId;
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
    /// The process that ends the container when it is asked to end; 0 where that would end others
    /// too.
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
    /// In the container's own directory.
    pub(crate) fn write(&self, directory: &Path) -> io::Result<()> {
        fs::write(directory.join(FILE), serde_json::to_vec(self)?)
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
    let container = |id: ContainerId| {
        let id = id.to_string();
        let about = About::read(&containers_dir.join(&id))?;
        Some(Container { id, about })
    };
    let mut containers: Vec<Container> = live(containers_dir)
        .into_iter()
        .filter_map(container)
        .collect();
    containers.sort_by_key(|container| container.about.started_at);
    containers
}

#[cfg(test)]
mod tests {
    use container::RunDir;

    use super::*;

    #[test]
    fn a_container_is_listed_as_long_as_its_owner_lives() {
        let top = tempfile::tempdir().expect("a directory");
        let about = About {
            name: Some("web".to_owned()),
            image: "example.com/a:1".to_owned(),
            command: vec!["true".to_owned()],
            owner_pid: std::process::id(),
            started_at: 7,
        };
        let id = ContainerId::new();
        let dir = RunDir::create(top.path(), id, None).expect("a directory");
        assert!(list(top.path()).is_empty(), "it says nothing of itself yet");
        about.write(dir.path()).expect("written");
        let listed = list(top.path());
        assert_eq!(listed.len(), 1);
        assert_eq!(
            (listed[0].id.as_str(), &listed[0].about),
            (&*id.to_string(), &about)
        );
        fs::write(dir.path().join(FILE), "{").expect("written");
        assert!(list(top.path()).is_empty());
        drop(dir);
        let abandoned = top.path().join(ContainerId::new().to_string());
        fs::create_dir(&abandoned).expect("a directory");
        fs::write(
            abandoned.join(FILE),
            serde_json::to_vec(&about).expect("JSON"),
        )
        .expect("written");
        assert!(list(top.path()).is_empty(), "nobody owns it");
    }
}
