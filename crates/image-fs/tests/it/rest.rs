//! The rest of a layer of which much is wanted: it comes without being asked for, in nobody's way.
//! The clock stands still until nothing is left to do, so that sleeping is waiting for that.

use std::sync::Arc;
use std::time::Duration;

use image_fs::{BlobError, ImageFs};

use crate::faults::{kinds, listening};
use crate::layers::{Shape, TestLayer, layer};
use crate::reads::Image;
use crate::source::Fault;

const SPAN: usize = 64 * 1024;

/// Files that fill a layer of a hundred of them, with what is between them; each is a request.
const FILE: usize = 10 * SPAN - 512;

/// Requests at once for the rest of a layer.
const REQUESTS: usize = 4;

fn files() -> TestLayer {
    layer(&Shape::default(), &[FILE; 100])
}

async fn at_rest() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

/// Reads every second file until so many are read.
async fn read(image: &Image, files: std::ops::Range<usize>) {
    for file in files {
        image.check(file * 2).await;
    }
    at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_layer_comes_when_much_of_it_is_wanted() {
    let image = Image::open(files());
    read(&image, 0..39).await;
    assert_eq!(image.fs.spans_present().1, 390);
    let asked = image.source.request_count();
    read(&image, 39..40).await;
    assert_eq!(image.fs.spans_present(), (1000, 1000));
    let stats = image.fs.stats();
    assert_eq!(stats.bytes_fetched, stats.bytes_total, "each byte once");
    // What lies between two files that were read, and the end in the longest requests.
    let since = image.source.request_count() - asked;
    assert!(since <= 1 + 39 + 8, "{since} requests");
    assert_eq!(stats.bytes_prefetched, 0);
}

#[tokio::test(start_paused = true)]
async fn readers_find_a_connection_while_the_rest_comes() {
    let image = Image::open(files());
    read(&image, 0..39).await;
    image.source.hold();
    let asked = image.source.request_count();
    image.source.let_go(1);
    read(&image, 39..40).await;
    assert_eq!(image.source.request_count(), asked + 1 + REQUESTS);
    let (fs, inode) = (Arc::clone(&image.fs), image.inode(99));
    let reader = tokio::spawn(async move { fs.read(inode, 0, 100).await });
    at_rest().await;
    assert_eq!(image.source.request_count(), asked + 2 + REQUESTS);
    image.source.let_go(1000);
    reader.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_rest_waits_for_what_was_foretold() {
    let layer = files();
    let other = Image::open(layer.clone());
    for file in 90..100 {
        other.check(file).await;
    }
    let trace = other.fs.trace();
    let image = Image::open(layer);
    image.source.always(Some(Fault::Hang));
    image.fs.prefetch(trace);
    tokio::time::sleep(Duration::from_millis(100)).await;
    image.source.always(None);
    let foretold = image.source.request_count();
    assert!((2..=6).contains(&foretold), "{foretold}");
    for file in 0..40 {
        image.check(file * 2).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(image.source.request_count(), foretold + 40);
    // What hangs is given up, and it goes on once the source answers somebody.
    tokio::time::sleep(Duration::from_mins(2)).await;
    image.check(99).await;
    at_rest().await;
    assert_eq!(image.fs.spans_present(), (1000, 1000));
}

#[tokio::test(start_paused = true)]
async fn the_rest_ends_with_the_filesystem() {
    let image = Image::open(files());
    read(&image, 0..39).await;
    image.source.hold();
    image.source.let_go(1);
    read(&image, 39..40).await;
    let Image { fs, source, .. } = image;
    drop::<Arc<ImageFs>>(fs);
    at_rest().await;
    assert_eq!(Arc::strong_count(&source), 1, "a flight outlives it");
}

#[tokio::test(start_paused = true)]
async fn a_rest_that_does_not_come_costs_nobody_anything() {
    let message = || "no".to_owned();
    let retry_after = None;
    for failure in [
        BlobError::Transient {
            message: message(),
            retry_after,
        },
        BlobError::Denied { message: message() },
        BlobError::Missing { message: message() },
        BlobError::Final { message: message() },
    ] {
        let (options, heard) = listening(Duration::from_mins(2));
        let image = Image::open_with(files(), options);
        read(&image, 0..39).await;
        // What is there does not fail.
        image.source.always(Some(Fault::Error(failure.clone())));
        image.source.fail_with([Fault::Slow(Duration::ZERO)]);
        let asked = image.source.request_count();
        read(&image, 39..40).await;
        let asked = image.source.request_count() - asked;
        assert!(asked <= 1 + REQUESTS, "{asked} requests met {failure:?}");
        image.source.always(None);
        image.check(99).await;
        assert_eq!(kinds(&heard), [], "{failure:?}");
    }
}
