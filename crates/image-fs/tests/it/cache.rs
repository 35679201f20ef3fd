//! The cache's life on disk: who may have what, what goes when, and what a crash leaves.

use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use image_fs::{CacheError, CacheLimits, LayerCache, PruneReport, SpanCache, StoreError};
use layer_index::LayerIndex;

use crate::layers::{Shape, TestLayer, layer, open_layers};

const SPAN: usize = 64 * 1024;
const ORIGIN: &str = "registry.example/acme/fn";

fn cache_at(path: &Path) -> SpanCache {
    SpanCache::open(path, CacheLimits::default()).unwrap()
}

/// The decoded bytes of span `number`; layers of these tests are not compressed.
fn span(layer: &TestLayer, number: usize) -> &[u8] {
    let span = &layer.index.spans()[number];
    let start = usize::try_from(span.uncompressed_offset).unwrap();
    &layer.compressed[start..start + span.length as usize]
}

/// The layer as one process opens it.
fn origin_layer(
    cache: &SpanCache,
    origin: &str,
    index: &LayerIndex,
) -> Result<LayerCache, CacheError> {
    Ok(open_layers(cache, origin, std::slice::from_ref(index))?.remove(0))
}

fn fill(cache: &SpanCache, origin: &str, layer: &TestLayer) {
    let open = origin_layer(cache, origin, &layer.index).unwrap();
    for number in 0..layer.index.spans().len() {
        open.store(number, span(layer, number)).unwrap();
    }
}

#[test]
fn spans_are_there_for_the_next_process_after_a_look() {
    let directory = tempfile::tempdir().unwrap();
    let layer = layer(&Shape::default(), &[4 * SPAN]);
    let cache = cache_at(directory.path());
    let first = origin_layer(&cache, ORIGIN, &layer.index).unwrap();
    assert!(!first.is_verified(2) && !first.verify(2));
    first.store(2, span(&layer, 2)).unwrap();
    assert!(first.is_verified(2));
    let second = origin_layer(&cache_at(directory.path()), ORIGIN, &layer.index).unwrap();
    assert!(second.is_claimed(2) && !second.is_verified(2));
    assert!(second.verify(2) && second.is_verified(2));
    let mut bytes = vec![0; SPAN];
    assert!(second.read_at(&mut bytes, 2 * SPAN as u64));
    assert_eq!(bytes, span(&layer, 2));
    // What one process writes, another one finds that was there before.
    second.store(3, span(&layer, 3)).unwrap();
    assert!(!first.is_verified(3) && first.is_claimed(3) && first.verify(3));
}

#[test]
fn what_does_not_fit_the_index_is_not_kept() {
    let directory = tempfile::tempdir().unwrap();
    let layer = layer(&Shape::default(), &[2 * SPAN]);
    let open = origin_layer(&cache_at(directory.path()), ORIGIN, &layer.index).unwrap();
    assert!(matches!(
        open.store(0, b"short"),
        Err(StoreError::Length { .. })
    ));
    assert!(matches!(
        open.store(99, span(&layer, 0)),
        Err(StoreError::Length { .. })
    ));
    assert!(!open.verify(0) && !open.verify(99) && !open.is_verified(99));
    open.distrust(99);
}

#[test]
fn origins_do_not_share() {
    let directory = tempfile::tempdir().unwrap();
    let layer = layer(&Shape::default(), &[SPAN]);
    let cache = cache_at(directory.path());
    fill(&cache, ORIGIN, &layer);
    let other = origin_layer(&cache, "registry.example/other/fn", &layer.index).unwrap();
    assert!(!other.verify(0));
    let mut found: Vec<_> = cache
        .du()
        .unwrap()
        .into_iter()
        .map(|usage| (usage.origin, usage.in_use))
        .collect();
    found.sort();
    let expected = [
        (ORIGIN.to_owned(), false),
        ("registry.example/other/fn".to_owned(), true),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_damaged_map_starts_empty() {
    let directory = tempfile::tempdir().unwrap();
    let layer = layer(&Shape::default(), &[SPAN]);
    let cache = cache_at(directory.path());
    fill(&cache, ORIGIN, &layer);
    let map = walk(directory.path())
        .into_iter()
        .find(|path| path.contains("/map-"))
        .unwrap();
    for damage in [&b""[..], b"HFSPANS\x02", &[1; 500]] {
        std::fs::write(&map, damage).unwrap();
        let open = origin_layer(&cache, ORIGIN, &layer.index).unwrap();
        assert_eq!(open.present_spans(), 0);
        open.store(0, span(&layer, 0)).unwrap();
        assert_eq!(
            origin_layer(&cache, ORIGIN, &layer.index)
                .unwrap()
                .present_spans(),
            1
        );
    }
}

/// Puts something else in a file's or directory's place.
type Replace = fn(&Path);

const REPLACEMENTS: [Replace; 3] = [
    |path| std::fs::create_dir_all(path.join("inside")).unwrap(),
    |path| std::os::unix::fs::symlink("/nowhere/at/all", path).unwrap(),
    |path| {
        rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RWXU).unwrap();
    },
];

/// None of them may make an opener wait: a pipe that nobody writes to would.
#[test]
fn what_is_no_file_goes_and_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let layer = layer(&Shape::default(), &[SPAN]);
    let cache = cache_at(directory.path());
    fill(&cache, ORIGIN, &layer);
    let files = walk(directory.path());
    let files = files.into_iter().filter(|path| Path::new(path).is_file());
    let files: Vec<_> = files.collect();
    assert_eq!(files.len(), 5, "lock, about, use, data, map: {files:?}");
    for path in files.iter().map(Path::new) {
        for replace in REPLACEMENTS {
            std::fs::remove_file(path).unwrap();
            replace(path);
            let cache = cache_at(directory.path());
            let summary = layer.index.summary();
            cache.present_spans(ORIGIN, &summary).unwrap();
            cache.used(ORIGIN, &summary);
            assert_eq!(cache.du().unwrap().len(), 1);
            fill(&cache, ORIGIN, &layer);
            let open = origin_layer(&cache, ORIGIN, &layer.index).unwrap();
            assert!(open.verify(0), "{}", path.display());
            assert!(path.is_file(), "{}", path.display());
        }
    }
}

#[test]
fn what_is_no_directory_goes_and_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let layer = layer(&Shape::default(), &[SPAN]);
    for name in ["layers", "incoming", "trash"] {
        for replace in &REPLACEMENTS[1..] {
            let cache = cache_at(directory.path());
            fill(&cache, ORIGIN, &layer);
            std::fs::remove_dir_all(directory.path().join(name)).unwrap();
            replace(&directory.path().join(name));
            let cache = cache_at(directory.path());
            fill(&cache, ORIGIN, &layer);
            let incoming = cache.incoming().unwrap();
            incoming.file().write_all_at(&layer.compressed, 0).unwrap();
            let summary = layer.index.summary();
            cache.adopt(ORIGIN, &summary, incoming).unwrap();
            assert_eq!(cache.prune(0).unwrap().layers, 1, "{name}");
        }
    }
}

#[test]
fn strange_things_where_half_made_files_are_kept_are_swept() {
    let directory = tempfile::tempdir().unwrap();
    drop(cache_at(directory.path()));
    for name in ["incoming", "trash"] {
        for replace in REPLACEMENTS {
            let path = directory.path().join(name).join("strange");
            replace(&path);
            drop(cache_at(directory.path()));
            assert!(path.symlink_metadata().is_err(), "{name}");
        }
    }
}

fn walk(path: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        }
        found.push(path.to_str().unwrap().to_owned());
    }
    found
}

#[test]
fn decoded_private_layers_are_for_their_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let layer = layer(&Shape::default(), &[SPAN]);
    let cache = cache_at(directory.path());
    fill(&cache, ORIGIN, &layer);
    let _incoming = cache.incoming().unwrap();
    for path in walk(directory.path()) {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        let owner_only = mode.trailing_zeros() >= 6;
        assert!(owner_only, "{path} has mode {mode:o}");
    }
}

#[test]
fn a_whole_layer_is_adopted() {
    let directory = tempfile::tempdir().unwrap();
    let layer = layer(&Shape::default(), &[5 * SPAN + 3]);
    let cache = cache_at(directory.path());
    let incoming = cache.incoming().unwrap();
    incoming.file().write_all_at(&layer.compressed, 0).unwrap();
    cache
        .adopt(ORIGIN, &layer.index.summary(), incoming)
        .unwrap();
    let open = origin_layer(&cache, ORIGIN, &layer.index).unwrap();
    assert_eq!(open.present_spans(), layer.index.spans().len());
    assert!((0..layer.index.spans().len()).all(|span| open.verify(span)));
    assert!(
        std::fs::read_dir(directory.path().join("incoming"))
            .unwrap()
            .next()
            .is_none()
    );
}

#[test]
fn a_layer_that_is_adopted_while_in_use_harms_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let layer = layer(&Shape::default(), &[3 * SPAN]);
    let cache = cache_at(directory.path());
    let live = origin_layer(&cache, ORIGIN, &layer.index).unwrap();
    live.store(0, span(&layer, 0)).unwrap();
    let incoming = cache.incoming().unwrap();
    incoming.file().write_all_at(&layer.compressed, 0).unwrap();
    cache
        .adopt(ORIGIN, &layer.index.summary(), incoming)
        .unwrap();
    let mut bytes = vec![0; SPAN];
    assert!(live.verify(0) && live.read_at(&mut bytes, 0) && bytes == span(&layer, 0));
    // The map claims what its own old file does not have: the digest decides.
    assert!(!live.verify(1));
    live.store(1, span(&layer, 1)).unwrap();
    assert!(live.verify(1));
}

#[test]
fn a_layer_of_the_wrong_length_is_not_adopted() {
    let directory = tempfile::tempdir().unwrap();
    let layer = layer(&Shape::default(), &[SPAN]);
    let cache = cache_at(directory.path());
    let incoming = cache.incoming().unwrap();
    incoming.file().write_all_at(b"not all of it", 0).unwrap();
    let error = cache
        .adopt(ORIGIN, &layer.index.summary(), incoming)
        .unwrap_err();
    assert!(
        matches!(error, CacheError::Length { found: 13, .. }),
        "{error}"
    );
    assert_eq!(
        origin_layer(&cache, ORIGIN, &layer.index)
            .unwrap()
            .present_spans(),
        0
    );
}

#[test]
fn what_a_crash_left_is_swept_and_what_is_alive_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let cache = cache_at(directory.path());
    let alive = cache.incoming().unwrap();
    std::fs::write(directory.path().join("incoming/dead"), b"x").unwrap();
    std::fs::create_dir_all(directory.path().join("trash/dead/deeper")).unwrap();
    let _other = cache_at(directory.path());
    let left = walk(&directory.path().join("incoming"));
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(walk(&directory.path().join("trash")).is_empty());
    drop(alive);
    assert!(walk(&directory.path().join("incoming")).is_empty());
}

#[test]
fn pruning_takes_the_longest_unused_and_never_what_is_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let layers: Vec<_> = (1..5)
        .map(|extra| layer(&Shape::default(), &[4 * SPAN, extra]))
        .collect();
    let cache = cache_at(directory.path());
    for layer in &layers {
        fill(&cache, ORIGIN, layer);
    }
    let live = origin_layer(&cache_at(directory.path()), ORIGIN, &layers[1].index).unwrap();
    let usages = cache.du().unwrap();
    let order: Vec<_> = usages.iter().map(|usage| usage.layer.clone()).collect();
    let digest = |number: usize| layers[number].index.header().layer_digest.clone();
    assert_eq!(order, [digest(0), digest(2), digest(3), digest(1)]);
    let one = usages[0].bytes;
    assert!(one >= 4 * SPAN as u64);
    let total: u64 = usages.iter().map(|usage| usage.bytes).sum();
    assert_eq!(cache.prune(total).unwrap(), PruneReport::default());
    assert_eq!(
        cache.prune(total - 1).unwrap(),
        PruneReport {
            layers: 1,
            bytes: one
        }
    );
    assert_eq!(cache.prune(0).unwrap().layers, 2);
    let left: Vec<_> = cache
        .du()
        .unwrap()
        .into_iter()
        .map(|usage| usage.layer)
        .collect();
    assert_eq!(left, [digest(1)]);
    assert!(live.verify(0));
    drop(live);
    assert_eq!(cache.prune(0).unwrap().layers, 1);
    assert!(walk(&directory.path().join("layers")).is_empty());
}

#[test]
fn a_layer_that_is_unlinked_stays_readable_to_who_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let layer = layer(&Shape::default(), &[4 * SPAN]);
    let cache = cache_at(directory.path());
    fill(&cache, ORIGIN, &layer);
    let live = origin_layer(&cache, ORIGIN, &layer.index).unwrap();
    std::fs::remove_dir_all(directory.path().join("layers")).unwrap();
    assert!((0..4).all(|number| live.verify(number)));
    live.store(4, span(&layer, 4)).unwrap();
}

#[test]
fn a_full_cache_evicts_and_then_keeps_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let layers: Vec<_> = (1..4)
        .map(|extra| layer(&Shape::default(), &[8 * SPAN, extra]))
        .collect();
    let limits = CacheLimits {
        max_bytes: 12 * SPAN as u64,
    };
    let open = || SpanCache::open(directory.path(), limits).unwrap();
    fill(&open(), ORIGIN, &layers[0]);
    // The first layer is not in use: it goes.
    let cache = open();
    let live = origin_layer(&cache, ORIGIN, &layers[1].index).unwrap();
    (0..8).for_each(|number| live.store(number, span(&layers[1], number)).unwrap());
    let left: Vec<_> = cache
        .du()
        .unwrap()
        .into_iter()
        .map(|usage| usage.layer)
        .collect();
    assert_eq!(left, [layers[1].index.header().layer_digest.clone()]);
    // The second is in use: it stays, and the third is cut off.
    let third = origin_layer(&cache, ORIGIN, &layers[2].index).unwrap();
    let results: Vec<_> = (0..8)
        .map(|number| third.store(number, span(&layers[2], number)))
        .collect();
    assert!(
        results
            .iter()
            .any(|result| matches!(result, Err(StoreError::Limit))),
        "{results:?}"
    );
    let total: u64 = cache.du().unwrap().iter().map(|usage| usage.bytes).sum();
    assert!(total <= limits.max_bytes + 2 * SPAN as u64, "{total} bytes");
    assert!((0..8).all(|number| live.verify(number)));
}
