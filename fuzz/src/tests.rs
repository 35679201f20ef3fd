//! Replays each target's corpus and then mutates it for a moment, on stable and without libFuzzer.
//!
//! The inputs follow from the seed: `FUZZ_SEED=… cargo test -p fuzz` runs the same ones again.

mod dictionary;
mod mutator;

use std::collections::BTreeSet;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use self::mutator::Mutator;
use super::{TARGETS, Target};

/// Longest input made here; longer ones are libFuzzer's, which has the time.
const INPUT_MAX_BYTES: usize = 16 << 10;

/// The tests take turns, so that the slowest decides how long they take and not their number.
#[test]
fn challenge_holds() {
    exercise("challenge", 60_000);
}

#[test]
fn credential_holds() {
    exercise("credential", 60_000);
}

#[test]
fn docker_config_holds() {
    exercise("docker-config", 60_000);
}

#[test]
fn elf_holds() {
    exercise("elf", 60_000);
}

#[test]
fn index_holds() {
    exercise("index", 15_000);
}

#[test]
fn layer_holds() {
    exercise("layer", 2_000);
}

#[test]
fn manifest_holds() {
    exercise("manifest", 60_000);
}

#[test]
fn reference_holds() {
    exercise("reference", 60_000);
}

#[test]
fn resume_holds() {
    exercise("resume", 3_000);
}

#[test]
fn shared_object_holds() {
    exercise("shared-object", 2_000);
}

#[test]
fn token_reply_holds() {
    exercise("token-reply", 60_000);
}

#[test]
fn zstd_blocks_holds() {
    exercise("zstd-blocks", 3_000);
}

/// After a change of the format the corpus would end at the version, and find nothing.
#[test]
fn the_corpus_of_indexes_is_of_this_format() {
    let inputs = corpus("index");
    let opened = inputs
        .iter()
        .filter(|(_, input)| !super::index::open(input).is_empty());
    assert!(opened.count() > inputs.len() / 2);
}

#[test]
fn every_target_has_a_corpus() {
    let listed = std::fs::read_dir(folder("corpus")).expect("a corpus folder");
    let listed: BTreeSet<String> = listed
        .map(|entry| {
            entry
                .expect("lists")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    let expected: BTreeSet<String> = TARGETS
        .iter()
        .map(|target| target.name.to_owned())
        .collect();
    assert_eq!(listed, expected);
}

fn exercise(name: &str, mutations: u64) {
    let target = TARGETS
        .iter()
        .find(|target| target.name == name)
        .expect("a target");
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "no corpus for {name}");
    for (path, input) in &corpus {
        let replayed = catch_unwind(|| (target.check)(input));
        assert!(replayed.is_ok(), "{} breaks {name}", path.display());
    }
    let seed = seed();
    println!("{name}: seed {seed}");
    let inputs = corpus.into_iter().map(|(_, input)| input).collect();
    let words = dictionary::read(&folder("dictionaries").join(format!("{name}.dict")));
    let mut mutator = Mutator::new(seed, inputs, words, INPUT_MAX_BYTES);
    for number in 0..mutations {
        let input = mutator.next_input();
        if catch_unwind(|| (target.check)(&input)).is_err() {
            let kept = keep(target, seed, &input);
            panic!(
                "FUZZ_SEED={seed}, input {number} breaks {name}: {}",
                kept.display()
            );
        }
    }
}

/// Sorted by name, so that a seed means the same everywhere.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let listed = std::fs::read_dir(folder("corpus").join(name)).expect("a corpus");
    let mut paths: Vec<PathBuf> = listed.map(|entry| entry.expect("lists").path()).collect();
    paths.sort();
    let read = |path: PathBuf| (path.clone(), std::fs::read(path).expect("reads"));
    paths.into_iter().map(read).collect()
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn seed() -> u64 {
    if let Ok(text) = std::env::var("FUZZ_SEED") {
        return text.parse().expect("FUZZ_SEED is a number");
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    u64::from(now.subsec_nanos()) ^ (now.as_secs() << 20)
}

/// Writes an input that broke a target where `cargo xtask fuzz` keeps its own.
fn keep(target: &Target, seed: u64, input: &[u8]) -> PathBuf {
    let folder = folder("../target/fuzz/findings").join(target.name);
    std::fs::create_dir_all(&folder).expect("a folder below target");
    let path = folder.join(format!("test-{seed}"));
    std::fs::write(&path, input).expect("a file below target");
    path
}
