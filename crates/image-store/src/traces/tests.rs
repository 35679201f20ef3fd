//! What was kept is foretold, to those whom it belongs to, and to them only.

use std::os::unix::fs::symlink;
use std::time::Duration;

use super::*;

fn layer(digest: &str, root: u8) -> TracedLayer {
    TracedLayer {
        digest: digest.to_owned(),
        root: [root; 32],
    }
}

fn own_layer() -> TracedLayer {
    layer("sha256:aa", 7)
}

fn words(command: &str) -> Vec<String> {
    command.split(' ').map(str::to_owned).collect()
}

fn key() -> TraceKey {
    TraceKey::of_command(
        "registry.test/acme",
        &[own_layer()],
        &words("python3 app.py"),
    )
}

fn run(spans: &[u32]) -> Vec<Touch> {
    let touch = |(at, span): (usize, &u32)| Touch {
        layer: 0,
        span: *span,
        at_ms: u32::try_from(at).unwrap(),
    };
    spans.iter().enumerate().map(touch).collect()
}

fn spans(touches: &[Touch]) -> Vec<u32> {
    touches.iter().map(|touch| touch.span).collect()
}

struct Place {
    directory: tempfile::TempDir,
    store: ImageStore,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = ImageStore::open(directory.path()).unwrap();
        Self { directory, store }
    }

    fn add(&self, spans: &[u32]) {
        self.store.add_trace("team", &key(), run(spans)).unwrap();
    }

    fn prune(&self) {
        self.store.prune_traces("team").unwrap();
    }

    fn foretold(&self) -> Vec<u32> {
        spans(&self.store.trace("team", &key()))
    }

    fn path(&self) -> PathBuf {
        self.store.trace_path("team", &key())
    }
}

#[test]
fn a_trace_is_of_the_last_runs() {
    let place = Place::new();
    assert!(place.foretold().is_empty());
    place.add(&[9, 4, 6]);
    assert_eq!(place.foretold(), [9, 4, 6]);
    place.add(&[]);
    assert_eq!(
        place.foretold(),
        [9, 4, 6],
        "a run that read nothing says nothing"
    );
    for _ in 0..3 {
        place.add(&[1, 2]);
    }
    assert_eq!(
        place.foretold(),
        [1, 2],
        "a new version is known after three runs"
    );
    for _ in 0..10 {
        place.add(&[3]);
    }
    assert_eq!(place.foretold(), [3]);
    let left = fs::read_dir(place.directory.path().join("tmp")).unwrap();
    assert_eq!(left.count(), 0);
}

#[test]
fn what_is_known_is_not_written_again() {
    let place = Place::new();
    for _ in 0..KEPT_RUNS {
        place.add(&[1, 2]);
    }
    let file = File::options().write(true).open(place.path()).unwrap();
    let long_ago = SystemTime::now() - Duration::from_hours(1);
    file.set_modified(long_ago).unwrap();
    let before = std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap());
    place.add(&[2, 1]);
    let after = fs::metadata(place.path()).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::ino(&after), before);
    assert!(after.modified().unwrap() > long_ago + Duration::from_mins(30));
    place.add(&[2, 1, 3]);
    let after = fs::metadata(place.path()).unwrap();
    assert_ne!(std::os::unix::fs::MetadataExt::ino(&after), before);
}

#[test]
fn a_trace_is_of_one_workspace_origin_image_and_command() {
    let place = Place::new();
    place.add(&[1, 2]);
    let other_root = layer("sha256:aa", 8);
    let other_layer = layer("sha256:bb", 7);
    let (origin, command) = ("registry.test/acme", words("python3 app.py"));
    let of_command = TraceKey::of_command;
    let others = [
        of_command("registry.test/other", &[own_layer()], &command),
        of_command(origin, &[other_root], &command),
        of_command(origin, &[other_layer], &command),
        of_command(origin, &[own_layer(), own_layer()], &command),
        of_command(origin, &[own_layer()], &words("python3 app.py x")),
        of_command(origin, &[own_layer()], &["python3 app.py".to_owned()]),
        TraceKey::of_program(origin, &own_layer(), "python3"),
        TraceKey::of_program(origin, &own_layer(), "python3 app.py"),
    ];
    for other in others {
        assert!(place.store.trace("team", &other).is_empty(), "{other:?}");
    }
    for workspace in ["", "teams", "../team", "TEAM"] {
        assert!(
            place.store.trace(workspace, &key()).is_empty(),
            "{workspace}"
        );
    }
    assert_eq!(place.foretold(), [1, 2]);
}

#[test]
fn a_damaged_trace_is_none_and_is_made_again() {
    let place = Place::new();
    place.add(&[1, 2, 3]);
    let good = fs::read(place.path()).unwrap();
    let mut bad: Vec<Vec<u8>> = (0..good.len())
        .map(|length| good[..length].to_vec())
        .collect();
    for at in 0..good.len() {
        let mut flipped = good.clone();
        flipped[at] ^= 1;
        bad.push(flipped);
    }
    bad.push([&good[..], &[0]].concat());
    bad.push(vec![0; usize::try_from(format::MAX_BYTES).unwrap() + 1]);
    for bytes in bad {
        fs::write(place.path(), &bytes).unwrap();
        assert!(place.foretold().is_empty(), "{} bytes", bytes.len());
    }
    place.add(&[5]);
    assert_eq!(place.foretold(), [5]);
    fs::write(place.path(), &good).unwrap();
    assert_eq!(place.foretold(), [1, 2, 3]);
}

#[test]
fn numbers_that_lie_are_no_trace() {
    let sealed = |content: &[u8]| [content, &Sha256::digest(content)].concat();
    let head = |runs: u8| [b"HFTRACE\x01", &key().0[..], &[runs]].concat();
    let number = u32::to_le_bytes;
    let cases = [
        ("no runs", head(0), Some(0)),
        (
            "a run of nothing",
            [&head(1)[..], &number(0)].concat(),
            Some(1),
        ),
        ("more runs than are kept", head(6), None),
        (
            "touches that are not there",
            [&head(1)[..], &number(1)].concat(),
            None,
        ),
        (
            "touches beyond all measure",
            [&head(1)[..], &number(u32::MAX)].concat(),
            None,
        ),
        (
            "something after the end",
            [&head(0)[..], &[0]].concat(),
            None,
        ),
        (
            "another version",
            [b"HFTRACE\x02", &key().0[..], &[0]].concat(),
            None,
        ),
    ];
    for (name, content, expected) in cases {
        let found = format::decode(&key(), &sealed(&content));
        assert_eq!(found.map(|runs| runs.len()), expected, "{name}");
    }
    let longest = vec![run(&(0..16_384).collect::<Vec<_>>()); KEPT_RUNS];
    let bytes = format::encode(&key(), &longest);
    assert_eq!(bytes.len() as u64, format::MAX_BYTES);
    assert_eq!(format::decode(&key(), &bytes), Some(longest));
}

#[test]
fn what_is_no_file_is_no_trace_and_goes() {
    let place = Place::new();
    place.add(&[1]);
    let elsewhere = place.directory.path().join("elsewhere");
    fs::rename(place.path(), &elsewhere).unwrap();
    symlink(&elsewhere, place.path()).unwrap();
    assert!(place.foretold().is_empty(), "a link is not followed");
    place.add(&[2]);
    assert_eq!(place.foretold(), [2]);
    fs::remove_file(place.path()).unwrap();
    fs::create_dir(place.path()).unwrap();
    assert!(place.foretold().is_empty());
    place.add(&[3]);
    assert_eq!(place.foretold(), [3]);
    assert!(elsewhere.is_file());
}

#[test]
fn a_run_beyond_all_measure_is_cut() {
    let place = Place::new();
    place.add(&(0..20_000).collect::<Vec<_>>());
    assert_eq!(place.foretold().len(), MAX_TOUCHES);
}

#[test]
fn what_was_not_used_for_longest_goes_first() {
    let place = Place::new();
    place.add(&[1]);
    let directory = place.path().parent().unwrap().to_owned();
    let now = SystemTime::now();
    let make = |name: usize, age: u64, bytes: u64| {
        let file = File::create(directory.join(format!("{name:04}"))).unwrap();
        file.set_len(bytes).unwrap();
        file.set_modified(now - Duration::from_secs(age)).unwrap();
    };
    (0..MAX_FILES).for_each(|name| make(name, 10 + name as u64, 1));
    place.add(&[1, 2]);
    place.prune();
    assert_eq!(fs::read_dir(&directory).unwrap().count(), MAX_FILES);
    assert!(!directory.join(format!("{:04}", MAX_FILES - 1)).exists());
    make(0, 5000, 1);
    make(1, 4000, MAX_WORKSPACE_BYTES);
    place.add(&[1, 2, 3]);
    place.prune();
    assert!(directory.join("0002").exists());
    assert!(!directory.join("0000").exists() && !directory.join("0001").exists());
    assert_eq!(place.foretold(), [1, 2]);
}

#[test]
fn what_is_in_the_way_of_traces_fails_no_opening_and_goes() {
    let top = tempfile::tempdir().unwrap();
    let all = top.path().join("traces");
    fs::write(&all, "in the way").unwrap();
    let store = ImageStore::open(top.path()).unwrap();
    assert!(store.trace("team", &key()).is_empty());
    store.prune_traces("team").unwrap();
    store.add_trace("team", &key(), run(&[1])).unwrap();
    assert_eq!(spans(&store.trace("team", &key())), [1]);
    let of_workspace = store.trace_directory("team");
    fs::remove_dir_all(&of_workspace).unwrap();
    fs::write(&of_workspace, "in the way").unwrap();
    store.add_trace("team", &key(), run(&[2])).unwrap();
    assert_eq!(spans(&store.trace("team", &key())), [2]);
}
