//! A source that fails, a disk that lies or is full: readers get right bytes or one clear error.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use image_fs::{
    BlobError, CacheLimits, FsOptions, ImageFs, Notice, NoticeKind, ReadError, SpanCache,
};
use layer_index::Codec;
use tokio::time::Instant;

use crate::layers::{Shape, layer, open_layers};
use crate::reads::{Image, open};
use crate::source::{Fault, MemorySource};

const SPAN: usize = 64 * 1024;

fn transient() -> Fault {
    let message = "connection refused".to_owned();
    Fault::Error(BlobError::Transient {
        message,
        retry_after: None,
    })
}

fn denied() -> Fault {
    Fault::Error(BlobError::Denied {
        message: "unauthorized: bad password".to_owned(),
    })
}

pub(crate) type Heard = Arc<Mutex<Vec<Notice>>>;

pub(crate) fn listening(read_deadline: Duration) -> (FsOptions, Heard) {
    let heard = Heard::default();
    let sink = Arc::clone(&heard);
    let notices: image_fs::NoticeSink = Arc::new(move |notice| sink.lock().unwrap().push(notice));
    (
        FsOptions {
            read_deadline,
            notices: Some(notices),
            ..FsOptions::default()
        },
        heard,
    )
}

pub(crate) fn kinds(heard: &Heard) -> Vec<NoticeKind> {
    heard
        .lock()
        .unwrap()
        .iter()
        .map(|notice| notice.kind)
        .collect()
}

fn image(lengths: &[usize]) -> (Image, Heard) {
    let (options, heard) = listening(Duration::from_mins(2));
    (
        Image::open_with(layer(&Shape::default(), lengths), options),
        heard,
    )
}

#[tokio::test(start_paused = true)]
async fn hiccups_are_waited_out() {
    let (image, heard) = image(&[3 * SPAN]);
    image
        .source
        .fail_with([transient(), Fault::Short, transient()]);
    image.check(0).await;
    assert_eq!(image.fs.stats().retries, 3);
    assert_eq!(kinds(&heard), [NoticeKind::Waiting, NoticeKind::Recovered]);
}

#[tokio::test(start_paused = true)]
async fn a_registry_gone_for_thirty_seconds_is_no_error() {
    let (image, heard) = image(&[SPAN; 20]);
    image.source.always(Some(transient()));
    let begun = Instant::now();
    let readers: Vec<_> = (0..20)
        .map(|file| {
            let (fs, inode) = (Arc::clone(&image.fs), image.inode(file));
            tokio::spawn(async move { fs.read(inode, 0, SPAN).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(30)).await;
    let asked = image.source.request_count();
    image.source.always(None);
    for (file, reader) in readers.into_iter().enumerate() {
        assert!(reader.await.unwrap().unwrap() == image.content(file));
    }
    assert!(
        begun.elapsed() < Duration::from_secs(33),
        "{:?}",
        begun.elapsed()
    );
    assert!(
        asked < 60,
        "{asked} requests stormed a registry that was away"
    );
    assert_eq!(kinds(&heard), [NoticeKind::Waiting, NoticeKind::Recovered]);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_stays_away_is_an_error_at_the_deadline() {
    let (image, heard) = image(&[SPAN, SPAN]);
    image.source.always(Some(transient()));
    let begun = Instant::now();
    let error = image.fs.read(image.inode(0), 0, SPAN).await.unwrap_err();
    assert!(matches!(error, ReadError::Deadline { .. }), "{error:?}");
    assert!(error.to_string().contains("connection refused"), "{error}");
    let waited = begun.elapsed().as_secs();
    assert!((120..125).contains(&waited), "{waited} s");
    assert_eq!(kinds(&heard), [NoticeKind::Waiting, NoticeKind::Failed]);
    // Nothing of it stays: the next reader tries anew.
    image.source.always(None);
    image.check(0).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_credential_ends_the_wait() {
    let (image, heard) = image(&[SPAN]);
    image.source.always(Some(denied()));
    let (fs, inode) = (Arc::clone(&image.fs), image.inode(0));
    let reader = tokio::spawn(async move { fs.read(inode, 0, SPAN).await });
    tokio::time::sleep(Duration::from_mins(1)).await;
    let asked = image.source.request_count();
    assert!(asked < 25, "{asked} refused requests in a minute");
    image.source.always(None);
    assert!(reader.await.unwrap().unwrap() == image.content(0));
    assert_eq!(kinds(&heard), [NoticeKind::Denied, NoticeKind::Recovered]);
    assert!(heard.lock().unwrap()[0].message.contains("bad password"));
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_is_gone_holds_no_other_up() {
    let lower = layer(&Shape::default(), &[SPAN, 3 * SPAN]);
    let upper = layer(&Shape::default(), &[SPAN]);
    let source = MemorySource::new(&[lower.clone(), upper.clone()]);
    source.lose(&upper);
    let directory = tempfile::tempdir().unwrap();
    let cache = SpanCache::open(directory.path(), CacheLimits::default()).unwrap();
    let (options, heard) = listening(Duration::from_mins(2));
    let layers = [lower.index.clone(), upper.index.clone()];
    let origin = "registry.example/acme/fn";
    let layers = open_layers(&cache, origin, &layers).unwrap();
    let fs = ImageFs::new(layers, Arc::clone(&source) as _, options).unwrap();
    let fs = Arc::new(fs);
    let inode = |name: &[u8]| fs.tree().lookup(fs.tree().root(), name).unwrap();
    let (gone, there) = (inode(b"file-0"), inode(b"file-1"));
    let waiting = Arc::clone(&fs);
    let waiting = tokio::spawn(async move { waiting.read(gone, 0, SPAN).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    assert!(fs.read(there, 0, 3 * SPAN).await.unwrap() == lower.files[1].1);
    assert!(begun.elapsed() < Duration::from_millis(100));
    assert!(
        !waiting.is_finished(),
        "a layer that is pushed again is waited for"
    );
    source.find_all();
    assert!(waiting.await.unwrap().unwrap() == upper.files[0].1);
    assert_eq!(kinds(&heard), [NoticeKind::Denied, NoticeKind::Recovered]);
}

#[tokio::test(start_paused = true)]
async fn what_is_final_is_not_waited_for() {
    let (image, heard) = image(&[SPAN]);
    let message = "the credential was removed".to_owned();
    image
        .source
        .fail_with([Fault::Error(BlobError::Final { message })]);
    let begun = Instant::now();
    let error = image.fs.read(image.inode(0), 0, SPAN).await.unwrap_err();
    assert!(matches!(error, ReadError::Refused { .. }), "{error:?}");
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(kinds(&heard), [NoticeKind::Failed]);
    image.check(0).await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_is_asked_again() {
    let (image, _) = image(&[SPAN]);
    image.source.fail_with([Fault::Hang]);
    image.check(0).await;
    assert_eq!(image.source.request_count(), 2);
}

#[tokio::test(start_paused = true)]
async fn slow_progress_is_not_given_up() {
    let (options, _) = listening(Duration::from_secs(30));
    let shape = Shape {
        codec: Codec::Zstd,
        ..Shape::default()
    };
    let image = Image::open_with(layer(&shape, &[300 * SPAN]), options);
    image
        .source
        .always(Some(Fault::Slow(Duration::from_secs(25))));
    image.check(0).await;
    assert!(image.source.request_count() >= 5);
}

#[tokio::test(start_paused = true)]
async fn wrong_bytes_are_fetched_again_and_never_served() {
    for codec in [Codec::Tar, Codec::Zstd] {
        let (options, heard) = listening(Duration::from_mins(2));
        let image = Image::open_with(
            layer(
                &Shape {
                    codec,
                    ..Shape::default()
                },
                &[5 * SPAN],
            ),
            options,
        );
        image
            .source
            .fail_with([Fault::Flip(3 * SPAN + 5), Fault::Flip(200_000)]);
        image.check(0).await;
        assert_eq!(image.fs.stats().spans_corrupt, 2);
        assert_eq!(
            image
                .source
                .distrusted
                .load(std::sync::atomic::Ordering::SeqCst),
            2
        );
        assert_eq!(kinds(&heard)[0], NoticeKind::Corrupt);
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_always_wrong_is_an_error() {
    let (image, heard) = image(&[5 * SPAN]);
    image.source.always(Some(Fault::Flip(10)));
    let error = image.fs.read(image.inode(0), 0, 10).await.unwrap_err();
    assert!(matches!(error, ReadError::Corrupt { .. }), "{error:?}");
    assert_eq!(kinds(&heard).last(), Some(&NoticeKind::Failed));
    assert_eq!(image.source.request_count(), 3);
    assert_eq!(image.fs.read_cached(image.inode(0), 0, 10), None);
}

/// The data file of the only layer in the image's cache.
fn data_file(image: &Image) -> PathBuf {
    let one = |path: PathBuf| {
        std::fs::read_dir(path)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path()
    };
    one(one(image.directory.path().join("layers"))).join("data")
}

#[tokio::test]
async fn a_flipped_byte_on_disk_is_found_and_fetched_again() {
    let (image, _) = image(&[4 * SPAN]);
    image.check(0).await;
    let file = OpenOptions::new()
        .write(true)
        .open(data_file(&image))
        .unwrap();
    file.write_all_at(b"\x00\x01\x02", 2 * SPAN as u64).unwrap();
    let fresh = image.reopen();
    let begun = image.source.request_count();
    assert_eq!(fresh.read_cached(image.inode(0), 0, 4 * SPAN), None);
    let bytes = fresh.read(image.inode(0), 0, 4 * SPAN).await.unwrap();
    assert!(bytes == image.content(0));
    assert_eq!(
        image.source.request_count(),
        begun + 1,
        "only what was wrong"
    );
    assert!(fresh.read_cached(image.inode(0), 0, 4 * SPAN).unwrap() == image.content(0));
}

#[tokio::test]
async fn a_truncated_cache_file_is_filled_again_even_in_use() {
    let (image, _) = image(&[4 * SPAN]);
    image.check(0).await;
    let file = OpenOptions::new()
        .write(true)
        .open(data_file(&image))
        .unwrap();
    file.set_len(SPAN as u64).unwrap();
    assert_eq!(image.fs.read_cached(image.inode(0), 0, 4 * SPAN), None);
    image.check(0).await;
    assert!(image.fs.read_cached(image.inode(0), 0, 4 * SPAN).is_some());
}

#[tokio::test]
async fn a_byte_that_is_flipped_under_a_reader_is_never_served() {
    let (image, _) = image(&[4 * SPAN]);
    image.check(0).await;
    // Verified in this process, and read from the file by now.
    assert!(image.fs.read_cached(image.inode(0), 0, 4 * SPAN).unwrap() == image.content(0));
    let file = OpenOptions::new()
        .write(true)
        .open(data_file(&image))
        .unwrap();
    for at in [0, SPAN + 1, 4 * SPAN - 1] {
        let wrong = image.content(0)[at] ^ 1;
        file.write_all_at(&[wrong], at as u64).unwrap();
        let begun = image.source.request_count();
        for _ in 0..2 {
            let bytes = image.fs.read(image.inode(0), at as u64, 1).await.unwrap();
            assert_eq!(bytes[..], image.content(0)[at..=at], "at {at}");
        }
        image.check(0).await;
        assert_eq!(
            image.source.request_count(),
            begun + 1,
            "fetched once, at {at}"
        );
    }
}

#[tokio::test]
async fn a_cache_file_that_was_cut_and_has_grown_again_gives_no_zeros() {
    let (image, _) = image(&[8 * SPAN]);
    image.check(0).await;
    let file = OpenOptions::new()
        .write(true)
        .open(data_file(&image))
        .unwrap();
    file.set_len(SPAN as u64).unwrap();
    let bytes = |span: usize| image.fs.read(image.inode(0), (span * SPAN) as u64, SPAN);
    for span in [6, 2, 4] {
        let expected = &image.content(0)[span * SPAN..(span + 1) * SPAN];
        assert!(bytes(span).await.unwrap() == expected, "{span}");
    }
}

#[tokio::test]
async fn claims_without_data_are_found_out() {
    // A power cut may keep the map and lose the data.
    let (image, _) = image(&[4 * SPAN]);
    image.check(0).await;
    let file = OpenOptions::new()
        .write(true)
        .open(data_file(&image))
        .unwrap();
    file.set_len(0).unwrap();
    let fresh = image.reopen();
    assert_eq!(fresh.read_cached(image.inode(0), 0, 10), None);
    assert!(fresh.read(image.inode(0), 0, 4 * SPAN).await.unwrap() == image.content(0));
}

/// A file system of a few pages, taken off at the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size_bytes: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = std::ffi::CString::new(format!("size={size_bytes}")).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount(
            "tmpfs",
            directory.path(),
            "tmpfs",
            flags,
            options.as_c_str(),
        )
        .expect("this test mounts a tmpfs and needs root");
        Self(directory)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

#[tokio::test]
async fn a_full_disk_costs_speed_and_not_truth() {
    let disk = SmallDisk::mount(3 * SPAN);
    let cache = SpanCache::open(disk.0.path(), CacheLimits::default()).unwrap();
    let layer = layer(&Shape::default(), &[20 * SPAN]);
    let source = MemorySource::new(std::slice::from_ref(&layer));
    let (options, heard) = listening(Duration::from_secs(5));
    let fs = open(&layer, &cache, &source, options);
    let inode = fs.tree().lookup(fs.tree().root(), b"file-0").unwrap();
    for _ in 0..2 {
        let bytes = fs.read(inode, 0, 20 * SPAN).await.unwrap();
        assert!(bytes == layer.files[0].1);
    }
    assert_eq!(kinds(&heard), [NoticeKind::CacheFull], "told once");
    let (spans, present) = fs.spans_present();
    assert!(
        present < spans,
        "{present} of {spans} spans on a disk for three"
    );
}

/// Waits for fetches that read ahead: each keeps its layer in use until it ends.
async fn unused(cache: &SpanCache) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while cache.du().unwrap().iter().any(|layer| layer.in_use) {
        assert!(Instant::now() < deadline, "the layer stays in use");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_full_disk_makes_room_from_layers_that_nobody_uses() {
    let disk = SmallDisk::mount(12 * SPAN);
    let cache = SpanCache::open(disk.0.path(), CacheLimits::default()).unwrap();
    let old = layer(&Shape::default(), &[8 * SPAN]);
    let new = layer(&Shape::default(), &[8 * SPAN, 1]);
    for layer in [old, new] {
        let source = MemorySource::new(std::slice::from_ref(&layer));
        let (options, heard) = listening(Duration::from_secs(5));
        let fs = open(&layer, &cache, &source, options);
        let inode = fs.tree().lookup(fs.tree().root(), b"file-0").unwrap();
        assert!(fs.read(inode, 0, 8 * SPAN).await.unwrap() == layer.files[0].1);
        assert_eq!(kinds(&heard), []);
        drop(fs);
        unused(&cache).await;
    }
    assert_eq!(cache.du().unwrap().len(), 1);
}
