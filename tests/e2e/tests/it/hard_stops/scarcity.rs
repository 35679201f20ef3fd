//! Disks without room or without inodes, and few descriptors: what cannot be done is said, what is
//! done is right, and with room again everything works.

use std::ffi::CString;
use std::path::Path;

use e2e::{Finished, home};
use rustix::mount::{MountFlags, mount_remount};

use super::scene::{Scene, remove};
use crate::support::{PASSWORD, SmallDisk, USER};

const ROOMY: &str = "size=64m,nr_inodes=10000";

fn resize(disk: &Path, options: &str) {
    let options = CString::new(options).expect("no zero in it");
    mount_remount(disk, MountFlags::empty(), options.as_c_str()).expect("root can remount");
}

/// It went well, or failed with an error that a person can read.
#[track_caller]
fn is_told(run: &Finished, what: &str) -> bool {
    assert!(!run.stderr.contains("panicked"), "{what}: {}", run.stderr);
    if run.code != 0 {
        assert!(run.code > 0, "{what}: {run:?}");
        assert!(run.stderr.contains("error: "), "{what}: {run:?}");
    }
    run.code == 0
}

/// All stages of a first use, as far as they go. How many went well.
fn first_use(scene: &Scene, what: &str) -> usize {
    let home = scene.home();
    let login = home.login(&scene.stage.scope(), USER, PASSWORD);
    let index = home.run(&["image", "index", scene.image()]);
    let words = scene.digests();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let run = home.run(&words);
    let rotate = [
        "credentials",
        "rotate",
        &scene.stage.scope(),
        "--password-stdin",
    ];
    let rotate = home.run_with_input(&rotate, PASSWORD);
    let key = home.run(&["vault", "rotate-key"]);
    if run.code == 0 {
        assert_eq!(run.stdout, scene.right_digests(), "{what}");
    }
    let all = [login, index, run, rotate, key];
    all.iter().filter(|run| is_told(run, what)).count()
}

#[test]
fn a_disk_without_room_or_inodes_is_told_and_mended() {
    // From too little for a database to enough for all but the cache.
    let sizes = [4, 60, 120, 240, 480, 1000, 3000].map(|kib| format!("size={kib}k"));
    let inodes = [3, 6, 10, 14, 18].map(|count| format!("size=64m,nr_inodes={count}"));
    let scene = Scene::new();
    let data_dir = scene.home().data_dir();
    std::fs::create_dir(&data_dir).expect("creates");
    let mut went_well = [usize::MAX, 0];
    for options in sizes.iter().chain(&inodes) {
        remove(&scene.home().root_key());
        let disk = SmallDisk::mount(&data_dir, "64m");
        resize(&data_dir, options);
        let well = first_use(&scene, options);
        went_well = [went_well[0].min(well), went_well[1].max(well)];
        resize(&data_dir, ROOMY);
        scene.log_in();
        scene.is_mended(options);
        drop(disk);
    }
    assert_eq!(went_well[0], 0, "there was room for everything");
    assert!(
        went_well[1] >= 3,
        "there was room for nothing: {went_well:?}"
    );
}

#[test]
fn a_container_that_fills_its_disk_is_told_and_cleared_away() {
    let scene = Scene::logged_in();
    let run_dir = scene.home().run_dir();
    std::fs::create_dir(&run_dir).expect("creates");
    let disk = SmallDisk::mount(&run_dir, "1m");
    let words = ["run", scene.image(), "sh", "-c", "cat /many/* > /copy"];
    let run = scene.home().run(&words);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("No space left"), "{run:?}");
    resize(&run_dir, "size=4k");
    let run = scene.home().run(&["run", scene.image(), "true"]);
    is_told(&run, "a full run directory");
    resize(&run_dir, ROOMY);
    scene.is_mended("a full run directory");
    drop(disk);
}

/// The command with at most this many open files.
fn with_descriptors(scene: &Scene, most: u32, words: &[&str], input: &str) -> Finished {
    let script = format!("ulimit -n {most}; exec \"$0\" \"$@\"");
    let shell = scene.home().command_by(&["sh", "-ec", &script], words);
    home::finish(home::spawn(shell), input)
}

#[test]
fn few_descriptors_are_told() {
    let scene = Scene::logged_in();
    let digests = scene.digests();
    let run: Vec<&str> = digests.iter().map(String::as_str).collect();
    let scope = scene.stage.scope();
    let login = ["login", &scope, "--username", USER, "--password-stdin"];
    let (mut failed, mut went_well) = (0, 0);
    for most in [8, 12, 16, 20, 24, 28, 32, 40, 48, 64] {
        let what = format!("{most} descriptors");
        scene.forget_image();
        let stages = [
            with_descriptors(&scene, most, &login, PASSWORD),
            with_descriptors(&scene, most, &["image", "index", scene.image()], ""),
            with_descriptors(&scene, most, &run, ""),
        ];
        let well = stages.iter().filter(|stage| is_told(stage, &what)).count();
        (failed, went_well) = (failed + 3 - well, went_well + well);
        if stages[2].code == 0 {
            assert_eq!(stages[2].stdout, scene.right_digests(), "{what}");
        }
        scene.is_mended(&what);
    }
    assert!(
        failed > 0 && went_well > 0,
        "{failed} failed, {went_well} went well"
    );
}
