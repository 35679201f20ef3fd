//! What nobody has read comes while nobody reads, in nobody's way. The clock stands still until
//! nothing is left to do, so that sleeping is waiting for that.

use std::sync::Arc;
use std::time::Duration;

use image_fs::{BlobError, CacheLimits, FsOptions, SpanCache};

use crate::faults::{kinds, listening};
use crate::layers::{Shape, TestLayer, layer};
use crate::reads::{Image, open};
use crate::source::{Fault, MemorySource};

const SPAN: usize = 64 * 1024;

/// Files of ten spans each.
const FILE: usize = 10 * SPAN - 512;

/// As long as a start is recorded.
const START: Duration = Duration::from_secs(30);

/// After so long without a read it begins.
const IDLE: Duration = Duration::from_secs(5);

const MOMENT: Duration = Duration::from_millis(100);

fn files() -> TestLayer {
    layer(&Shape::default(), &[FILE; 100])
}

fn filling() -> FsOptions {
    FsOptions {
        fill_after: Some(START),
        ..FsOptions::default()
    }
}

/// An image whose start is over: the next moment of quiet is its first.
async fn begun() -> Image {
    let image = Image::open_with(files(), filling());
    tokio::time::sleep(START).await;
    image
}

#[tokio::test(start_paused = true)]
async fn what_nobody_reads_comes_once_the_start_is_over() {
    let image = Image::open_with(files(), filling());
    image.check(50).await;
    let start = image.fs.stats();
    tokio::time::sleep((START + IDLE).saturating_sub(MOMENT)).await;
    assert_eq!(image.fs.stats(), start, "nothing in its first half minute");
    tokio::time::sleep(MOMENT * 2).await;
    assert_eq!(image.fs.spans_present(), (1000, 1000));
    let stats = image.fs.stats();
    assert_eq!(stats.bytes_fetched, stats.bytes_total, "each byte once");
    assert_eq!(stats.bytes_filled, stats.bytes_total - start.bytes_fetched);
    assert_eq!(
        stats.spans_filled,
        stats.spans_decoded - start.spans_decoded
    );
    assert_eq!((stats.bytes_prefetched, stats.reads), (0, start.reads));
    assert_eq!(image.fs.trace().len(), 10, "the start's own");
    let asked = image.source.request_count();
    for file in 0..100 {
        image.check(file).await;
    }
    assert_eq!(image.source.request_count(), asked);
}

#[tokio::test(start_paused = true)]
async fn it_is_one_request_at_a_time_and_none_where_nobody_wants_it() {
    let image = begun().await;
    image.source.hold();
    tokio::time::sleep(IDLE * 2).await;
    assert_eq!(image.source.request_count(), 1);
    image.source.let_go(1);
    tokio::time::sleep(MOMENT).await;
    assert_eq!(image.source.request_count(), 2);

    let image = Image::open(files());
    tokio::time::sleep(START + IDLE * 2).await;
    assert_eq!(image.source.request_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reader_has_it_give_way_at_once_and_for_a_while() {
    let image = begun().await;
    image.source.fail_with([Fault::Hang]);
    tokio::time::sleep(IDLE + MOMENT).await;
    assert_eq!(image.source.request_count(), 1);
    image.check(90).await;
    let asked = image.source.request_count();
    assert!(asked > 1, "the read found no connection");
    tokio::time::sleep(IDLE.saturating_sub(MOMENT * 2)).await;
    assert_eq!(
        image.source.request_count(),
        asked,
        "somebody has just read"
    );
    assert_eq!(image.fs.stats().bytes_filled, 0);
    tokio::time::sleep(IDLE * 2).await;
    // What had been given up is asked for again.
    assert_eq!(image.fs.spans_present(), (1000, 1000));
    let first = image.source.requests.lock().unwrap()[0].clone();
    assert_eq!(image.source.requests.lock().unwrap()[asked], first);
}

#[tokio::test(start_paused = true)]
async fn a_reader_who_wants_what_is_under_way_waits_for_that() {
    let image = begun().await;
    image.source.hold();
    tokio::time::sleep(IDLE + MOMENT).await;
    let (fs, inode) = (Arc::clone(&image.fs), image.inode(0));
    let reader = tokio::spawn(async move { fs.read(inode, 0, 100).await });
    tokio::time::sleep(MOMENT).await;
    assert_eq!(image.source.request_count(), 1);
    // And another one, who wants something else, does not end it.
    let (fs, inode) = (Arc::clone(&image.fs), image.inode(90));
    let other = tokio::spawn(async move { fs.read(inode, 0, 100).await });
    tokio::time::sleep(MOMENT).await;
    assert_eq!(image.source.request_count(), 2);
    image.source.let_go(2);
    assert_eq!(reader.await.unwrap().unwrap(), image.content(0)[..100]);
    other.await.unwrap().unwrap();
    image.source.let_go(1000);
    tokio::time::sleep(IDLE * 2).await;
    let stats = image.fs.stats();
    assert_eq!(stats.bytes_fetched, stats.bytes_total, "each byte once");
}

/// The image of another process that shares the cache.
async fn limited(limit: u64, other: &TestLayer) -> (Arc<image_fs::ImageFs>, SpanCache, u64) {
    let directory = tempfile::tempdir().unwrap().keep();
    let cache = SpanCache::open(&directory, CacheLimits { max_bytes: limit }).unwrap();
    let source = MemorySource::new(std::slice::from_ref(other));
    let fs = open(other, &cache, &source, FsOptions::default());
    let inode = fs.tree().lookup(fs.tree().root(), b"file-0").unwrap();
    fs.read(inode, 0, usize::MAX).await.unwrap();
    drop(fs);
    let before = cache.du().unwrap().iter().map(|usage| usage.bytes).sum();
    let layer = files();
    let source = MemorySource::new(std::slice::from_ref(&layer));
    (open(&layer, &cache, &source, filling()), cache, before)
}

#[tokio::test(start_paused = true)]
async fn nothing_is_evicted_for_it() {
    let other = layer(&Shape::default(), &[20 * SPAN + 7]);
    for (limit_spans, expected) in [(1200, 1000), (1000, 0)] {
        let limit = limit_spans * SPAN as u64;
        let (fs, cache, before) = limited(limit, &other).await;
        tokio::time::sleep(START + IDLE * 2).await;
        assert_eq!(fs.spans_present().1, expected, "{limit_spans}");
        let usage = cache.du().unwrap();
        assert_eq!(usage.len(), 2, "the other image is there");
        let bytes: u64 = usage.iter().map(|usage| usage.bytes).sum();
        assert!(bytes >= before && bytes <= limit / 10 * 9, "{bytes} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fill_that_fails_costs_nobody_anything() {
    let message = || "no".to_owned();
    let retry_after = None;
    for (failure, goes_on) in [
        (
            BlobError::Transient {
                message: message(),
                retry_after,
            },
            true,
        ),
        (BlobError::Denied { message: message() }, true),
        (BlobError::Missing { message: message() }, false),
        (BlobError::Final { message: message() }, false),
    ] {
        let (options, heard) = listening(Duration::from_mins(2));
        let fill_after = Some(START);
        let image = Image::open_with(
            files(),
            FsOptions {
                fill_after,
                ..options
            },
        );
        image.source.always(Some(Fault::Error(failure.clone())));
        tokio::time::sleep(START + IDLE * 20).await;
        assert_eq!(image.source.request_count(), 1, "{failure:?}");
        image.source.always(None);
        image.check(99).await;
        tokio::time::sleep(IDLE * 3).await;
        let is_whole = image.fs.spans_present().1 == 1000;
        assert_eq!(is_whole, goes_on, "{failure:?}");
        assert_eq!(kinds(&heard), [], "{failure:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_the_filesystem() {
    let image = begun().await;
    image.source.hold();
    tokio::time::sleep(IDLE + MOMENT).await;
    assert_eq!(image.source.request_count(), 1);
    let Image { fs, source, .. } = image;
    drop(fs);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(Arc::strong_count(&source), 1, "a flight outlives it");
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_can_be_entered_nowhere_is_filled_in_one_go() {
    let shape = Shape {
        codec: layer_index::Codec::Zstd,
        ..Shape::default()
    };
    let image = Image::open_with(layer(&shape, &[200 * SPAN]), filling());
    tokio::time::sleep(START + IDLE * 2).await;
    let (spans, present) = image.fs.spans_present();
    assert_eq!(spans, present);
    let stats = image.fs.stats();
    assert_eq!(stats.bytes_fetched, stats.bytes_total, "each byte once");
    image.check(0).await;
}

#[tokio::test(start_paused = true)]
async fn an_image_is_brought_whole_for_who_waits_for_it() {
    let shapes = [
        (Shape::default(), 100),
        (
            Shape {
                codec: layer_index::Codec::Zstd,
                ..Shape::default()
            },
            100,
        ),
    ];
    for (shape, files) in shapes {
        let image = Image::open(layer(&shape, &vec![FILE; files]));
        image.check(3).await;
        // What the source does wrong once is asked for again.
        image.source.fail_with([Fault::Flip(7), Fault::Short]);
        image.fs.bring_whole().await.unwrap();
        let (spans, present) = image.fs.spans_present();
        assert_eq!(spans, present);
        assert_eq!(image.fs.stats().bytes_filled, 0);
        let asked = image.source.request_count();
        for file in 0..files {
            image.check(file).await;
        }
        image.fs.bring_whole().await.unwrap();
        assert_eq!(image.source.request_count(), asked);
    }
}

#[tokio::test(start_paused = true)]
async fn why_an_image_is_not_whole_is_said() {
    let message = || "no".to_owned();
    for (failure, expected) in [
        (BlobError::Final { message: message() }, "cannot be read"),
        (BlobError::Denied { message: message() }, "in time"),
    ] {
        let image = Image::open(files());
        image.check(3).await;
        image.source.always(Some(Fault::Error(failure)));
        let error = image.fs.bring_whole().await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let layer = files();
    let directory = tempfile::tempdir().unwrap();
    let limits = CacheLimits {
        max_bytes: 400 * SPAN as u64,
    };
    let cache = SpanCache::open(directory.path(), limits).unwrap();
    let source = MemorySource::new(std::slice::from_ref(&layer));
    let fs = open(&layer, &cache, &source, FsOptions::default());
    let error = fs.bring_whole().await.unwrap_err();
    assert_eq!(error, image_fs::WholeError::NoRoom);
}
