//! Random stacks of layers, mounted, are what the oracles make of them.
//!
//! `cargo xtask exact` sets how many and where to begin; a seed that fails is printed and makes
//! the same stack again.

use crate::compare::{Snapshot, differences, snapshot};
use crate::containerd::Containerd;
use crate::generator::{Dialect, stack};
use crate::oracle::Oracle;
use crate::support::{Published, blocking};

const STACKS: &str = "HOLDFAST_EXACT_STACKS";
const SEED: &str = "HOLDFAST_EXACT_SEED";

/// Stacks that each oracle is compared with in an ordinary run.
const ORDINARY: u64 = 200;

/// Stacks for which one containerd is used: it keeps all that it unpacked in memory.
const PER_CONTAINERD: u64 = 200;

/// What is refused although containerd unpacks it: what it makes of these depends on the order of
/// members, on the layer's place or on who unpacks.
const ONLY_REFUSED_HERE: [&str; 4] = [
    "a whiteout of a name that its own layer has",
    "an entry replaces a directory of its own layer",
    "an opaque directory with something in it that no entry names",
    LINKS,
];

/// What is refused because of a layer below, and where containerd ends elsewhere than tar.
const NOT_OF_TAR: [&str; 3] = [
    "a parent is not a directory",
    "too many symbolic links",
    LINKS,
];

/// What is refused because containerd and the kernel follow links differently.
const LINKS: &str = "symbolic links lead to different places for different readers";

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

/// The first seed and how many.
fn seeds(what: &str) -> (u64, u64) {
    let count = setting(STACKS).unwrap_or(ORDINARY);
    let first = setting(SEED).unwrap_or_else(|| fastrand::u64(..1 << 48));
    println!("{what}: {count} stacks from seed {first} ({SEED}={first})");
    (first, count)
}

/// The mounted tree of these layers, or why they are refused.
async fn mounted(archives: &[Vec<u8>]) -> Result<Snapshot, String> {
    let image = Published::try_new(archives).await?;
    let mounted = image.mount().await;
    let mountpoint = image.request.mountpoint.clone();
    let found = blocking(move || snapshot(&mountpoint).unwrap()).await;
    mounted.stop().await;
    Ok(found)
}

#[track_caller]
fn check(seed: u64, expected: &Snapshot, found: &Snapshot) {
    let differences = differences(expected, found);
    assert!(
        differences.is_empty(),
        "seed {seed}\n{}",
        differences.join("\n")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_stacks_are_what_tar_and_overlay_make_of_them() {
    let (first, count) = seeds("tar");
    let (mut compared, mut refused, mut seed) = (0, 0, first);
    while compared < count {
        let archives = stack(Dialect::Tar, seed);
        match mounted(&archives).await {
            Ok(found) => {
                let expected = blocking(move || Oracle::new(&archives).snapshot()).await;
                check(seed, &expected, &found);
                compared += 1;
            }
            Err(reason) => {
                let is_known = NOT_OF_TAR.iter().any(|known| reason.contains(known));
                assert!(is_known, "seed {seed}: {reason}");
                refused += 1;
                assert!(
                    refused <= 20 + compared / 2,
                    "{refused} refused, {compared} compared"
                );
            }
        }
        seed += 1;
    }
    println!("tar: {compared} compared, {refused} refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_stacks_are_what_containerd_makes_of_them() {
    let (first, count) = seeds("containerd");
    let (mut compared, mut refused, mut seed) = (0, 0, first);
    let mut containerd = None;
    while compared < count {
        if (seed - first).is_multiple_of(PER_CONTAINERD) {
            containerd = Some(Containerd::start());
        }
        let archives = stack(Dialect::Containerd, seed);
        let found = mounted(&archives).await;
        let mut unpacking = containerd.take().expect("started");
        let expected = blocking(move || {
            let expected = unpacking.unpack(&archives);
            (unpacking, expected)
        });
        let (unpacking, expected) = expected.await;
        containerd = Some(unpacking);
        match (expected, found) {
            (Ok(expected), Ok(found)) => {
                check(seed, &expected, &found);
                compared += 1;
            }
            (Err(_), Err(_)) => refused += 1,
            (Ok(_), Err(reason)) => {
                let is_known = ONLY_REFUSED_HERE.iter().any(|known| reason.contains(known));
                assert!(is_known, "seed {seed}: containerd unpacks this: {reason}");
                refused += 1;
            }
            (Err(reason), Ok(_)) => panic!("seed {seed}: containerd refuses this: {reason}"),
        }
        assert!(
            refused <= 20 + compared,
            "{refused} refused, {compared} compared"
        );
        seed += 1;
    }
    println!("containerd: {compared} compared, {refused} refused");
}
