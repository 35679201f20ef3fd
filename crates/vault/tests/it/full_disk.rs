//! A disk that is full for a while.

use std::io::Write;
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use vault::Vault;

use crate::support::{Setting, Time, name, put};

/// A disk of its own in the memory of this machine, which needs root.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = Some(c"size=1m");
        mount(
            "tmpfs",
            directory.path(),
            "tmpfs",
            MountFlags::empty(),
            options,
        )
        .expect("this test mounts a tmpfs and needs root");
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = unmount(self.path(), UnmountFlags::DETACH);
    }
}

fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    while file.write_all(&[0; 512]).is_ok() {}
}

#[tokio::test]
async fn what_failed_on_a_full_disk_works_when_there_is_room_again() {
    let disk = SmallDisk::new();
    let place = Setting::HERE.place(disk.path());
    let vault = Vault::open_with(place, Time::new().clock()).await.unwrap();
    let workspace = ids::WorkspaceId::new();
    put(&vault, workspace, "a", "one").await.unwrap();
    let filler = disk.path().join("filler");
    fill(&filler);
    let long = "x".repeat(32 * 1024);
    for _ in 0..3 {
        put(&vault, workspace, "a", &long).await.unwrap_err();
    }
    std::fs::remove_file(filler).unwrap();
    put(&vault, workspace, "a", &long).await.unwrap();
    let opened = vault.open_secret(workspace, &name("a"), None, "test").await;
    assert_eq!(opened.unwrap().version, 2);
}
