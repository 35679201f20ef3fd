//! Files of the data directory that are flipped, cut, removed or replaced, between commands and
//! under a live mount: reads give right bytes or an error, and the next command mends.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Child;

use rustix::fs::Mode;
use rustix::process::{Pid, Signal, kill_process};

use super::scene::{Scene, remove};
use crate::support::{Random, files_below, until};

/// What happens to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    FlipHead,
    Flip,
    Cut,
    Empty,
    Gone,
    Directory,
    DanglingLink,
    Fifo,
}

use Damage::{Cut, DanglingLink, Directory, Empty, Fifo, Flip, FlipHead, Gone};

const ALL: [Damage; 8] = [
    FlipHead,
    Flip,
    Cut,
    Empty,
    Gone,
    Directory,
    DanglingLink,
    Fifo,
];

/// More than the first part of an index, which is looked at by itself.
const HEAD: u64 = 512;

fn damage(path: &Path, damage: Damage, random: &mut Random) {
    let length = path.metadata().expect("a file of ours").len();
    let open = || {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .expect("opens")
    };
    match damage {
        FlipHead => flip(&open(), random.below(length.min(HEAD))),
        Flip => (0..8).for_each(|_| flip(&open(), random.below(length))),
        Cut => open().set_len(random.below(length)).expect("cuts"),
        Empty => open().set_len(0).expect("empties"),
        Gone => remove(path),
        Directory => {
            remove(path);
            fs::create_dir(path).expect("creates");
            fs::write(path.join("inside"), "").expect("writes");
        }
        DanglingLink => {
            remove(path);
            symlink("/nowhere/at/all", path).expect("links");
        }
        Fifo => {
            remove(path);
            rustix::fs::mkfifoat(rustix::fs::CWD, path, Mode::RWXU).expect("makes");
        }
    }
}

fn flip(file: &File, at: u64) {
    let mut byte = [0];
    if file.read_at(&mut byte, at).expect("reads") == 1 {
        file.write_all_at(&[byte[0] ^ 0x41], at).expect("writes");
    }
}

/// Files that can be made again: indexes and cache.
fn victims(scene: &Scene) -> Vec<PathBuf> {
    let places = ["indexes", "cache/layers"].map(|name| scene.home().data_dir().join(name));
    let files = places.iter().flat_map(|place| files_below(place));
    let mut files: Vec<_> = files.filter(|path| !path.ends_with("use")).collect();
    files.sort();
    files
}

#[test]
fn files_damaged_between_commands_are_made_again() {
    let scene = Scene::logged_in();
    let random = &mut Random::new();
    let words = scene.digests();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    scene.runs();
    let names = victims(&scene);
    assert_eq!(
        names.len(),
        8,
        "index, about, data and map of two layers: {names:?}"
    );
    for kind in ALL {
        for path in &names {
            let what = format!("{kind:?} of {}", path.display());
            damage(path, kind, random);
            // An index that its reader finds damaged costs one command. That may be a later one:
            // parts of an index are not needed while the cache has what they lead to.
            let run = scene.home().run(&words);
            if run.code == 0 {
                assert_eq!(run.stdout, scene.right_digests(), "{what}");
            } else {
                assert!(run.stderr.contains("index"), "{what}: {run:?}");
                scene.runs();
            }
        }
        scene.is_clean(&format!("{kind:?}"));
    }
}

/// What the kernel says is mounted, where it is FUSE: `FUSE_SUPER_MAGIC`.
const FUSE: rustix::fs::FsWord = 0x6573_5546;

/// A mounted image.
struct Mounted<'a> {
    scene: &'a Scene,
    child: Child,
    directory: PathBuf,
}

impl<'a> Mounted<'a> {
    fn new(scene: &'a Scene) -> Self {
        let directory = scene.home().path().join("image");
        // On a dead mount it can be neither made nor found.
        let _ = fs::create_dir(&directory);
        let place = directory.to_str().expect("utf-8");
        let child = scene.start(&["image", "mount", scene.image(), place], "");
        // The kernel remembers names of a dead mount; this question is for whoever serves it.
        until("the mount", || {
            let answer = rustix::fs::statfs(&directory);
            answer.is_ok_and(|answer| answer.f_type == FUSE)
        });
        Self {
            scene,
            child,
            directory,
        }
    }

    /// Every file has its bytes, or fails to be read. How many could be.
    #[track_caller]
    fn gives_right_bytes(&self, what: &str) -> usize {
        let read = |(path, content): &&(String, Vec<u8>)| {
            let file = File::open(self.directory.join(path)).ok()?;
            // What the kernel keeps of the file is no answer of ours.
            let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
            let mut bytes = vec![0; content.len()];
            file.read_exact_at(&mut bytes, 0).ok()?;
            assert!(bytes == *content, "{what}: wrong bytes in {path}");
            Some(())
        };
        self.scene
            .files
            .iter()
            .filter_map(|file| read(&file))
            .count()
    }

    fn end(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("it is ours");
        let status = self.child.wait().expect("it is ours");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        // After the end there is nothing to kill; after a failed test there may be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn files_damaged_under_a_live_mount_give_right_bytes() {
    let scene = Scene::logged_in();
    let random = &mut Random::new();
    scene.runs();
    for kind in ALL {
        let mounted = Mounted::new(&scene);
        let names = victims(&scene);
        assert_eq!(mounted.gives_right_bytes("before"), scene.files.len());
        for path in names {
            let what = format!("{kind:?} of {}", path.display());
            damage(&path, kind, random);
            let right = mounted.gives_right_bytes(&what);
            // The registry is there, and so all that the cache had can be had again.
            let is_index = path.starts_with(scene.home().data_dir().join("indexes"));
            assert!(is_index || right == scene.files.len(), "{what}");
        }
        mounted.end();
        scene.home().run(&["image", "verify", scene.image()]);
        scene.runs();
    }
    scene.is_clean("damage");
}

#[test]
fn a_killed_mount_is_taken_off_and_a_dead_one_replaced() {
    let scene = Scene::logged_in();
    scene.runs();
    let is_mounted = |place: &Path| {
        let table = fs::read_to_string("/proc/self/mountinfo").expect("reads");
        table.contains(&format!(" {} ", place.display()))
    };
    for victims in [
        &["image"][..],
        &["mount-server"],
        &["image", "mount-server"],
        &["mount-janitor"],
        &["image", "mount-server", "mount-janitor"],
    ] {
        let what = format!("{victims:?} killed");
        let mut mounted = Mounted::new(&scene);
        assert_eq!(mounted.gives_right_bytes(&what), scene.files.len());
        let mut found = scene.home().processes();
        found.retain(|(_, role)| victims.contains(&role.as_str()));
        assert_eq!(found.len(), victims.len(), "{found:?}");
        // None of them has the time to clear up after another one.
        let order = ["mount-janitor", "image", "mount-server"];
        found.sort_by_key(|(_, role)| order.iter().position(|first| first == role));
        for (pid, _) in found {
            kill_process(pid, Signal::KILL).expect("it is ours");
        }
        mounted.gives_right_bytes(&what);
        let directory = mounted.directory.clone();
        if victims == ["mount-janitor"] {
            mounted.end();
        } else {
            mounted.child.wait().expect("it is ours");
            scene.nothing_runs(&what);
        }
        let is_left = victims.len() == 3;
        assert_eq!(is_mounted(&directory), is_left, "{what}");
        let again = Mounted::new(&scene);
        assert_eq!(again.gives_right_bytes(&what), scene.files.len(), "{what}");
        again.end();
        assert!(!is_mounted(&directory), "{what}");
        scene.is_clean(&what);
    }
}
