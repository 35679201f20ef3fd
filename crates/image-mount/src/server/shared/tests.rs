//! Reading with a store and a registry that a test plays: plain TCP, one answer a connection.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::AtomicUsize;

use credential::auth::{Anonymous, AuthError};
use credential::auth::{AuthFuture, AuthRequest, SharedFuture};
use dial::DialPolicy;
use registry_client::{Endpoint, RegistryClient, RetryPolicy};
use shared_cache::{CacheSecret, Sealing};

use super::*;

const SIZE: usize = 100_000;
const REPOSITORY: &str = "acme/app";

fn layer() -> Vec<u8> {
    (0..SIZE).map(|at| (at * 31 % 251) as u8).collect()
}

fn digest() -> String {
    Digest::sha256([9; 32]).to_string()
}

fn key(origin: &str) -> LayerKey {
    let secret = CacheSecret::from_text(&"07".repeat(32).into()).expect("a secret");
    secret.layer_key(origin, &digest())
}

fn object() -> Vec<u8> {
    let mut sealing = Sealing::new(&key("own"), SIZE as u64);
    let mut sealed = Vec::new();
    sealing.push(&layer(), &mut sealed).expect("its size");
    sealing.finish().expect("its size");
    sealed
}

/// A host that gives ranges of these bytes, or as little as `answer` says.
struct Host {
    address: String,
    asked: Arc<AtomicUsize>,
}

#[derive(Clone, Copy)]
enum Answer {
    Range,
    Status(u16),
    /// Half of the range, and then silence.
    Half,
    Silence,
}

impl Host {
    fn of(bytes: Vec<u8>, answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::Relaxed);
                silent.extend(serve(stream, &bytes, answer));
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

/// Answers once. Gives back a connection that is to stay open and silent.
fn serve(mut stream: TcpStream, bytes: &[u8], answer: Answer) -> Option<TcpStream> {
    let mut range = 0..bytes.len();
    let reader = BufReader::new(stream.try_clone().expect("a socket"));
    for line in reader.lines() {
        let line = line.ok()?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(asked) = line.strip_prefix("range: bytes=") {
            let (start, end) = asked.split_once('-')?;
            range = start.parse().ok()?..end.parse::<usize>().ok()? + 1;
        }
    }
    let place = format!("{}-{}/{}", range.start, range.end.max(1) - 1, bytes.len());
    let head = |status: u16, length: usize| {
        format!(
            "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\ncontent-range: bytes {place}\r\n\
             connection: close\r\n\r\n"
        )
    };
    let body = bytes.get(range).unwrap_or_default();
    let (head, sent) = match answer {
        Answer::Silence => return Some(stream),
        Answer::Status(status) => (head(status, 0), &body[..0]),
        Answer::Range => (head(206, body.len()), body),
        Answer::Half => (head(206, body.len()), &body[..body.len() / 2]),
    };
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(sent).ok()?;
    matches!(answer, Answer::Half).then_some(stream)
}

/// A parent that tells of one layer in a store.
#[derive(Debug)]
struct Parent {
    store: Option<String>,
    key: LayerKey,
    life: Duration,
    asked: AtomicUsize,
}

impl AuthSource for Parent {
    fn auth<'a>(&'a self, request: AuthRequest<'a>) -> AuthFuture<'a> {
        Anonymous.auth(request)
    }

    fn shared<'a>(&'a self, request: SharedRequest<'a>) -> SharedFuture<'a> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        assert_eq!(request.repository, REPOSITORY);
        let found = self.store.as_ref().map(|store| SharedLayer {
            url: format!("http://{store}/object?signature=canary").into(),
            key: self.key.to_text(),
            not_after: Timestamp::now() + self.life,
            plain_http: true,
            ca_pem: None,
        });
        Box::pin(async { Ok::<_, AuthError>(found) })
    }
}

struct Scene {
    blobs: SharedBlobs,
    parent: Arc<Parent>,
    registry: Host,
}

impl Scene {
    fn of(store: Option<&Host>, key: LayerKey) -> Self {
        Self::with_life(store, key, Duration::from_mins(5))
    }

    fn with_life(store: Option<&Host>, key: LayerKey, life: Duration) -> Self {
        let parent = Arc::new(Parent {
            store: store.map(|host| host.address.clone()),
            key,
            life,
            asked: AtomicUsize::new(0),
        });
        let registry = Host::of(layer(), Answer::Range);
        let name = Registry::parse(&registry.address).expect("a registry");
        let dialer = Dialer::new(DialPolicy::default());
        let endpoint = Endpoint {
            registry: name.clone(),
            plain_http: true,
            ca_pem: None,
        };
        let auth = Arc::clone(&parent) as Arc<dyn AuthSource>;
        let retry = RetryPolicy::default();
        let client = RegistryClient::with_retry(&dialer, endpoint, Arc::clone(&auth), retry);
        let store = Store {
            auth,
            dialer,
            registry: name,
            repository: REPOSITORY.to_owned(),
            bytes: Arc::default(),
            layers: Mutex::default(),
            standing: Mutex::default(),
        };
        let registry_blobs = RegistryBlobs {
            client: client.expect("a client"),
            repository: REPOSITORY.to_owned(),
        };
        Self {
            blobs: SharedBlobs::new(store, registry_blobs),
            parent,
            registry,
        }
    }

    /// Reads a stretch, which has to be right, and says how much of it the store gave.
    async fn read(&self, range: Range<u64>) -> u64 {
        let before = self.blobs.store.bytes.load(Ordering::Relaxed);
        let mut came = Vec::new();
        let mut take = |piece: Bytes| came.extend_from_slice(&piece);
        let (digest, size) = (digest(), SIZE as u64);
        let read = self.blobs.read(&digest, size, range.clone(), &mut take);
        read.await.expect("the stretch");
        let expected = &layer()[range.start as usize..range.end as usize];
        assert!(came == expected, "other bytes");
        self.blobs.store.bytes.load(Ordering::Relaxed) - before
    }
}

const RANGE_READ: Range<u64> = 20_000..80_000;
const LENGTH: u64 = 60_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_is_shared_is_read_there_and_the_parent_asked_once() {
    let store = Host::of(object(), Answer::Range);
    let scene = Scene::of(Some(&store), key("own"));
    for range in [RANGE_READ, 0..SIZE as u64, 99_999..100_000] {
        let length = range.end - range.start;
        assert_eq!(scene.read(range).await, length);
    }
    assert_eq!(scene.parent.asked.load(Ordering::Relaxed), 1);
    assert_eq!((store.asked(), scene.registry.asked()), (3, 0));
    let shown = format!("{:?}", scene.blobs);
    assert!(
        !shown.contains("canary") && !shown.contains("0707"),
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_does_not_give_the_registry_does() {
    let mut changed = object();
    changed[40_000] ^= 1;
    let other = key("another origin");
    for (what, bytes, answer, key, at_most, asked_again) in [
        (
            "absent",
            object(),
            Answer::Status(404),
            key("own"),
            0,
            false,
        ),
        (
            "refused",
            object(),
            Answer::Status(403),
            key("own"),
            0,
            false,
        ),
        ("ill", object(), Answer::Status(500), key("own"), 0, false),
        ("whole", object(), Answer::Status(200), key("own"), 0, false),
        (
            "sealed for another",
            object(),
            Answer::Range,
            other,
            0,
            false,
        ),
        ("changed", changed, Answer::Range, key("own"), 20_000, false),
        ("short", vec![0; 10], Answer::Range, key("own"), 0, false),
        ("silent", object(), Answer::Silence, key("own"), 0, false),
        (
            "silent later",
            object(),
            Answer::Half,
            key("own"),
            40_000,
            false,
        ),
    ] {
        let store = Host::of(bytes, answer);
        let scene = Scene::of(Some(&store), key);
        let came = scene.read(RANGE_READ).await;
        assert!(came <= at_most && came < LENGTH, "{what}: {came}");
        assert!(scene.registry.asked() > 0, "{what}");
        let again = scene.read(RANGE_READ).await;
        assert_eq!(again != 0, asked_again, "{what}");
        assert_eq!(store.asked(), 1, "{what}: it is left alone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_is_not_shared_or_distrusted_is_the_registrys() {
    let scene = Scene::of(None, key("own"));
    assert_eq!(scene.read(RANGE_READ).await, 0);
    assert_eq!(scene.read(RANGE_READ).await, 0);
    assert_eq!(
        scene.parent.asked.load(Ordering::Relaxed),
        1,
        "and not again"
    );

    let store = Host::of(object(), Answer::Range);
    let scene = Scene::of(Some(&store), key("own"));
    assert_eq!(scene.read(RANGE_READ).await, LENGTH);
    scene.blobs.distrust(&digest());
    assert_eq!(scene.read(RANGE_READ).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_that_nears_its_end_is_asked_for_anew() {
    let store = Host::of(object(), Answer::Range);
    let scene = Scene::with_life(Some(&store), key("own"), URL_MARGIN);
    for asked in 1..3 {
        assert_eq!(scene.read(RANGE_READ).await, LENGTH);
        assert_eq!(scene.parent.asked.load(Ordering::Relaxed), asked);
    }
}
