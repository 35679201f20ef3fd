//! Whole files for the kernel to read: counted with the cache, and gone with their owner.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use image_fs::{CacheLimits, Room, SpanCache};

const MIB: u64 = 1 << 20;

fn cache_at(path: &Path, max_bytes: u64) -> SpanCache {
    SpanCache::open(path, CacheLimits { max_bytes }).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory.join("backing")).unwrap();
    let name = |entry: std::fs::DirEntry| entry.file_name().into_string().unwrap();
    entries.map(|entry| name(entry.unwrap())).collect()
}

#[test]
fn a_backing_file_is_zeros_and_goes_with_its_owner() {
    let directory = tempfile::tempdir().unwrap();
    let cache = cache_at(directory.path(), u64::MAX);
    let backing = cache.backing_file(3 * MIB + 5).unwrap().unwrap();
    let mut bytes = Vec::new();
    backing.file().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, vec![0; 3 * 1024 * 1024 + 5]);
    let found = backing.file().metadata().unwrap();
    assert_eq!(
        (backing.bytes(), found.mode() & 0o777),
        (3 * MIB + 5, 0o600)
    );
    assert!(found.blocks() * 512 >= 3 * MIB);
    std::fs::write(directory.path().join("backing/dead"), b"x").unwrap();
    let _other = cache_at(directory.path(), u64::MAX);
    let left = names(directory.path());
    assert_eq!(left.len(), 1, "{left:?}");
    drop(backing);
    assert!(names(directory.path()).is_empty());
}

#[test]
fn backing_files_are_within_the_limit_of_the_cache() {
    let directory = tempfile::tempdir().unwrap();
    let cache = cache_at(directory.path(), 12 * MIB);
    let first = cache.backing_file(6 * MIB).unwrap().unwrap();
    let other = cache_at(directory.path(), 12 * MIB);
    assert!(
        other.backing_file(1).unwrap().is_none(),
        "half is for layers"
    );
    assert!(other.backing_file(6 * MIB).unwrap().is_none());
    let small = cache_at(directory.path(), 5 * MIB);
    assert!(other.is_within_limit() && !small.is_within_limit());
    drop(first);
    assert!(small.is_within_limit());
    assert!(other.backing_file(6 * MIB).unwrap().is_some());
    let unlimited = cache_at(directory.path(), u64::MAX);
    for too_much in [1 << 50, u64::MAX] {
        assert!(unlimited.backing_file(too_much).unwrap().is_none());
    }
}
