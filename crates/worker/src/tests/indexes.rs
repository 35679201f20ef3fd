//! Indexes that a machine has not got come from the control plane, and are kept if they are right.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use image_store::{ImageStore, IndexKey};
use layer_index::{Builder, Codec, Layer, Scratch, SpanDigests};
use tempfile::TempDir;
use worker_protocol::ended::Cause;
use worker_protocol::{Delivery, Start};

use super::control_plane::{Plane, Stock};
use super::machines::Played;
use super::starts::with_setup;

const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const ORIGIN: &str = "registry.test/team/app";
const KEY: IndexKey<'static> = IndexKey {
    origin: ORIGIN,
    layer: DIGEST,
};

/// An index of this layer, and its root.
fn index_of(digest: &str) -> (Bytes, [u8; 32]) {
    let (directory, store) = store();
    let mut file = store.new_file().unwrap();
    let layer = Layer {
        layer_digest: digest.to_owned(),
        diff_id: digest.to_owned(),
        codec: Codec::Tar,
        compressed_size: 0,
    };
    let scratch = Scratch::in_memory();
    let digests = SpanDigests::new(&scratch);
    let builder = Builder::new(&scratch);
    builder.finish(layer, digests, &mut file).unwrap();
    let key = IndexKey {
        origin: "made",
        layer: digest,
    };
    let root = store.publish_index(key, file).unwrap().root;
    let bytes = std::fs::read(store.index_path(key).unwrap()).unwrap();
    drop(directory);
    (bytes.into(), root)
}

fn store() -> (TempDir, ImageStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = ImageStore::open(directory.path()).unwrap();
    (directory, store)
}

fn start(container: &str, root: [u8; 32]) -> Start {
    let mut start = with_setup("app:main", 1);
    start.delivery = Some(Delivery {
        container: container.to_owned(),
        number: 1,
    });
    let layer = &mut start.image.as_mut().unwrap().layers[0];
    layer.digest = DIGEST.to_owned();
    layer.index_root = root.to_vec().into();
    start
}

#[tokio::test]
async fn an_index_that_is_not_here_is_asked_for_once_and_kept() {
    let ((index, root), (_directory, store)) = (index_of(DIGEST), store());
    let (machine, mut programs) = Played::with_store(store.clone());
    let asked = Arc::new(AtomicUsize::new(0));
    let stock = Stock {
        index: Some(index),
        index_questions: Arc::clone(&asked),
        ..Stock::default()
    };
    let mut plane = Plane::start(Arc::new(machine), stock).await;
    let mut running = Vec::new();
    for container in ["ctr-1", "ctr-2"] {
        plane.start_container(start(container, root)).await;
        running.push(programs.recv().await.expect("it is launched"));
        assert_eq!(store.index(KEY).unwrap().unwrap().root, root);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_index_that_is_not_the_promised_one_is_not_kept() {
    let (index, root) = index_of(DIGEST);
    let (other, other_root) = index_of(&DIGEST.replace("aa", "bb"));
    let long = [&index[..], b"more"].concat();
    let table = [
        (None, root),
        (Some(index.slice(..index.len() - 1)), root),
        (Some(Bytes::from(long)), root),
        (Some(Bytes::new()), root),
        (Some(other.clone()), root),
        (Some(other), other_root),
        (Some(index), other_root),
    ];
    for (number, (index, root)) in table.into_iter().enumerate() {
        let (directory, store) = store();
        let (machine, _programs) = Played::with_store(store.clone());
        let stock = Stock {
            index,
            ..Stock::default()
        };
        let mut plane = Plane::start(Arc::new(machine), stock).await;
        plane.start_container(start("ctr-1", root)).await;
        let ended = plane.ended().await;
        assert_eq!(ended.cause(), Cause::Index, "{number}: {}", ended.reason);
        assert!(ended.reason.contains(DIGEST), "{}", ended.reason);
        assert!(store.index(KEY).unwrap().is_none(), "{number}");
        let drafts = std::fs::read_dir(directory.path().join("tmp")).unwrap();
        let drafts = drafts.filter(|draft| draft.as_ref().unwrap().metadata().unwrap().len() > 0);
        assert_eq!(drafts.count(), 0, "{number}: nothing half-written is left");
    }
}
