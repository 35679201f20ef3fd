//! What the kernel reads ahead of a program, and what is recorded of it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use crate::support::{Published, archive, blocking, shell};

const KIB: u64 = 1024;

/// What the kernel reads around a page, if nobody says otherwise.
const AROUND_A_PAGE: u64 = 128 * KIB;

/// What a span holds, but for the last one of a layer.
const SPAN: u64 = 256 * KIB;

/// Longest wait for something that has been set in motion.
const PATIENCE: Duration = Duration::from_mins(1);

async fn image(start_lasts: Duration) -> Published {
    let mut image = Published::new(&[archive("head -c 9000000 /dev/urandom > large")]).await;
    image.request.start_lasts = start_lasts;
    image
}

/// A byte in the middle of the file, through a mapping.
async fn touch(image: &Published) {
    let directory = image.directory.path().to_owned();
    let script = "python3 -c \"
import mmap
with open('image/large', 'rb') as large:
    mmap.mmap(large.fileno(), 0, prot=mmap.PROT_READ)[4500000]
\"";
    blocking(move || shell(&directory, script)).await;
}

fn read_ahead_kib(mountpoint: &Path) -> u64 {
    let device = fs::metadata(mountpoint).unwrap().dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let path = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_reads_and_records_little_around_what_it_touches() {
    let image = image(Duration::from_hours(1)).await;
    let mounted = image.mount().await;
    touch(&image).await;
    let trace = mounted.process.trace().await.unwrap();
    let most = AROUND_A_PAGE.div_ceil(SPAN) + 1;
    assert!(trace.len() as u64 <= most, "{trace:?}");
    let stats = mounted.stop().await;
    assert!(stats.fs.bytes_served <= AROUND_A_PAGE, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_after_a_start_is_read_ahead_widely() {
    let image = image(Duration::from_millis(1)).await;
    let mounted = image.mount().await;
    let mountpoint = image.request.mountpoint.clone();
    let widened = async {
        while read_ahead_kib(&mountpoint) <= AROUND_A_PAGE / KIB {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, widened)
        .await
        .expect("in time");
    touch(&image).await;
    let stats = mounted.stop().await;
    assert!(stats.fs.bytes_served > 8 * AROUND_A_PAGE, "{stats:?}");
}
