//! What is asked for at once, and when it is asked for anew. Only the link takes time here.

use std::sync::Arc;
use std::time::Duration;

use image_fs::{BlobError, FsOptions};
use layer_index::Codec;
use tokio::time::Instant;

use crate::faults::{kinds, listening};
use crate::layers::{Shape, layer};
use crate::link::Link;
use crate::reads::Image;
use crate::source::Fault;
use crate::throughput::Mount;

const SPAN: usize = 64 * 1024;

/// A megabyte takes a second, and asking for it the tenth of one.
const SLOW: Link = Link {
    round_trip: Duration::from_millis(100),
    bytes_per_second: 1_000_000,
    flow_bytes_per_second: 1_000_000,
};

fn gone() -> BlobError {
    BlobError::Transient {
        message: "connection reset".to_owned(),
        retry_after: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_span_is_there_when_its_own_bytes_are() {
    for codec in [Codec::Tar, Codec::Zstd] {
        let shape = Shape {
            codec,
            ..Shape::default()
        };
        let mount = Mount::new(vec![layer(&shape, &[100 * SPAN])], SLOW);
        let begun = Instant::now();
        mount.read("file-0", 0, 100).await;
        let took = begun.elapsed();
        assert!(took < Duration::from_millis(250), "{codec:?}: {took:?}");
        assert!(mount.source.bytes_asked() >= 8 * SPAN as u64);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_breaks_off_goes_on_where_it_ended() {
    let image = Image::open(layer(&Shape::default(), &[8 * SPAN - 512]));
    let breaks = [100_000, 200_000].map(|at| Fault::Break(at, gone()));
    image.source.fail_with(breaks);
    image.check(0).await;
    let end = 8 * SPAN as u64;
    let requests = image.source.requests.lock().unwrap().clone();
    assert_eq!(requests, [0..end, 100_000..end, 300_000..end]);
    let stats = image.fs.stats();
    assert_eq!((stats.retries, stats.bytes_fetched), (2, end));
}

#[tokio::test(start_paused = true)]
async fn more_bytes_than_were_asked_for_are_nobodys() {
    let image = Image::open(layer(&Shape::default(), &[20 * SPAN]));
    image.source.always(Some(Fault::Long));
    image.check(0).await;
    let stats = image.fs.stats();
    assert_eq!(stats.bytes_fetched, image.layer.compressed.len() as u64);
    assert_eq!((stats.retries, stats.spans_corrupt), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_moves_is_waited_for_and_what_drips_is_not() {
    for (bytes, arrives) in [(64 * 1024, true), (1000, false)] {
        let image = Image::open(layer(&Shape::default(), &[100 * SPAN]));
        // Sixty times ten seconds are more than the deadline of two minutes.
        let later = BlobError::Transient {
            message: "busy".to_owned(),
            retry_after: Some(Duration::from_secs(10)),
        };
        image.source.always(Some(Fault::Break(bytes, later)));
        let begun = Instant::now();
        let (fs, inode) = (Arc::clone(&image.fs), image.inode(0));
        let reading = tokio::spawn(async move { fs.read(inode, 0, 60 * SPAN).await });
        let result = reading.await.unwrap();
        assert_eq!(result.is_ok(), arrives, "{:?} {result:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn who_knocks_and_is_answered_slowly_holds_up_nobody() {
    let image = Image::open(layer(&Shape::default(), &[300 * SPAN]));
    image
        .source
        .fail_with([Fault::Error(gone()), Fault::Stall(70_000)]);
    let read = |from: usize| {
        let (fs, inode) = (Arc::clone(&image.fs), image.inode(0));
        tokio::spawn(async move { fs.read(inode, (from * SPAN) as u64, SPAN).await })
    };
    let first = read(50);
    while image.source.request_count() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let begun = Instant::now();
    read(200).await.unwrap().unwrap();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    first.await.unwrap().unwrap();
}

/// Reads a few places far from each other, and then says what one more asks for.
async fn asks_for(link: Link) -> u64 {
    let mount = Mount::new(vec![layer(&Shape::default(), &[20 * FAR])], link);
    for place in 0..8 {
        mount.read("file-0", place * FAR, 100).await;
        // What was asked for beside it has come, too.
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    let before = mount.source.bytes_asked();
    mount.read("file-0", 9 * FAR, 100).await;
    mount.source.bytes_asked() - before
}

const FAR: usize = 5 * 1024 * 1024;

#[tokio::test(start_paused = true)]
async fn a_reader_that_jumps_gets_what_a_round_trip_brings() {
    let least = 128 * 1024;
    for (megabits, millis) in [
        (24, 10),
        (200, 20),
        (200, 40),
        (800, 20),
        (1000, 1),
        (1000, 200),
    ] {
        let link = Link {
            round_trip: Duration::from_millis(millis),
            bytes_per_second: megabits * 125_000,
            flow_bytes_per_second: megabits * 125_000,
        };
        let asked = asks_for(link).await;
        let brings = (megabits * 125 * millis).clamp(least, 4 * 1024 * 1024);
        // Whole spans; and the clock of the test goes by milliseconds.
        let least = brings - SPAN as u64;
        let most = (megabits * 125 * (millis + 2)).max(brings);
        assert!(
            asked > least && asked <= most,
            "{asked} bytes at {megabits} Mbit/s, {millis} ms"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_in_order_gets_more_with_every_request() {
    // None to spare, so that nothing is read ahead.
    let options = FsOptions {
        connections: 2,
        ..FsOptions::default()
    };
    let mount = Mount::with(vec![layer(&Shape::default(), &[20 * FAR])], SLOW, options);
    let mut longest = 0;
    for offset in (0..FAR).step_by(SPAN) {
        mount.read("file-0", offset, SPAN).await;
        let requests = mount.source.requests.lock().unwrap().clone();
        let lengths = requests.iter().map(|range| range.end - range.start);
        longest = longest.max(lengths.max().unwrap());
    }
    assert!(longest >= 2 * 1024 * 1024, "{longest}");
    assert!(longest <= 4 * 1024 * 1024, "{longest}");
}

/// An image whose link is known by a few reads.
async fn known(link: Link) -> Mount {
    let mount = Mount::new(vec![layer(&Shape::default(), &[40 * FAR])], link);
    for place in 20..28 {
        mount.read("file-0", place * FAR, 100).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    mount.source.requests.lock().unwrap().clear();
    mount
}

#[tokio::test(start_paused = true)]
async fn a_request_that_lags_is_asked_for_anew_where_it_is() {
    let mount = known(SLOW).await;
    mount.source.crawl(1, 20_000);
    let begun = Instant::now();
    mount.read_and_check("file-0", 0, 2 * FAR / 5).await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    let requests = mount.source.requests.lock().unwrap().clone();
    assert_eq!(requests.len(), 2, "{requests:?}");
    assert_eq!(requests[0].end, requests[1].end);
    let came = requests[1].start - requests[0].start;
    assert!(
        (1..100_000).contains(&came),
        "{came} bytes came of the first"
    );
    let stats = mount.fs.stats();
    assert_eq!((stats.retries, stats.spans_corrupt), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_always_crawls_is_asked_three_times() {
    let mount = known(SLOW).await;
    mount.source.crawl(1000, 20_000);
    mount.read_and_check("file-0", 0, FAR / 5).await;
    let requests = mount.source.requests.lock().unwrap().clone();
    assert_eq!(requests.len(), 3, "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn readers_who_share_a_link_do_not_lag() {
    let mount = Arc::new(known(SLOW).await);
    let readers = (0..8).map(|place| {
        let mount = Arc::clone(&mount);
        tokio::spawn(async move { mount.read_and_check("file-0", place * FAR, FAR / 5).await })
    });
    for reader in readers.collect::<Vec<_>>() {
        reader.await.unwrap();
    }
    assert_eq!(mount.fs.stats().retries, 0);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_knows_to_be_slow_is_waited_for() {
    let mount = Mount::new(vec![layer(&Shape::default(), &[FAR])], SLOW);
    mount.source.crawl(1, 20_000);
    mount.read_and_check("file-0", 0, 100).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(mount.source.requests.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_takes_minutes_and_moves_is_no_failure() {
    let link = Link {
        bytes_per_second: 40_000,
        ..SLOW
    };
    let (options, heard) = listening(Duration::from_mins(2));
    let mount = Mount::with(vec![layer(&Shape::default(), &[FAR])], link, options);
    mount.read_and_check("file-0", 0, FAR).await;
    assert_eq!(kinds(&heard), []);
    assert_eq!(mount.fs.stats().bytes_fetched, mount.size());
}
