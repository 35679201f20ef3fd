//! A start that was foretold: what it reads is here before it is read.

use std::fs;
use std::time::Duration;

use image_fs::{CacheLimits, SpanCache};
use image_mount::MountStats;

use crate::support::{Mounted, Published, archive, blocking};

/// Longest wait for something that has been set in motion.
const PATIENCE: Duration = Duration::from_mins(1);

/// Thirty files, of which none shares a span with the next.
fn thirty_files() -> Vec<u8> {
    archive("for i in $(seq 30); do head -c 700000 /dev/urandom > $i; done")
}

/// Reads the beginnings of some files, one after the other.
async fn start(image: &Published) {
    let paths = [27, 3, 14, 9, 20].map(|name| image.path(&name.to_string()));
    let read = move || {
        for path in paths {
            let device = fs::File::open(path).unwrap();
            let mut bytes = [0; 4096];
            std::os::unix::fs::FileExt::read_exact_at(&device, &mut bytes, 0).unwrap();
        }
    };
    blocking(read).await;
}

async fn all_fetched(mounted: &Mounted, spans: usize) -> MountStats {
    let waiting = async {
        loop {
            let stats = mounted.process.stats().await.unwrap();
            if stats.spans_present >= spans as u64 {
                return stats;
            }
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_was_traced_waits_for_nothing() {
    let mut image = Published::new(&[thirty_files()]).await;
    let mounted = image.mount().await;
    start(&image).await;
    let trace = mounted.process.trace().await.unwrap();
    let untraced = mounted.stop().await;
    assert!(untraced.fs.reads > untraced.fs.cache_hits, "{untraced:?}");

    let directory = image.directory.path().join("other-cache");
    image.request.cache = SpanCache::open(&directory, CacheLimits::default()).unwrap();
    image.request.foretold = trace.clone();
    let mounted = image.mount().await;
    let before = all_fetched(&mounted, trace.len()).await;
    assert_eq!(before.fs.reads, 0);
    start(&image).await;
    let traced = mounted.stop().await;
    assert_eq!(traced.fs.requests, before.fs.requests, "{traced:?}");
    assert_eq!(traced.fs.reads, traced.fs.cache_hits, "{traced:?}");
    assert_eq!(traced.fs.prefetch_hits, traced.fs.spans_prefetched);
    assert_eq!(traced.fs.bytes_prefetched, traced.fs.bytes_fetched);
}
