//! The power is cut: the data directory and the root key are on a filesystem of their own, whose
//! disk is copied after every process was killed and before anything was written back. What was
//! not synced is not in the copy, as it would not be on a disk; the copy's journal is replayed, and
//! the next commands run on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use e2e::Home;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process_group};

use super::scene::Scene;
use crate::functions::Stage;
use crate::serving::Serving;
use crate::support::{PASSWORD, Random};

/// Neither data nor journal is written back by the clock within a test; a rename does not take
/// the data of its file along, as it does by default and on no other filesystem.
const OPTIONS: &str = "loop,commit=600,noauto_da_alloc,errors=remount-ro";

/// A filesystem in a file, and the directories that are shown of it: one disk, so that all of them
/// lose power at once.
struct Disk {
    file: PathBuf,
    mountpoint: PathBuf,
    shown: Vec<PathBuf>,
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
    /// Below the home, for its data directory and that of its root key.
    fn make(home: &Home) -> Self {
        let (file, mountpoint) = (home.path().join("disk"), home.disk());
        let keys = home.root_key().parent().expect("a directory").to_owned();
        let shown = vec![home.data_dir(), keys];
        fs::File::create(&file)
            .and_then(|file| file.set_len(96 << 20))
            .expect("creates");
        fs::create_dir(&mountpoint).expect("creates");
        tool(
            "mkfs.ext4",
            &["-q", "-E", "lazy_itable_init=0", text(&file)],
        );
        Self::mount(file, mountpoint, shown)
    }

    fn mount(file: PathBuf, mountpoint: PathBuf, shown: Vec<PathBuf>) -> Self {
        tool("mount", &["-o", OPTIONS, text(&file), text(&mountpoint)]);
        for place in &shown {
            let source = mountpoint.join(place.file_name().expect("a name"));
            for directory in [place, &source] {
                fs::create_dir_all(directory).expect("creates");
            }
            tool("mount", &["--bind", text(&source), text(place)]);
        }
        // Made with the disk, like the disk's own directories.
        let disk = fs::File::open(&mountpoint).expect("opens");
        rustix::fs::syncfs(&disk).expect("syncs");
        drop(disk);
        Self {
            file,
            mountpoint,
            shown,
        }
    }

    /// What is on the disk now takes the place of what the kernel still has in memory.
    fn cut_power(self) -> Self {
        let copy = self.file.with_extension("copy");
        tool("cp", &["--sparse=always", text(&self.file), text(&copy)]);
        let (file, mountpoint) = (self.file.clone(), self.mountpoint.clone());
        let shown = self.shown.clone();
        drop(self);
        fs::rename(&copy, &file).expect("renames");
        Self::mount(file, mountpoint, shown)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // At once, so that the loop device goes before the file is used again.
        for place in self.shown.iter().chain([&self.mountpoint]) {
            if unmount(place, UnmountFlags::empty()).is_err() {
                let _ = unmount(place, UnmountFlags::DETACH);
            }
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
    let mut disk = Disk::make(home);
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
    let mut scene = Scene::new();
    let mut disk = Disk::make(scene.home());
    scene.log_in();
    disk = disk.cut_power();
    // The registry tells an old password from a new one, and a vault one root key from another.
    scene.stage.registry.set_password("the second");
    let home = scene.home();
    let rotate = [
        "credentials",
        "rotate",
        &scene.stage.scope(),
        "--password-stdin",
    ];
    home.run_with_input(&rotate, "the second").ok();
    disk = disk.cut_power();
    scene.runs();
    home.run(&["vault", "rotate-key"]).ok();
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

#[test]
fn calls_whose_end_was_told_survive_a_power_cut() {
    let mut disk = None;
    let mut stage = Stage::with(|home| {
        disk = Some(Disk::make(home));
        Serving::start(home)
    });
    for told in 1..=3 {
        stage.python(&["greet", "power"]).ok();
        stage.serve_again(|serving| {
            serving.kill();
            disk = disk.take().map(Disk::cut_power);
        });
        let (status, answer) = stage.serving().get("/v1/tasks", &stage.token);
        assert_eq!(status, 200, "{answer}");
        let tasks = answer["tasks"].as_array().expect("tasks").iter();
        let outcomes: Vec<_> = tasks.map(|task| &task["end"]["outcome"]).collect();
        assert_eq!(outcomes, vec!["returned"; told], "{answer}");
    }
    stage.end_serving();
    drop(disk);
}
