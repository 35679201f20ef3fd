//! Pins: what is kept whatever else needs room, and for how long.

use std::path::Path;
use std::time::{Duration, SystemTime};

use image_fs::{CacheError, CacheLimits, Pin, PinPlan, SpanCache};

use crate::layers::{Shape, TestLayer, layer, open_layers};

const SPAN: usize = 64 * 1024;
const ORIGIN: &str = "registry.example/acme/fn";
const OWNER: &str = "ws_one";

fn cache_of(path: &Path, max_bytes: u64) -> SpanCache {
    SpanCache::open(path, CacheLimits { max_bytes }).unwrap()
}

fn fill(cache: &SpanCache, layer: &TestLayer) {
    let open = open_layers(cache, ORIGIN, std::slice::from_ref(&layer.index)).unwrap();
    for (number, span) in layer.index.spans().iter().enumerate() {
        let start = usize::try_from(span.uncompressed_offset).unwrap();
        let bytes = &layer.compressed[start..start + span.length as usize];
        open[0].store(number, bytes).unwrap();
    }
}

fn digest(layer: &TestLayer) -> String {
    layer.index.header().layer_digest.clone()
}

fn pin(name: &str, layers: &[&TestLayer]) -> Pin {
    Pin {
        owner: OWNER.to_owned(),
        name: name.to_owned(),
        manifest_digest: format!("sha256:{}", "0".repeat(64)),
        origin: ORIGIN.to_owned(),
        layers: layers.iter().map(|layer| digest(layer)).collect(),
        pinned_at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
    }
}

/// Layers of different digests, all in the cache, the first used longest ago.
fn three(cache: &SpanCache) -> [TestLayer; 3] {
    let layers = [1, 2, 3].map(|extra| layer(&Shape::default(), &[4 * SPAN, extra]));
    for layer in &layers {
        fill(cache, layer);
    }
    layers
}

fn left(cache: &SpanCache) -> Vec<String> {
    let usages = cache.du().unwrap();
    usages.into_iter().map(|usage| usage.layer).collect()
}

#[test]
fn what_is_pinned_is_not_evicted_until_it_is_unpinned() {
    let directory = tempfile::tempdir().unwrap();
    let cache = cache_of(directory.path(), u64::MAX);
    let layers = three(&cache);
    let pinned = pin("r/a:1", &[&layers[0], &layers[1]]);
    cache.pin(&pinned).unwrap();
    // As another process sees it.
    let cache = cache_of(directory.path(), u64::MAX);
    assert_eq!(cache.pins().unwrap(), [pinned]);
    let flags: Vec<_> = cache
        .du()
        .unwrap()
        .iter()
        .map(|usage| usage.pinned)
        .collect();
    assert_eq!(flags, [true, true, false]);
    assert_eq!(cache.prune(0).unwrap().layers, 1);
    assert_eq!(left(&cache), [digest(&layers[0]), digest(&layers[1])]);
    assert!(!cache.unpin("ws_other", "r/a:1").unwrap());
    assert!(!cache.unpin(OWNER, "r/a:2").unwrap());
    assert!(cache.unpin(OWNER, "r/a:1").unwrap());
    assert!(!cache.unpin(OWNER, "r/a:1").unwrap());
    assert_eq!(cache.prune(0).unwrap().layers, 2);
}

#[test]
fn a_layer_is_kept_for_as_long_as_one_of_its_pins() {
    let directory = tempfile::tempdir().unwrap();
    let cache = cache_of(directory.path(), u64::MAX);
    let [first, second, third] = three(&cache);
    cache.pin(&pin("r/a:1", &[&first, &second])).unwrap();
    cache.pin(&pin("r/a:2", &[&second, &third])).unwrap();
    assert_eq!(cache.prune(0).unwrap().layers, 0);
    // The name means another image now: what it meant before is not kept for it.
    cache.pin(&pin("r/a:1", &[&third])).unwrap();
    assert_eq!(cache.prune(0).unwrap().layers, 1);
    cache.unpin(OWNER, "r/a:2").unwrap();
    assert_eq!(cache.prune(0).unwrap().layers, 1);
    assert_eq!(left(&cache), [digest(&third)]);
}

#[test]
fn a_full_cache_evicts_around_what_is_pinned() {
    let directory = tempfile::tempdir().unwrap();
    let cache = cache_of(directory.path(), u64::MAX);
    let layers = three(&cache);
    cache.pin(&pin("r/a:1", &[&layers[0]])).unwrap();
    // Room for two of the three, of which the first is the oldest.
    let cache = cache_of(directory.path(), 10 * SPAN as u64);
    let more = layer(&Shape::default(), &[SPAN, 9]);
    fill(&cache, &more);
    assert_eq!(left(&cache)[0], digest(&layers[0]));
    assert!(left(&cache).len() < 4, "{:?}", left(&cache));
}

#[test]
fn pinned_layers_go_where_that_is_asked_for_and_their_pins_with_them() {
    let directory = tempfile::tempdir().unwrap();
    let cache = cache_of(directory.path(), u64::MAX);
    let [first, second, third] = three(&cache);
    cache.pin(&pin("r/a:1", &[&first, &second])).unwrap();
    cache.pin(&pin("r/a:2", &[&third])).unwrap();
    let usages = cache.du().unwrap();
    let keep = usages.iter().map(|usage| usage.bytes).sum::<u64>() - 1;
    assert_eq!(cache.prune_pinned_too(keep).unwrap().layers, 1);
    let names: Vec<_> = cache
        .pins()
        .unwrap()
        .into_iter()
        .map(|pin| pin.name)
        .collect();
    assert_eq!(names, ["r/a:2"], "half an image is not kept for its pin");
    assert_eq!(cache.prune(0).unwrap().layers, 1);
    assert_eq!(left(&cache), [digest(&third)]);
}

#[test]
fn what_does_not_fit_beside_other_pins_is_refused_with_numbers() {
    let directory = tempfile::tempdir().unwrap();
    let cache = cache_of(directory.path(), u64::MAX);
    let [first, second, third] = three(&cache);
    let one = cache.du().unwrap()[0].bytes;
    let cache = cache_of(directory.path(), one * 5 / 2);
    cache.pin(&pin("r/a:1", &[&first, &second])).unwrap();
    let refused = |error: CacheError| match error {
        CacheError::NoRoomForPin {
            needs_bytes,
            pinned_bytes,
            limit_bytes,
            ..
        } => (needs_bytes / one, pinned_bytes / one, limit_bytes),
        other => panic!("{other}"),
    };
    let expected = (1, 2, one * 5 / 2);
    let error = cache.pin(&pin("r/a:2", &[&second, &third])).unwrap_err();
    assert_eq!(
        refused(error),
        expected,
        "what is pinned already counts once"
    );
    assert_eq!(cache.pins().unwrap().len(), 1);
    let digests = [digest(&second), digest(&third)];
    let layers = [
        (&*digests[0], one),
        (&*digests[1], one),
        (&*digests[1], one),
    ];
    let plan = |name| PinPlan {
        owner: OWNER,
        name,
        origin: ORIGIN,
        layers: &layers,
    };
    let error = cache.check_room_for_pin(plan("r/a:2")).unwrap_err();
    assert_eq!(refused(error), expected);
    // In the place of the first there is room for both.
    cache.check_room_for_pin(plan("r/a:1")).unwrap();
    cache.pin(&pin("r/a:1", &[&second, &third])).unwrap();
}

#[test]
fn what_is_no_pin_keeps_nothing_and_holds_nobody_up() {
    let directory = tempfile::tempdir().unwrap();
    let cache = cache_of(directory.path(), u64::MAX);
    let [first, ..] = three(&cache);
    cache.pin(&pin("r/a:1", &[&first])).unwrap();
    let pins = directory.path().join("pins");
    let path = std::fs::read_dir(&pins)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let good = std::fs::read_to_string(&path).unwrap();
    let pipe = pins.join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
    std::fs::create_dir(pins.join("directory")).unwrap();
    std::fs::write(pins.join("long"), vec![b'x'; 1 << 20]).unwrap();
    std::fs::write(pins.join("binary"), [0xff; 64]).unwrap();
    for damage in [
        String::new(),
        good.replace("pin 1", "pin 2"),
        good.replace("1700000000", "soon"),
        good.replace("1700000000", "18446744073709551615"),
        good[..good.find(ORIGIN).unwrap()].to_owned(),
    ] {
        std::fs::write(&path, damage).unwrap();
        assert_eq!(cache.pins().unwrap(), []);
        assert_eq!(
            cache
                .du()
                .unwrap()
                .iter()
                .filter(|usage| usage.pinned)
                .count(),
            0
        );
    }
    assert_eq!(cache.prune(0).unwrap().layers, 3);
    for bad in [
        Pin {
            name: "two\nlines".to_owned(),
            ..pin("", &[])
        },
        Pin {
            layers: vec!["sha256:../../etc".to_owned()],
            ..pin("r/a:1", &[])
        },
        pin("r/a:1", &[&first]),
    ] {
        cache.pin(&bad).unwrap_err();
    }
}
