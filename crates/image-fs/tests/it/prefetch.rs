//! What is fetched ahead of the reads: in time where it was foretold, in nobody's way, and not
//! without end. The clock stands still until nothing is left to do, so that sleeping is waiting for
//! that.

use std::sync::Arc;
use std::time::Duration;

use image_fs::{BlobError, FsOptions, ImageFs, TraceEntry};

use crate::faults::{kinds, listening};
use crate::layers::{Shape, TestLayer, layer};
use crate::reads::Image;
use crate::source::Fault;

const SPAN: usize = 64 * 1024;

/// Far enough from each other that no request brings two of them.
const FILE: usize = 5 * SPAN;

/// Spans of a layer of which nothing here reads so much that its rest is fetched, too.
const WIDE: usize = 320;

/// Prefetches at once.
const REQUESTS: usize = 6;

/// Until nothing is left to do.
async fn at_rest() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

fn files(count: usize) -> TestLayer {
    layer(&Shape::default(), &vec![FILE; count])
}

/// Reads the beginning of a file.
async fn begin(image: &Image, file: usize) {
    let bytes = image.fs.read(image.inode(file), 0, 100).await.unwrap();
    assert!(bytes == image.content(file)[..100], "file {file}");
}

/// The spans that a start touches that begins these files.
async fn trace_of(layer: &TestLayer, files: impl IntoIterator<Item = usize>) -> Vec<TraceEntry> {
    let image = Image::open(layer.clone());
    for file in files {
        begin(&image, file).await;
    }
    image.fs.trace()
}

#[tokio::test(start_paused = true)]
async fn a_foretold_start_waits_for_nothing() {
    let layer = layer(&Shape::default(), &[1000; 300]);
    let trace = trace_of(&layer, (0..300).rev()).await;
    let image = Image::open(layer);
    image.fs.prefetch(trace.clone());
    at_rest().await;
    let requests = image.source.request_count();
    assert!(requests < trace.len(), "{requests} of {}", trace.len());
    for file in (0..300).rev() {
        let bytes = image.fs.read_cached(image.inode(file), 0, 1000);
        assert!(bytes.unwrap() == image.content(file));
    }
    let stats = image.fs.stats();
    assert_eq!(image.source.request_count(), requests);
    assert_eq!((stats.reads, stats.cache_hits), (300, 300));
    assert_eq!(stats.spans_prefetched, trace.len() as u64);
    assert_eq!(stats.prefetch_hits, trace.len() as u64);
    assert_eq!(stats.bytes_prefetched, stats.bytes_fetched);
}

/// Reads a little of each of these spans of the first file.
async fn read_spans(image: &Image, spans: impl IntoIterator<Item = usize>) {
    for span in spans {
        let place = span * SPAN;
        let bytes = image.fs.read(image.inode(0), place as u64, 100).await;
        assert!(bytes.unwrap() == image.content(0)[place..place + 100]);
        at_rest().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_foretold_start_fetches_what_is_read_and_nothing_beside_it() {
    // In order, as it seems, and then on beyond one span, or many.
    for period in [5, 12] {
        let layer = layer(&Shape::default(), &[WIDE * SPAN]);
        let spans: Vec<usize> = (0..120).filter(|span| span % period < 4).collect();
        let first = Image::open(layer.clone());
        read_spans(&first, spans.clone()).await;
        assert_eq!(first.fs.trace().len(), spans.len());
        let image = Image::open(layer.clone());
        image.fs.prefetch(first.fs.trace());
        at_rest().await;
        read_spans(&image, spans.clone()).await;
        // Another one that is faster than what is to come before it.
        let hasty = Image::open(layer);
        let slow = Fault::Slow(Duration::from_mins(1));
        hasty.source.always(Some(slow));
        hasty.fs.prefetch(first.fs.trace());
        tokio::time::sleep(Duration::from_millis(100)).await;
        hasty.source.always(None);
        read_spans(&hasty, spans[4 * REQUESTS..].to_vec()).await;
        read_spans(&hasty, spans.clone()).await;
        assert!(hasty.fs.stats().bytes_prefetched < hasty.fs.stats().bytes_fetched);
        for fs in [&image.fs, &hasty.fs] {
            let fetched = fs.stats().bytes_fetched;
            assert_eq!(fetched, (spans.len() * SPAN) as u64, "every {period}");
        }
        assert!(first.fs.stats().bytes_fetched > (spans.len() * SPAN) as u64);
    }
}

#[tokio::test(start_paused = true)]
async fn who_reads_on_where_a_start_has_ended_is_read_ahead_for() {
    let layer = layer(&Shape::default(), &[WIDE * SPAN]);
    let first = Image::open(layer.clone());
    read_spans(&first, 0..20).await;
    let image = Image::open(layer);
    image.fs.prefetch(first.fs.trace());
    at_rest().await;
    let foretold = image.source.request_count();
    read_spans(&image, 0..120).await;
    let requests = image.source.request_count() - foretold;
    assert!(requests <= 15, "{requests} requests for 100 spans");
}

#[tokio::test(start_paused = true)]
async fn the_first_to_be_read_come_first() {
    let layer = files(20);
    let order = [17, 3, 11, 0, 19, 8, 5, 14];
    let trace = trace_of(&layer, order).await;
    let image = Image::open(layer);
    image.source.hold();
    image.fs.prefetch(trace);
    at_rest().await;
    assert_eq!(image.source.request_count(), REQUESTS, "so many at once");
    image.source.let_go(100);
    at_rest().await;
    let mut starts = image.source.requests.lock().unwrap().clone();
    // Those of one moment come in any order.
    starts[..REQUESTS].sort_by_key(|range| range.start);
    let files: Vec<usize> = starts
        .iter()
        .map(|range| usize::try_from(range.end).unwrap() / FILE)
        .collect();
    assert_eq!(files, [0, 3, 8, 11, 17, 19, 5, 14]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_waits_for_nothing_that_is_only_foretold() {
    let layer = files(20);
    let trace = trace_of(&layer, 0..20).await;
    let image = Image::open(layer);
    image.source.fail_with(vec![Fault::Hang; REQUESTS]);
    image.fs.prefetch(trace);
    at_rest().await;
    for file in REQUESTS..20 {
        begin(&image, file).await;
    }
    let stats = image.fs.stats();
    assert_eq!((stats.bytes_prefetched, stats.prefetch_hits), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_reader_joins_what_is_under_way() {
    let layer = files(2);
    let trace = trace_of(&layer, [1]).await;
    let image = Image::open(layer);
    image.source.hold();
    image.fs.prefetch(trace);
    at_rest().await;
    let (fs, inode) = (Arc::clone(&image.fs), image.inode(1));
    let reading = tokio::spawn(async move { fs.read(inode, 0, 100).await });
    at_rest().await;
    image.source.let_go(1);
    assert!(reading.await.unwrap().unwrap() == image.content(1)[..100]);
    assert_eq!(image.source.request_count(), 1);
    assert_eq!(image.fs.stats().prefetch_hits, 1);
}

#[tokio::test(start_paused = true)]
async fn a_forecast_of_another_program_stops_by_itself() {
    let layer = files(200);
    let trace = trace_of(&layer, 0..100).await;
    let image = Image::open(layer);
    image.source.hold();
    image.fs.prefetch(trace);
    at_rest().await;
    let prefetched = image.fs.stats().spans_prefetched;
    let readers: Vec<_> = (150..190)
        .map(|file| {
            let (fs, inode) = (Arc::clone(&image.fs), image.inode(file));
            tokio::spawn(async move { fs.read(inode, 0, 100).await })
        })
        .collect();
    at_rest().await;
    image.source.let_go(1000);
    for reader in readers {
        reader.await.unwrap().unwrap();
    }
    at_rest().await;
    assert_eq!(image.fs.stats().spans_prefetched, prefetched);
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_the_filesystem() {
    let layer = files(20);
    let trace = trace_of(&layer, 0..20).await;
    let Image {
        fs,
        source,
        directory,
        ..
    } = Image::open(layer);
    source.hold();
    fs.prefetch(trace);
    at_rest().await;
    drop::<Arc<ImageFs>>(fs);
    at_rest().await;
    assert_eq!(Arc::strong_count(&source), 1, "a flight outlives it");
    source.let_go(100);
    at_rest().await;
    assert_eq!(source.request_count(), REQUESTS);
    drop(directory);
}

#[tokio::test(start_paused = true)]
async fn a_prefetch_that_fails_costs_a_reader_nothing() {
    let message = "connection refused".to_owned();
    let transient = Fault::Error(BlobError::Transient {
        message,
        retry_after: None,
    });
    let layer = files(20);
    let trace = trace_of(&layer, 0..20).await;
    let image = Image::open(layer);
    image.source.always(Some(transient));
    image.source.hold();
    image.fs.prefetch(trace.clone());
    at_rest().await;
    let (fs, inode) = (Arc::clone(&image.fs), image.inode(0));
    let reading = tokio::spawn(async move { fs.read(inode, 0, 100).await });
    at_rest().await;
    image.source.let_go(10_000);
    at_rest().await;
    let asked = image.source.request_count();
    assert!(asked < 2 * REQUESTS, "{asked} requests to one that is away");
    image.source.always(None);
    assert!(reading.await.unwrap().unwrap() == image.content(0)[..100]);
    at_rest().await;
    let (_, present) = image.fs.spans_present();
    let rest = trace.len() - REQUESTS;
    assert!(present >= rest, "{present} of {rest} once it answers again");
}

#[tokio::test(start_paused = true)]
async fn what_the_image_does_not_have_is_passed_over() {
    let layer = files(3);
    let image = Image::open_with(layer, FsOptions::default());
    let far = [0, 1, u32::MAX];
    let pairs = far.iter().flat_map(|layer| far.map(|span| (*layer, span)));
    let entries = pairs.map(|(layer, span)| TraceEntry {
        layer,
        span,
        at_ms: u32::MAX,
    });
    let entries: Vec<_> = entries.collect();
    image.fs.prefetch([&entries[..], &entries].concat());
    image.fs.prefetch(Vec::new());
    at_rest().await;
    assert_eq!(image.fs.stats().spans_prefetched, 2);
    assert_eq!(image.source.request_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_reader_has_fetched_meanwhile_is_not_fetched_again() {
    let layer = files(20);
    let trace = trace_of(&layer, 0..20).await;
    let image = Image::open(layer);
    let slow = Fault::Slow(Duration::from_millis(500));
    image.source.fail_with(vec![slow; REQUESTS]);
    image.fs.prefetch(trace);
    tokio::time::sleep(Duration::from_millis(100)).await;
    for file in REQUESTS..20 {
        begin(&image, file).await;
    }
    let requests = image.source.request_count();
    at_rest().await;
    assert_eq!(image.source.request_count(), requests);
}

/// What a source answers that fails.
fn failures() -> [Fault; 5] {
    let message = || "no".to_owned();
    [
        Fault::Error(BlobError::Transient {
            message: message(),
            retry_after: None,
        }),
        Fault::Error(BlobError::Denied { message: message() }),
        Fault::Error(BlobError::Missing { message: message() }),
        Fault::Error(BlobError::Final { message: message() }),
        Fault::Flip(1000),
    ]
}

#[tokio::test(start_paused = true)]
async fn what_fails_for_no_reader_is_told_to_nobody_and_not_repeated() {
    let layer = files(40);
    let trace = trace_of(&layer, 0..40).await;
    for failure in failures() {
        let (options, heard) = listening(Duration::from_mins(2));
        let image = Image::open_with(layer.clone(), options);
        image.source.always(Some(failure.clone()));
        image.fs.prefetch(trace.clone());
        at_rest().await;
        let requests = image.source.request_count();
        assert!(requests <= REQUESTS, "{requests} requests met {failure:?}");
        image.source.always(None);
        begin(&image, 39).await;
        assert_eq!(kinds(&heard), [], "{failure:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_finds_out_by_itself_what_became_of_a_prefetch() {
    let layer = files(2);
    let trace = trace_of(&layer, [1]).await;
    for failure in failures() {
        let image = Image::open(layer.clone());
        image.source.fail_with([failure]);
        image.source.hold();
        image.fs.prefetch(trace.clone());
        at_rest().await;
        let (fs, inode) = (Arc::clone(&image.fs), image.inode(1));
        let reading = tokio::spawn(async move { fs.read(inode, 0, 100).await });
        at_rest().await;
        assert_eq!(image.source.request_count(), 1, "it has joined");
        image.source.let_go(2);
        assert!(reading.await.unwrap().unwrap() == image.content(1)[..100]);
        assert_eq!(image.fs.stats().prefetch_hits, 1, "as it was touched");
    }
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_fetched_in_time_is_left_to_its_readers() {
    let layer = files(40);
    let trace = trace_of(&layer, 0..40).await;
    for (minutes, goes_on) in [(1, true), (3, false)] {
        let image = Image::open(layer.clone());
        image.source.always(Some(failures()[0].clone()));
        image.fs.prefetch(trace.clone());
        tokio::time::sleep(Duration::from_mins(minutes)).await;
        image.source.always(None);
        let before = image.source.request_count();
        begin(&image, 39).await;
        at_rest().await;
        // One of them is the reader's own.
        let since = image.source.request_count() - before;
        assert_eq!(since > 1, goes_on, "{minutes} minutes later");
    }
}
