//! What a mount reads of a cache that workers share, and that without one it asks nobody for it.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use credential::auth::{
    AuthFuture, AuthRequest, AuthSource, RegistryAuth, SharedFuture, SharedLayer, SharedRequest,
};
use dial::Dialer;
use futures::TryStreamExt;
use image_mount::{MountProcess, MountStats};
use jiff::{Timestamp, ToSpan};
use reference::Digest;
use registry_client::{Endpoint, RegistryClient};
use shared_cache::{CacheSecret, Sealing};

use crate::support::{Published, REPOSITORY, Script, Unmount, archive, blocking, program};

/// A parent that knows of one layer, or of none, in a shared cache.
#[derive(Debug, Default)]
struct Parent {
    found: Option<SharedLayer>,
    asked: AtomicU64,
}

impl AuthSource for Parent {
    fn auth<'a>(&'a self, _request: AuthRequest<'a>) -> AuthFuture<'a> {
        Box::pin(async { Ok(RegistryAuth::anonymous()) })
    }

    fn shared<'a>(&'a self, _request: SharedRequest<'a>) -> SharedFuture<'a> {
        self.asked.fetch_add(1, SeqCst);
        Box::pin(async { Ok(self.found.clone()) })
    }
}

async fn image(has_shared_cache: bool) -> Published {
    let mut image = Published::new(&[archive("seq 100000 > file")]).await;
    image.request.has_shared_cache = has_shared_cache;
    image
}

/// Reads the file, which has to be right.
async fn read(image: &Published, parent: &Arc<Parent>) -> MountStats {
    let _guard = Unmount(image.request.mountpoint.clone());
    let source = Arc::clone(parent) as Arc<dyn AuthSource>;
    let process = MountProcess::spawn(&program(), image.request.clone(), source)
        .await
        .unwrap();
    let path = image.path("file");
    let lines = (1..=100_000).map(|number| format!("{number}\n"));
    let content = lines.collect::<String>();
    assert!(blocking(move || fs::read(path)).await.unwrap() == content.into_bytes());
    process.stop().await.unwrap()
}

/// Puts the image's layer, sealed, beside it, and takes the layer itself away.
async fn move_layer(image: &Published) -> SharedLayer {
    let endpoint = Endpoint {
        plain_http: true,
        ..Endpoint::new(image.request.registry.clone())
    };
    let dialer = Dialer::new(image.request.dial.clone());
    let auth = Script::answering(Ok(RegistryAuth::anonymous()));
    let client = RegistryClient::new(&dialer, endpoint, auth).unwrap();
    let header = &image.request.layers[0].index.header;
    let digest = Digest::parse(&header.layer_digest).unwrap();
    let size = header.compressed_size;
    let coming = client.blob_range_stream(REPOSITORY, &digest, size, 0..size);
    let pieces: Vec<_> = coming.await.unwrap().try_collect().await.unwrap();
    let key = CacheSecret::random().layer_key("origin", digest.as_str());
    let (mut sealing, mut sealed) = (Sealing::new(&key, size), Vec::new());
    for piece in pieces {
        sealing.push(&piece, &mut sealed).unwrap();
    }
    sealing.finish().unwrap();
    let object = Digest::sha256([9; 32]);
    image.sim.put_blob(REPOSITORY, object.as_str(), sealed);
    image.sim.remove_blob(REPOSITORY, digest.as_str());
    let host = image.sim.host();
    SharedLayer {
        url: format!("http://{host}/v2/{REPOSITORY}/blobs/{object}").into(),
        key: key.to_text(),
        not_after: Timestamp::now() + 5.minutes(),
        plain_http: true,
        ca_pem: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_shared_cache_nobody_is_asked_for_one() {
    let image = image(false).await;
    let parent = Arc::new(Parent::default());
    let stats = read(&image, &parent).await;
    assert_eq!((parent.asked.load(SeqCst), stats.bytes_shared), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_that_is_not_shared_is_asked_for_once() {
    let image = image(true).await;
    let parent = Arc::new(Parent::default());
    let stats = read(&image, &parent).await;
    assert_eq!((parent.asked.load(SeqCst), stats.bytes_shared), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_that_its_registry_has_lost_is_read_where_it_is_shared() {
    let image = image(true).await;
    let parent = Arc::new(Parent {
        found: Some(move_layer(&image).await),
        ..Parent::default()
    });
    let stats = read(&image, &parent).await;
    assert_eq!(parent.asked.load(SeqCst), 1);
    assert_eq!(stats.bytes_shared, stats.fs.bytes_fetched);
    assert_ne!(stats.bytes_shared, 0);
}
