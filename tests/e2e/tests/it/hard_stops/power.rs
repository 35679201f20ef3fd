//! The power is cut: the data directory is on a filesystem of its own, whose disk is copied after
//! every process was killed and before anything was written back. What was not synced is not in
//! the copy, as it would not be on a disk; the copy's journal is replayed, and the next commands
//! run on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process_group};

use super::scene::{Random, Scene};
use crate::support::PASSWORD;

/// Neither data nor journal is written back by the clock within a test; a rename does not take
/// the data of its file along, as it does by default and on no other filesystem.
const OPTIONS: &str = "loop,commit=600,noauto_da_alloc,errors=remount-ro";

/// A filesystem in a file.
struct Disk {
    file: PathBuf,
    mountpoint: PathBuf,
}

fn tool(name: &str, arguments: &[&str]) {
    let output = Command::new(name).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{name}: {error}: run `cargo xtask setup`"));
    assert!(output.status.success(), "{name} {arguments:?}: {output:?}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("utf-8")
}

impl Disk {
    fn make(file: PathBuf, mountpoint: PathBuf) -> Self {
        fs::File::create(&file)
            .and_then(|file| file.set_len(96 << 20))
            .expect("creates");
        tool(
            "mkfs.ext4",
            &["-q", "-E", "lazy_itable_init=0", text(&file)],
        );
        Self::mount(file, mountpoint)
    }

    fn mount(file: PathBuf, mountpoint: PathBuf) -> Self {
        tool("mount", &["-o", OPTIONS, text(&file), text(&mountpoint)]);
        Self { file, mountpoint }
    }

    /// What is on the disk now takes the place of what the kernel still has in memory.
    fn cut_power(self) -> Self {
        let copy = self.file.with_extension("copy");
        tool("cp", &["--sparse=always", text(&self.file), text(&copy)]);
        let (file, mountpoint) = (self.file.clone(), self.mountpoint.clone());
        drop(self);
        fs::rename(&copy, &file).expect("renames");
        Self::mount(file, mountpoint)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // At once, so that the loop device goes before the file is used again.
        if unmount(&self.mountpoint, UnmountFlags::empty()).is_err() {
            let _ = unmount(&self.mountpoint, UnmountFlags::DETACH);
        }
    }
}

/// Kills the command and all that it started at a random moment within `takes`.
fn stop(scene: &Scene, random: &mut Random, words: &[&str], takes: Duration) {
    let mut child = scene.start(words, PASSWORD);
    std::thread::sleep(random.moment(takes));
    let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
    child.wait().expect("it is ours");
    scene.nothing_runs("power");
}

#[test]
fn after_a_power_cut_everything_is_whole_or_absent() {
    let scene = Scene::new();
    let random = &mut Random::new();
    let home = scene.home();
    fs::create_dir(home.data_dir()).expect("creates");
    let mut disk = Disk::make(home.path().join("disk"), home.data_dir());
    scene.log_in();
    let scope = scene.stage.scope();
    let digests = scene.digests();
    let run: Vec<&str> = digests.iter().map(String::as_str).collect();
    let index = ["image", "index", scene.image()];
    let rotate = ["credentials", "rotate", &scope, "--password-stdin"];
    let prune = ["cache", "prune", "--all"];
    let rotate_key = ["vault", "rotate-key"];
    let stages: [(&[&str], usize); 5] = [
        (&index, 4),
        (&run, 3),
        (&prune, 2),
        (&rotate, 3),
        (&rotate_key, 3),
    ];
    for (words, cuts) in stages {
        for _ in 0..cuts {
            if words == index {
                scene.forget_image();
                disk = disk.cut_power();
            }
            stop(&scene, random, words, Duration::from_millis(900));
            disk = disk.cut_power();
            home.run(&["vault", "verify"]).ok();
            // The login that was confirmed before the cut is there: else nothing would run.
            scene.is_mended(&format!("power cut in {words:?}"));
        }
    }
    drop(disk);
}

#[test]
fn what_was_confirmed_survives_a_power_cut() {
    let scene = Scene::new();
    let home = scene.home();
    fs::create_dir(home.data_dir()).expect("creates");
    let mut disk = Disk::make(home.path().join("disk"), home.data_dir());
    scene.log_in();
    disk = disk.cut_power();
    home.run(&["image", "index", scene.image()]).ok();
    disk = disk.cut_power();
    let indexed = home
        .run(&["image", "index", "--json", scene.image()])
        .ok()
        .json();
    let layers = indexed["layers"].as_array().expect("layers");
    assert!(
        layers.iter().all(|layer| layer["seconds"].is_null()),
        "{indexed}"
    );
    home.run_with_input(&["secret", "set", "kept"], "value")
        .ok();
    disk = disk.cut_power();
    assert!(home.run(&["secret", "list"]).ok().stdout.contains("kept"));
    // The disk does lose what is not synced: else this test would show nothing.
    let unsynced = home.data_dir().join("unsynced");
    fs::write(&unsynced, "x").expect("writes");
    disk = disk.cut_power();
    assert!(!unsynced.exists());
    scene.is_mended("power cuts");
    drop(disk);
}
