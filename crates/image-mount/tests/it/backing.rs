//! Files that the kernel reads by itself: the same bytes, without the mount process.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Mounted, Published, Unmount, archive, blocking, shell};

/// A file that is just large enough, mostly holes, and one that is not.
const FILES: &str = "truncate -s 67108864 large
    for at in 0 17 41 63; do
        seq $at 120000 | dd of=large bs=1M seek=$at conv=notrunc status=none
    done
    seq 100000 > small";

const LARGE_BYTES: u64 = 67_108_864;

/// Longest wait for something that has been set in motion.
const PATIENCE: Duration = Duration::from_mins(1);

/// Between two looks.
const MOMENT: Duration = Duration::from_millis(1);

/// An image of which everything is in the cache and nothing in the kernel's memory.
async fn warm_image() -> Published {
    let image = Published::new(&[archive(FILES)]).await;
    let mounted = image.mount().await;
    let path = image.path("large");
    blocking(move || fs::read(path).unwrap()).await;
    mounted.stop().await;
    image
}

/// The files as they were before they were an image.
fn originals(directory: &Path) {
    fs::create_dir(directory.join("originals")).unwrap();
    shell(&directory.join("originals"), FILES);
}

async fn open(image: &Published) -> File {
    let path = image.path("large");
    blocking(move || File::open(path).unwrap()).await
}

async fn reads(mounted: &Mounted) -> u64 {
    mounted.process.stats().await.unwrap().fs.reads
}

/// Returns when the copy is there.
async fn until_copied(mounted: &Mounted) {
    let copied = async {
        while mounted.process.stats().await.unwrap().files_backed == 0 {
            tokio::time::sleep(MOMENT).await;
        }
    };
    tokio::time::timeout(PATIENCE, copied)
        .await
        .expect("in time");
}

/// The file, opened so that the kernel reads it: that it was closed is told by and by.
async fn open_backed(image: &Published, mounted: &Mounted) -> File {
    let opened = async {
        let mut page = 0;
        loop {
            let (file, before) = (open(image).await, reads(mounted).await);
            let file = blocking(move || {
                let mut bytes = [0; 1];
                file.read_exact_at(&mut bytes, (LARGE_BYTES - 1) / 101 * (page % 101))
                    .unwrap();
                file
            });
            let file = file.await;
            if reads(mounted).await == before {
                return file;
            }
            page += 1;
        }
    };
    tokio::time::timeout(PATIENCE, opened)
        .await
        .expect("in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_that_is_opened_again_is_read_by_the_kernel() {
    let image = warm_image().await;
    let mounted = image.mount().await;
    for _ in 0..2 {
        drop(open(&image).await);
    }
    until_copied(&mounted).await;
    let _file = open_backed(&image, &mounted).await;
    let before = reads(&mounted).await;
    let directory = image.directory.path().to_owned();
    let compare = blocking(move || {
        originals(&directory);
        let _guard = Unmount(directory.join("merged"));
        shell(
            &directory,
            "mkdir upper work merged
             mount -t overlay c -o lowerdir=image,upperdir=upper,workdir=work merged
             for root in image merged; do
                 cmp originals/large $root/large
                 python3 -c \"
import mmap, sys
with open('originals/large', 'rb') as a, open('$root/large', 'rb') as b:
    assert mmap.mmap(b.fileno(), 0, prot=mmap.PROT_READ)[:] == a.read()
\"
             done",
        );
        directory
    });
    let directory = compare.await;
    assert_eq!(reads(&mounted).await, before);
    // Who goes round the page cache is answered as ever, also where no block begins.
    blocking(move || {
        shell(
            &directory,
            "cmp originals/small image/small
             for root in image; do
                 dd if=$root/large iflag=direct bs=300001 status=none | cmp originals/large
             done",
        );
    })
    .await;
    assert!(reads(&mounted).await > before);
    mounted.stop().await;
    assert!(is_empty(&image.directory.path().join("cache/backing")));
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_large_file_smaller_ones_are_backed_too() {
    const BACKED_BYTES: usize = 4 << 20;
    let image = Published::new(&[archive(
        "truncate -s 67108864 large
         head -c 4194304 /dev/urandom > backed
         head -c 4194303 backed > asked",
    )])
    .await;
    let mounted = image.mount().await;
    let read = async |name: &str| {
        let path = image.path(name);
        blocking(move || fs::read(path).unwrap()).await
    };
    // The smaller one is wanted first, if it is at all.
    for name in ["asked", "backed", "asked", "backed"] {
        read(name).await;
    }
    until_copied(&mounted).await;
    let (asked, backed) = (read("asked").await, read("backed").await);
    assert_eq!(backed.len(), BACKED_BYTES);
    assert!(asked == backed[..BACKED_BYTES - 1]);
    let stats = mounted.stop().await;
    assert_eq!(stats.files_backed, 1, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_a_middling_size_are_backed_where_there_are_many() {
    // Together as much as one large file.
    let files = "for number in $(seq 16); do truncate -s 4194304 $number; done";
    let image = Published::new(&[archive(files)]).await;
    let mounted = image.mount().await;
    for _ in 0..2 {
        let path = image.path("7");
        blocking(move || assert_eq!(fs::read(path).unwrap(), vec![0; 4 << 20])).await;
    }
    until_copied(&mounted).await;
    assert_eq!(mounted.stop().await.files_backed, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_not_open_in_both_ways_at_once() {
    let image = warm_image().await;
    let mounted = image.mount().await;
    let first = open(&image).await;
    drop(open(&image).await);
    until_copied(&mounted).await;
    let (second, before) = (open(&image).await, reads(&mounted).await);
    let (first, second) = blocking(move || {
        let mut bytes = [[0; 2]; 2];
        first.read_exact_at(&mut bytes[0], 17 << 20).unwrap();
        second.read_exact_at(&mut bytes[1], 63 << 20).unwrap();
        assert_eq!(bytes, [*b"17", *b"63"]);
        (first, second)
    })
    .await;
    assert!(reads(&mounted).await > before);
    drop((first, second));
    let backed = open_backed(&image, &mounted).await;
    let again = open(&image).await;
    blocking(move || {
        let mut bytes = [[0; 2]; 2];
        backed.read_exact_at(&mut bytes[0], 17 << 20).unwrap();
        again.read_exact_at(&mut bytes[1], 63 << 20).unwrap();
        assert_eq!(bytes, [*b"17", *b"63"]);
    })
    .await;
    mounted.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_which_something_is_missing_is_not_backed() {
    let files = "truncate -s 67108864 large
        for at in 0 40; do
            head -c 4000000 /dev/urandom | dd of=large bs=1M seek=$at conv=notrunc status=none
        done";
    let image = Published::new(&[archive(files)]).await;
    let mounted = image.mount().await;
    for _ in 0..3 {
        let file = open(&image).await;
        blocking(move || file.read_exact_at(&mut [0; 9], 40 << 20).unwrap()).await;
    }
    let stats = mounted.stop().await;
    assert_eq!(stats.files_backed, 0);
    assert!(stats.spans_present < stats.spans, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backed_file_outlives_no_mount_process() {
    let image = warm_image().await;
    let mut mounted = image.mount().await;
    for _ in 0..2 {
        drop(open(&image).await);
    }
    until_copied(&mounted).await;
    let held = open_backed(&image, &mounted).await;
    let pid = i32::try_from(mounted.process.pid()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    let path = image.path("large");
    let died = tokio::time::timeout(PATIENCE, mounted.process.died());
    died.await.expect("in time");
    blocking(move || {
        let error = File::open(path).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::NotConnected | ErrorKind::NotFound),
            "{error}"
        );
        // What is open may go on: with its bytes, or not at all.
        let mut bytes = [0; 2];
        if held.read_exact_at(&mut bytes, 41 << 20).is_ok() {
            assert_eq!(&bytes, b"41");
        }
    })
    .await;
    assert!(is_empty(&image.directory.path().join("cache/backing")));
}
