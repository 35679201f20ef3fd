//! What is foretold over slow links: in the order in which it is read, and never in the way of who
//! waits. Only the link takes time here.

use std::time::Duration;

use image_fs::TraceEntry;
use tokio::time::Instant;

use crate::layers::{Shape, TestLayer, layer};
use crate::link::Link;
use crate::throughput::Mount;

const SPAN: usize = 64 * 1024;

/// Ten spans, each of which comes for itself alone.
const FILE: usize = 10 * SPAN;

const FILES: usize = 40;

fn link(megabits: u64, millis: u64) -> Link {
    Link {
        round_trip: Duration::from_millis(millis),
        bytes_per_second: megabits * 125_000,
        flow_bytes_per_second: megabits * 125_000,
    }
}

fn image() -> TestLayer {
    layer(&Shape::default(), &[FILE; FILES])
}

async fn read_file(mount: &Mount, file: usize) {
    for offset in (0..FILE).step_by(SPAN) {
        let name = format!("file-{file}");
        mount.read_and_check(&name, offset, SPAN).await;
    }
}

/// What a start foretells that read these files, and whose link brought everything at once.
async fn trace_of(layer: &TestLayer, files: impl IntoIterator<Item = usize>) -> Vec<TraceEntry> {
    let mount = Mount::new(vec![layer.clone()], link(1_000_000, 0));
    for file in files {
        read_file(&mount, file).await;
    }
    mount.fs.trace()
}

/// Files one after the other whose neighbours are read much later, or never.
fn scattered(count: usize) -> Vec<usize> {
    (0..count).map(|place| place * 23 % FILES).collect()
}

/// A start that reads what it was foretold to read: when it has the first of it, all of it, and how
/// many requests it took.
async fn start(layer: &TestLayer, order: &[usize], link: Link) -> (Duration, Duration, usize) {
    let trace = trace_of(layer, order.iter().copied()).await;
    let spans = trace.len();
    let mount = Mount::new(vec![layer.clone()], link);
    let begun = Instant::now();
    mount.fs.prefetch(trace);
    // Nothing is read in the very moment.
    tokio::time::sleep(Duration::from_millis(1)).await;
    read_file(&mount, order[0]).await;
    let first = begun.elapsed();
    for file in &order[1..] {
        read_file(&mount, *file).await;
    }
    let all = begun.elapsed();
    let stats = mount.fs.stats();
    let requests = mount.source.requests.lock().unwrap().clone();
    let most = (spans * SPAN) as u64;
    assert!(
        stats.bytes_fetched <= most,
        "{most}, {stats:?}, {requests:?}"
    );
    let requests = requests.len();
    println!("{link:?}: first {first:?}, all {all:?}, {requests} requests");
    (first, all, requests)
}

#[tokio::test(start_paused = true)]
async fn what_is_read_first_comes_first_over_a_slow_link() {
    let layer = image();
    let order = scattered(12);
    for (megabits, millis) in [(4, 20), (4, 100), (24, 20), (24, 100)] {
        let link = link(megabits, millis);
        let (first, all, _) = start(&layer, &order, link).await;
        let sending = |bytes: usize| {
            Duration::from_nanos(bytes as u64 * 1_000_000_000 / link.bytes_per_second)
        };
        let least = sending(FILE) + link.round_trip;
        assert!(first <= 3 * least, "{link:?}: {first:?}, least {least:?}");
        let least = sending(order.len() * FILE) + link.round_trip;
        assert!(all <= least * 5 / 4, "{link:?}: {all:?}, least {least:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fast_link_is_used_whole() {
    let layer = image();
    let order = scattered(FILES);
    for (megabits, millis) in [(200, 20), (800, 20), (1000, 1), (200, 200)] {
        let link = link(megabits, millis);
        let (_, all, requests) = start(&layer, &order, link).await;
        let sending = (FILES * FILE) as u64 * 1_000_000_000 / link.bytes_per_second;
        let least = Duration::from_nanos(sending) + link.round_trip;
        let most = least * 6 / 5 + 3 * link.round_trip;
        assert!(all <= most, "{link:?}: {all:?}, least {least:?}");
        assert!(requests <= 2 * FILES, "{link:?}: {requests}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_reads_what_was_not_foretold_has_the_link_first() {
    let layer = image();
    let (foretold, others): (Vec<usize>, Vec<usize>) = (0..FILES).partition(|file| file % 4 != 0);
    for (megabits, millis) in [(4, 20), (24, 20)] {
        let link = link(megabits, millis);
        let trace = trace_of(&layer, foretold.iter().copied()).await;
        let mount = Mount::new(vec![layer.clone()], link);
        mount.fs.prefetch(trace);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut longest = Duration::ZERO;
        let begun = Instant::now();
        for file in &others {
            let begun = Instant::now();
            mount
                .read_and_check(&format!("file-{file}"), 5 * SPAN, 100)
                .await;
            longest = longest.max(begun.elapsed());
        }
        let (took, count) = (begun.elapsed(), u32::try_from(others.len()).unwrap());
        println!("{link:?}: {took:?} for {count}, at most {longest:?}");
        // What is under way at most when it comes, and what it asks for itself, by a second half.
        let alone =
            Duration::from_secs(SPAN as u64) / u32::try_from(link.bytes_per_second).unwrap();
        let least = alone + link.round_trip;
        assert!(
            longest <= Duration::from_millis(900) + least,
            "{link:?}: {longest:?}"
        );
        assert!(
            took <= 4 * least * count,
            "{link:?}: {took:?}, least {least:?} each"
        );
    }
}
