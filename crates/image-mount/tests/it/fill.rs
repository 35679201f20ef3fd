//! What nobody reads comes into the cache while nobody reads, in the mount process.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use credential::auth::{AuthError, RegistryAuth};
use image_fs::{CacheLimits, SpanCache};
use image_mount::{FillError, FillWatch, MountProcess, MountStats};

use crate::support::{Mounted, Published, Script, Unmount, archive, blocking, is_mounted, program};

/// Longest wait for something that has been set in motion: a test that gets here has failed.
const PATIENCE: Duration = Duration::from_mins(1);

const FILES: u64 = 12;

/// Files of a megabyte and more, each its own.
async fn published() -> Published {
    let script = format!("for i in $(seq {FILES}); do seq ${{i}}00000 ${{i}}99999 > $i; done");
    let mut image = Published::new(&[archive(&script), archive("seq 300000 > upper")]).await;
    image.request.fill_when_idle = true;
    image
}

fn lines(from: u64, to: u64) -> Vec<u8> {
    let lines = (from..=to).map(|number| format!("{number}\n"));
    lines.collect::<String>().into_bytes()
}

/// When all of the image is here; a mount that fills in vain is asked for ever.
async fn whole(process: &MountProcess) -> MountStats {
    let filled = async {
        loop {
            let stats = process.stats().await.unwrap();
            if stats.spans_present == stats.spans {
                return stats;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let filled = tokio::time::timeout(PATIENCE, filled).await;
    filled.expect("the image is filled in time")
}

async fn check(image: &Published) {
    let path = |name: &str| image.path(name);
    let numbered = (1..=FILES).map(|file| {
        let from = file * 100_000;
        (path(&file.to_string()), lines(from, from + 99_999))
    });
    let mut files: Vec<_> = numbered.collect();
    files.push((path("upper"), lines(1, 300_000)));
    let compare = move || {
        for (path, content) in files {
            assert!(fs::read(&path).unwrap() == content, "{}", path.display());
        }
    };
    blocking(compare).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_nobody_reads_becomes_whole_and_right() {
    let image = published().await;
    let mounted = image.mount().await;
    let filled = whole(&mounted.process).await;
    assert_eq!(
        filled.fs.bytes_filled, filled.fs.bytes_fetched,
        "{filled:?}"
    );
    assert_eq!(filled.fs.spans_filled, filled.spans);
    assert_eq!((filled.fs.reads, filled.fs.spans_corrupt), (0, 0));
    image.sim.faults(|faults| faults.outage = true);
    check(&image).await;
    let stats = mounted.stop().await;
    assert_eq!(stats.fs.requests, filled.fs.requests, "{stats:?}");
    assert_eq!(stats.fs.reads, stats.fs.cache_hits);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_mounts_of_an_image_fill_it_once() {
    let image = published().await;
    let mut request = image.request.clone();
    request.mountpoint = image.directory.path().join("other");
    fs::create_dir(&request.mountpoint).unwrap();
    let guard = Unmount(request.mountpoint.clone());
    let auth = Script::answering(Ok(RegistryAuth::anonymous()));
    let first = image.mount().await;
    let process = MountProcess::spawn(&program(), request, auth).await;
    let second = Mounted {
        process: process.unwrap(),
        guard,
    };
    // Either may fill either layer, and knows of the other's spans when it reads them.
    let filled = async {
        loop {
            let stats = first.process.stats().await.unwrap();
            let others = second.process.stats().await.unwrap();
            if stats.fs.spans_filled + others.fs.spans_filled >= stats.spans {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let filled = tokio::time::timeout(PATIENCE, filled).await;
    filled.expect("the image is filled in time");
    check(&image).await;
    let (first, second) = (first.stop().await, second.stop().await);
    let both = first.fs.spans_filled + second.fs.spans_filled;
    assert_eq!(both, first.spans, "{first:?} {second:?}");
}

async fn brought(image: &Published, auth: Arc<Script>) -> Result<MountStats, FillError> {
    let (logs, _) = tokio::sync::mpsc::channel(1);
    let watch = FillWatch {
        logs,
        progress: |stats: MountStats| assert!(stats.spans_present <= stats.spans),
    };
    let program = program();
    let filling = image_mount::fill(&program, image.request.clone(), auth, watch);
    let filled = tokio::time::timeout(PATIENCE, filling).await;
    filled.expect("in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_brought_whole_without_a_mount() {
    let mut image = published().await;
    image.request.fill_when_idle = false;
    let anonymous = || Script::answering(Ok(RegistryAuth::anonymous()));
    let stats = brought(&image, anonymous()).await.unwrap();
    assert_eq!(
        (stats.spans_present, stats.fs.bytes_filled),
        (stats.spans, 0)
    );
    assert!(!is_mounted(&image.request.mountpoint));
    image.sim.faults(|faults| faults.outage = true);
    let again = brought(&image, anonymous()).await.unwrap();
    assert_eq!(again.fs.requests, 0);
    let mounted = image.mount().await;
    check(&image).await;
    assert_eq!(mounted.stop().await.fs.requests, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_an_image_is_not_brought_whole_is_told() {
    let mut image = published().await;
    image.request.read_deadline = Duration::from_millis(300);
    let revoked = AuthError::Revoked {
        message: "taken back".to_owned(),
    };
    let error = brought(&image, Script::answering(Err(revoked))).await;
    let Err(FillError::Unread { message }) = error else {
        panic!("it is not read: {error:?}");
    };
    assert!(message.contains("taken back"), "{message}");
    image.sim.faults(|faults| faults.wrong_bytes = true);
    let anonymous = || Script::answering(Ok(RegistryAuth::anonymous()));
    let error = brought(&image, anonymous()).await;
    assert!(matches!(error, Err(FillError::Damaged { .. })), "{error:?}");
    image.sim.faults(|faults| faults.wrong_bytes = false);
    let limits = CacheLimits { max_bytes: 1 << 20 };
    let small = image.directory.path().join("small");
    image.request.cache = SpanCache::open(&small, limits).unwrap();
    let error = brought(&image, anonymous()).await;
    assert!(matches!(error, Err(FillError::NoRoom)), "{error:?}");
}
