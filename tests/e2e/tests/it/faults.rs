//! What goes away and comes back, during a start and during reads: registries that are killed or
//! stopped for a minute, a link that loses every packet for half of one, processes of ours that are
//! stopped or killed, a disk that is full, a cache that is changed under its readers.
//!
//! Never a wrong byte, by the digest of everything that is read; and never an error where the data
//! comes back within the deadline. Rows run side by side: they mostly wait.

mod network;
mod scene;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use self::scene::{BLOCK, LARGE, PATIENCE, Part, Reader, Scene, Way, digest, finish_within};
use crate::support::{Random, SmallDisk, files_below, until};

/// What happens to the way to the bytes, and for how long: these times are the promise's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    RegistryKilled,
    RegistryStopped,
    LinkLost,
}

use Fault::{LinkLost, RegistryKilled, RegistryStopped};

const ALL: [Fault; 3] = [RegistryKilled, RegistryStopped, LinkLost];

impl Fault {
    fn lasts(self) -> Duration {
        match self {
            RegistryKilled | RegistryStopped => Duration::from_mins(1),
            LinkLost => Duration::from_secs(30),
        }
    }

    fn begin(self, scene: &mut Scene) {
        match self {
            RegistryKilled => scene.registry.stop(),
            RegistryStopped => scene.signal_registry(Signal::STOP),
            LinkLost => scene.network.lose_everything(),
        }
    }

    fn end(self, scene: &mut Scene) {
        match self {
            RegistryKilled => scene.registry.start_again(),
            RegistryStopped => scene.signal_registry(Signal::CONT),
            LinkLost => scene.network.carry_again(),
        }
    }
}

/// Runs each row on a thread of its own, which has a network of its own; tells of all that fail.
fn side_by_side<R: std::fmt::Debug + Copy + Send>(rows: &[R], run: impl Fn(R) + Sync) {
    let failed: Vec<String> = std::thread::scope(|scope| {
        let run = &run;
        let start = |row: &R| {
            let row = *row;
            let what = format!("{row:?}");
            let work = move || catch_unwind(AssertUnwindSafe(|| run(row))).is_err();
            let thread = std::thread::Builder::new().name(what.clone());
            (what, thread.spawn_scoped(scope, work).expect("a thread"))
        };
        let started: Vec<_> = rows.iter().map(start).collect();
        let ended = started.into_iter();
        let failed = ended.filter_map(|(what, row)| row.join().expect("caught").then_some(what));
        failed.collect()
    });
    assert_eq!(failed, Vec::<String>::new(), "see above for each");
}

/// When a command that starts a container is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// While a layer that was never seen is downloaded and indexed.
    FirstUse,
    /// Before the registry is asked anything.
    Outset,
    /// When its files are mounted and none of their bytes is here.
    Mounted,
    /// The same where a start like this one was seen before.
    Foretold,
}

use Moment::{FirstUse, Foretold, Mounted, Outset};

/// So long after it has begun something is under way.
const UNDER_WAY: Duration = Duration::from_millis(300);

fn begin_start(scene: &mut Scene, moment: Moment, fault: Fault) -> Child {
    if moment == Foretold {
        scene.cold();
        let child = scene.start();
        finish_within(child, PATIENCE, "the first start").ok();
    }
    if moment != FirstUse {
        scene.cold();
    }
    if moment == Outset {
        fault.begin(scene);
        return scene.start();
    }
    let child = scene.start();
    let role = if moment == FirstUse {
        "layer-indexer"
    } else {
        "mount-server"
    };
    until(role, || !scene.in_role(role).is_empty());
    std::thread::sleep(UNDER_WAY);
    fault.begin(scene);
    child
}

fn start_that_is_hit((moment, fault, way): (Moment, Fault, Way)) {
    let mut scene = Scene::new(way);
    let what = format!("{fault:?} at {moment:?}, by {way:?}");
    let mut child = begin_start(&mut scene, moment, fault);
    std::thread::sleep(fault.lasts());
    let ended = child.try_wait().expect("it is ours");
    fault.end(&mut scene);
    if let Some(status) = ended {
        let finished = finish_within(child, PATIENCE, &what);
        panic!("{what}: it did not need it, or did not wait: {status} {finished:?}");
    }
    let lifted = Instant::now();
    let finished = finish_within(child, PATIENCE, &what).ok();
    assert_eq!(finished.stdout, scene.right_digests(), "{what}");
    println!("{what}: done {:?} after its end", lifted.elapsed());
}

#[test]
fn a_start_outlasts_what_comes_back_within_its_deadline() {
    let mut rows = vec![(Outset, LinkLost, Way::Token)];
    for (moment, way) in [
        (FirstUse, Way::Password),
        (Mounted, Way::Token),
        (Foretold, Way::Password),
    ] {
        rows.extend(ALL.map(|fault| (moment, fault, way)));
    }
    side_by_side(&rows, start_that_is_hit);
}

/// Both layers, in order and out of it.
fn parts(random: &mut Random) -> Vec<Part> {
    let blocks = (LARGE / BLOCK) as u64;
    let mut parts = Vec::new();
    for layer in ["gzip", "zstd"] {
        let large = format!("{layer}/large");
        for _ in 0..6 {
            let block = usize::try_from(random.below(blocks)).expect("few");
            parts.push(Part::Block(large.clone(), block));
        }
        parts.push(Part::Whole(format!("{layer}/3")));
    }
    parts.extend(["gzip", "zstd"].map(|layer| Part::Whole(format!("{layer}/large"))));
    parts
}

fn right(scene: &Scene, part: &Part) -> String {
    match part {
        Part::Whole(path) => digest(scene.content(path)),
        Part::Block(path, block) => {
            let content = scene.content(path);
            let from = block * BLOCK;
            digest(&content[from..content.len().min(from + BLOCK)])
        }
    }
}

/// Has every part read, right.
fn reads_right(scene: &Scene, reader: &mut Reader, parts: &[Part], what: &str) {
    for part in parts {
        reader.ask(part);
    }
    for part in parts {
        let what = format!("{what}, {part:?}");
        assert_eq!(reader.answer(&what), Some(right(scene, part)), "{what}");
    }
}

fn reads_that_are_hit((fault, way): (Fault, Way)) {
    let mut scene = Scene::new(way);
    scene.cold();
    let mut reader = Reader::start(&scene);
    let what = format!("{fault:?} under a reader, by {way:?}");
    let first = [
        Part::Whole("gzip/1".to_owned()),
        Part::Whole("zstd/1".to_owned()),
    ];
    reads_right(&scene, &mut reader, &first, &what);
    let parts = parts(&mut Random::new());
    for part in &parts {
        reader.ask(part);
    }
    // Not before some of it is on its way.
    let begun = reader.answer(&what);
    assert_eq!(begun, Some(right(&scene, &parts[0])), "{what}");
    fault.begin(&mut scene);
    std::thread::sleep(fault.lasts());
    fault.end(&mut scene);
    for part in &parts[1..] {
        let what = format!("{what}, {part:?}");
        assert_eq!(reader.answer(&what), Some(right(&scene, part)), "{what}");
    }
    reader.end(&what).ok();
}

#[test]
fn reads_outlast_what_comes_back_within_their_deadline() {
    let by = |way| ALL.map(|fault| (fault, way));
    let rows = [by(Way::Token), by(Way::Password)].concat();
    side_by_side(&rows, reads_that_are_hit);
}

/// Who is hit by a signal while a container reads.
#[derive(Clone, Copy, Debug)]
enum Hit {
    Stopped(&'static str),
    Killed(&'static str),
}

/// Long enough that everything else has nothing left to do.
const STOPPED_FOR: Duration = Duration::from_secs(10);

fn reads_of_who_is_hit(hit: Hit) {
    let scene = Scene::new(Way::Token);
    scene.cold();
    let mut reader = Reader::start(&scene);
    let what = format!("{hit:?}");
    let parts = parts(&mut Random::new());
    for part in &parts {
        reader.ask(part);
    }
    assert_eq!(
        reader.answer(&what),
        Some(right(&scene, &parts[0])),
        "{what}"
    );
    let (Hit::Stopped(role) | Hit::Killed(role)) = hit;
    if let Hit::Stopped(_) = hit {
        scene.signal_role(role, Signal::STOP);
        std::thread::sleep(STOPPED_FOR);
        scene.signal_role(role, Signal::CONT);
    } else {
        scene.signal_role(role, Signal::KILL);
    }
    for part in &parts[1..] {
        let what = format!("{what}, {part:?}");
        let read = reader.answer(&what);
        let is_right = read == Some(right(&scene, part));
        // Where nobody serves the files any more, they cannot be read; they are never other ones.
        let may_fail = matches!(hit, Hit::Killed(_)) && read.is_none();
        assert!(is_right || may_fail, "{what}: {read:?}");
    }
    let finished = reader.end(&what);
    if let Hit::Stopped(_) = hit {
        finished.ok();
    }
    let after = finish_within(scene.start(), PATIENCE, "the next start").ok();
    assert_eq!(after.stdout, scene.right_digests(), "after {what}");
}

#[test]
fn reads_are_right_or_fail_when_our_own_processes_are_stopped_or_killed() {
    let rows = [
        Hit::Stopped("mount-server"),
        Hit::Stopped("run"),
        Hit::Killed("mount-server"),
        Hit::Killed("run"),
    ];
    side_by_side(&rows, reads_of_who_is_hit);
}

/// What is wrong with the cache.
#[derive(Clone, Copy, Debug)]
enum Cache {
    /// It is full before the start.
    Small,
    /// Something else takes the rest of its disk while a container reads.
    Filled,
    /// Its files are changed while a container reads what is in them.
    Changed,
}

fn fill(directory: &Path) {
    let mut file = File::create(directory.join("of-somebody-else")).expect("creates");
    let zeros = vec![0; 1 << 16];
    while std::io::Write::write_all(&mut file, &zeros).is_ok() {}
}

fn change_all(directory: &Path, random: &mut Random) {
    let files = files_below(directory).into_iter();
    let large = files.filter(|path| path.metadata().is_ok_and(|about| about.len() > 1 << 16));
    let mut changed = 0;
    for path in large {
        let file = OpenOptions::new().read(true).write(true).open(&path);
        let file = file.expect("opens");
        let length = file.metadata().expect("a file").len();
        for _ in 0..64 {
            let (mut byte, at) = ([0], random.below(length));
            file.read_exact_at(&mut byte, at).expect("reads");
            file.write_all_at(&[byte[0] ^ 0x41], at).expect("writes");
        }
        changed += 1;
    }
    assert!(changed >= 2, "{changed} files in {}", directory.display());
}

fn reads_from_a_cache_that_is(cache: Cache) {
    let scene = Scene::new(Way::Token);
    let directory = scene.home.data_dir().join("cache");
    let size = if matches!(cache, Cache::Changed) {
        "64m"
    } else {
        "4m"
    };
    scene.command(&["image", "index", &scene.image], "");
    scene.command(&["cache", "prune", "--all"], "");
    fs::create_dir_all(&directory).expect("creates");
    let _disk = SmallDisk::mount(&directory, size);
    let what = format!("{cache:?}");
    if let Cache::Changed = cache {
        finish_within(scene.start(), PATIENCE, &what).ok();
    }
    let mut reader = Reader::start(&scene);
    let random = &mut Random::new();
    reads_right(
        &scene,
        &mut reader,
        &[Part::Whole("zstd/2".to_owned())],
        &what,
    );
    match cache {
        Cache::Small => {}
        Cache::Filled => fill(&directory),
        Cache::Changed => change_all(&directory, random),
    }
    reads_right(&scene, &mut reader, &parts(random), &what);
    reader.end(&what).ok();
}

#[test]
fn reads_are_right_where_the_disk_is_full_or_the_cache_is_changed() {
    let rows = [Cache::Small, Cache::Filled, Cache::Changed];
    side_by_side(&rows, reads_from_a_cache_that_is);
}
