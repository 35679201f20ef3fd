//! Reads give the files' bytes, from any place in any order, and cost what they should.

use std::sync::Arc;
use std::time::Duration;

use image_fs::{CacheLimits, FsOptions, ImageFs, ReadError, SpanCache, TraceEntry};
use layer_index::{Codec, InodeId};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::layers::{Shape, TestLayer, layer, one_frame_layer, open_layers, sparse_layer};
use crate::source::MemorySource;

/// An opened image, its source, and the directory that its cache is in.
pub(crate) struct Image {
    pub(crate) fs: Arc<ImageFs>,
    pub(crate) source: Arc<MemorySource>,
    pub(crate) layer: TestLayer,
    pub(crate) cache: SpanCache,
    pub(crate) directory: TempDir,
}

impl Image {
    pub(crate) fn open(layer: TestLayer) -> Self {
        Self::open_with(layer, FsOptions::default())
    }

    pub(crate) fn open_with(layer: TestLayer, options: FsOptions) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let cache = SpanCache::open(directory.path(), CacheLimits::default()).unwrap();
        let source = MemorySource::new(std::slice::from_ref(&layer));
        let fs = open(&layer, &cache, &source, options);
        Self {
            fs,
            source,
            layer,
            cache,
            directory,
        }
    }

    /// The same image again, as another process would open it.
    pub(crate) fn reopen(&self) -> Arc<ImageFs> {
        open(&self.layer, &self.cache, &self.source, FsOptions::default())
    }

    pub(crate) fn inode(&self, file: usize) -> InodeId {
        let name = self.layer.files[file].0.as_bytes();
        self.fs.tree().lookup(self.fs.tree().root(), name).unwrap()
    }

    pub(crate) fn content(&self, file: usize) -> &[u8] {
        &self.layer.files[file].1
    }

    pub(crate) async fn check(&self, file: usize) {
        let content = self.content(file);
        let bytes = self
            .fs
            .read(self.inode(file), 0, content.len())
            .await
            .unwrap();
        assert!(bytes == content, "file {file} has other bytes");
    }
}

pub(crate) fn open(
    layer: &TestLayer,
    cache: &SpanCache,
    source: &Arc<MemorySource>,
    options: FsOptions,
) -> Arc<ImageFs> {
    let layers = [layer.index.clone()];
    let layers = open_layers(cache, "registry.example/acme/fn", &layers).unwrap();
    Arc::new(ImageFs::new(layers, Arc::clone(source) as _, options).unwrap())
}

const SPAN: usize = 64 * 1024;

#[tokio::test]
async fn every_file_reads_as_it_was_packed() {
    let shapes = [
        Shape::default(),
        Shape {
            span_bytes: 1000,
            ..Shape::default()
        },
        Shape {
            spans_per_checkpoint: 3,
            ..Shape::default()
        },
        Shape {
            codec: Codec::Zstd,
            ..Shape::default()
        },
    ];
    for shape in shapes {
        let image = Image::open(layer(&shape, &[0, 1, SPAN, 3 * SPAN + 17, 100, 40 * SPAN]));
        for file in 0..6 {
            image.check(file).await;
            let inode = image.inode(file);
            let cached = image.fs.read_cached(inode, 0, usize::MAX).unwrap();
            assert!(cached == image.content(file), "file {file} from the cache");
            let end = image.content(file).len() as u64;
            assert!(image.fs.read(inode, end, 10).await.unwrap().is_empty());
            assert!(image.fs.read(inode, u64::MAX, 10).await.unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn what_is_no_file_is_an_error() {
    let image = Image::open(layer(&Shape::default(), &[10]));
    assert_eq!(
        image.fs.read(InodeId(1), 0, 1).await,
        Err(ReadError::NotAFile)
    );
    for unknown in [0, 99, u64::MAX] {
        assert_eq!(
            image.fs.read(InodeId(unknown), 0, 1).await,
            Err(ReadError::NoSuchInode)
        );
        assert_eq!(image.fs.read_cached(InodeId(unknown), 0, 1), None);
    }
}

#[tokio::test]
async fn a_small_read_is_one_request_of_a_useful_size() {
    let image = Image::open(layer(&Shape::default(), &[100 * SPAN]));
    assert_eq!(image.fs.read_cached(image.inode(0), 0, 100), None);
    image.fs.read(image.inode(0), 0, 100).await.unwrap();
    let requests = image.source.requests.lock().unwrap().clone();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0], 0..8 * SPAN as u64);
    image
        .fs
        .read(image.inode(0), 7 * SPAN as u64, 100)
        .await
        .unwrap();
    assert_eq!(image.source.request_count(), 1);
    let stats = image.fs.stats();
    assert_eq!((stats.requests, stats.bytes_fetched), (1, 8 * SPAN as u64));
    assert_eq!((stats.reads, stats.bytes_served), (2, 200));
    assert_eq!(stats.bytes_total, image.layer.compressed.len() as u64);
    assert_eq!(image.fs.spans_present(), (101, 8));
}

#[tokio::test]
async fn many_readers_of_one_span_fetch_it_once() {
    let image = Image::open(layer(&Shape::default(), &[4 * SPAN]));
    image.source.hold();
    let readers: Vec<_> = (0..50)
        .map(|_| {
            let (fs, inode) = (Arc::clone(&image.fs), image.inode(0));
            tokio::spawn(async move { fs.read(inode, 0, 4 * SPAN).await.unwrap() })
        })
        .collect();
    tokio::task::yield_now().await;
    image.source.let_go(1000);
    for reader in readers {
        assert!(reader.await.unwrap() == image.content(0));
    }
    assert_eq!(image.source.request_count(), 1);
}

#[tokio::test]
async fn a_reader_that_goes_away_takes_nothing_from_the_others() {
    let image = Image::open(layer(&Shape::default(), &[SPAN]));
    image.source.hold();
    let read = |fs: &Arc<ImageFs>, inode| {
        let fs = Arc::clone(fs);
        tokio::spawn(async move { fs.read(inode, 0, SPAN).await })
    };
    let first = read(&image.fs, image.inode(0));
    while image.source.request_count() == 0 {
        tokio::task::yield_now().await;
    }
    let second = read(&image.fs, image.inode(0));
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    image.source.let_go(1000);
    assert!(second.await.unwrap().unwrap() == image.content(0));
    assert_eq!(image.source.request_count(), 1);
}

#[tokio::test]
async fn a_fetch_whose_readers_have_all_gone_still_fills_the_cache() {
    let image = Image::open(layer(&Shape::default(), &[SPAN]));
    image.source.hold();
    let (fs, inode) = (Arc::clone(&image.fs), image.inode(0));
    let reader = tokio::spawn(async move { fs.read(inode, 0, SPAN).await });
    while image.source.request_count() == 0 {
        tokio::task::yield_now().await;
    }
    reader.abort();
    image.source.let_go(1000);
    image.check(0).await;
    assert_eq!(image.source.request_count(), 1);
}

#[tokio::test]
async fn reading_in_order_fetches_ahead_in_large_steps() {
    let image = Image::open(layer(&Shape::default(), &[200 * SPAN]));
    let (inode, mut offset) = (image.inode(0), 0);
    while offset < 200 * SPAN {
        let bytes = match image.fs.read_cached(inode, offset as u64, 32 * 1024) {
            Some(bytes) => bytes,
            None => image
                .fs
                .read(inode, offset as u64, 32 * 1024)
                .await
                .unwrap(),
        };
        assert!(
            bytes == image.content(0)[offset..offset + bytes.len()],
            "at {offset}"
        );
        offset += bytes.len();
    }
    let requests = image.source.requests.lock().unwrap().clone();
    let fetched: u64 = requests.iter().map(|range| range.end - range.start).sum();
    assert_eq!(
        fetched,
        image.layer.compressed.len() as u64,
        "each byte once"
    );
    assert!(
        requests.len() <= 15,
        "{} requests: {requests:?}",
        requests.len()
    );
}

#[tokio::test]
async fn what_the_cache_has_is_not_fetched_ahead() {
    let image = Image::open(layer(&Shape::default(), &[100 * SPAN]));
    image.check(0).await;
    let before = image.source.request_count();
    let fresh = image.reopen();
    for offset in (0..100 * SPAN as u64).step_by(SPAN) {
        assert!(fresh.read_cached(image.inode(0), offset, SPAN).is_some());
    }
    assert_eq!(image.source.request_count(), before);
    assert_eq!(fresh.stats().requests, 0);
}

#[tokio::test]
async fn a_layer_with_one_checkpoint_is_streamed_once() {
    let shape = Shape {
        codec: Codec::Zstd,
        ..Shape::default()
    };
    let image = Image::open(layer(&shape, &[100 * SPAN, 100 * SPAN]));
    image.check(1).await;
    image.check(0).await;
    let requests = image.source.requests.lock().unwrap().clone();
    let chunk = 4 * 1024 * 1024;
    let size = image.layer.compressed.len() as u64;
    let expected: Vec<_> = (0..size)
        .step_by(4 << 20)
        .map(|start| start..(start + chunk).min(size))
        .collect();
    assert_eq!(requests, expected);
    assert_eq!(image.fs.spans_present(), (201, 201));
}

#[tokio::test]
async fn the_end_of_a_long_frame_is_read_without_what_is_before() {
    let length = 24 << 20;
    let image = Image::open(one_frame_layer(length));
    let offset = length as u64 - 100;
    let bytes = image.fs.read(image.inode(0), offset, 100).await.unwrap();
    assert!(bytes == image.content(0)[length - 100..]);
    let requests = image.source.requests.lock().unwrap().clone();
    let fetched: u64 = requests.iter().map(|range| range.end - range.start).sum();
    let size = image.layer.compressed.len() as u64;
    assert!(
        fetched < size / 4,
        "{fetched} of {size} bytes: {requests:?}"
    );
    image.check(0).await;
    let (present, spans) = image.fs.spans_present();
    assert_eq!(present, spans);
}

#[tokio::test]
async fn the_trace_has_first_touches_in_order() {
    let image = Image::open(layer(&Shape::default(), &[SPAN, SPAN, SPAN]));
    for file in [2, 0, 2] {
        image.check(file).await;
    }
    let spans: Vec<u32> = image
        .fs
        .trace()
        .iter()
        .map(|TraceEntry { span, .. }| *span)
        .collect();
    assert_eq!(spans, [2, 3, 0, 1]);
}

#[tokio::test]
async fn stalls_are_waits_for_the_source_only() {
    let image = Image::open(layer(&Shape::default(), &[SPAN]));
    image.check(0).await;
    for _ in 0..200 {
        image.fs.read_cached(image.inode(0), 0, 100).unwrap();
    }
    let stats = image.fs.stats();
    assert_eq!(
        (stats.reads, stats.cache_hits, stats.stall_p99_us),
        (201, 200, 0)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_read_of_any_file(
        lengths in proptest::collection::vec(0usize..200_000, 1..6),
        span_bytes in 500usize..70_000,
        spans_per_checkpoint in 1usize..5,
        is_zstd: bool,
        reads in proptest::collection::vec((0usize..6, 0usize..210_000, 0usize..150_000), 1..20),
    ) {
        let codec = if is_zstd { Codec::Zstd } else { Codec::Tar };
        let image_layer = layer(&Shape { codec, span_bytes, spans_per_checkpoint }, &lengths);
        check_reads(image_layer, &reads);
    }

    #[test]
    fn any_read_of_a_sparse_file(
        gaps in proptest::collection::vec((0usize..50_000, 1usize..50_000), 0..6),
        tail in 0usize..50_000,
        reads in proptest::collection::vec((0usize..1, 0usize..400_000, 0usize..150_000), 1..20),
    ) {
        let mut end = 0;
        let mut pieces = Vec::new();
        for (gap, length) in gaps {
            pieces.push((end + gap, length));
            end += gap + length;
        }
        check_reads(sparse_layer(&Shape::default(), end + tail, &pieces), &reads);
    }
}

fn check_reads(layer: TestLayer, reads: &[(usize, usize, usize)]) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let image = Image::open(layer);
        for (file, offset, length) in reads {
            let file = file % image.layer.files.len();
            let content = image.content(file);
            let start = (*offset).min(content.len());
            let expected = &content[start..(start + length).min(content.len())];
            let read = image
                .fs
                .read(image.inode(file), *offset as u64, *length)
                .await
                .unwrap();
            assert!(
                read == expected,
                "{length} bytes at {offset} of file {file}"
            );
            let cached = image
                .fs
                .read_cached(image.inode(file), *offset as u64, *length);
            assert!(cached.is_some_and(|bytes| bytes == expected));
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
}
