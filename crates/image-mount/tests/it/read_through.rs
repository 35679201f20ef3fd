//! A mount whose parent reads for it: it holds no auth and asks no registry.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use credential::auth::{
    AuthError, AuthFuture, AuthRequest, AuthSource, LocationFuture, LocationRequest, Pieces,
    ReadError, ReadFrom, ReadFuture, ReadRequest,
};
use dial::Dialer;
use e2e::memory::holds;
use futures::{StreamExt, stream};
use image_mount::MountProcess;
use registry_client::{Endpoint, RegistryClient, RegistryError};
use registry_sim::{Login, Options};

use crate::support::{Published, Script, Unmount, archive, basic, blocking, program};

/// Reads what it is asked for, counts what is under way, and gives no auth.
#[derive(Debug)]
struct Reader {
    reader: RegistryClient,
    was_asked_for_auth: AtomicBool,
    reads: AtomicU64,
    /// It sends nothing, and no end.
    is_silent: AtomicBool,
    under_way: Arc<AtomicU64>,
    most_under_way: AtomicU64,
}

/// A read that has not ended.
struct UnderWay(Arc<AtomicU64>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl AuthSource for Reader {
    fn auth<'a>(&'a self, _request: AuthRequest<'a>) -> AuthFuture<'a> {
        self.was_asked_for_auth.store(true, SeqCst);
        Box::pin(async {
            Err(AuthError::Refused {
                message: "there is none for a mount".to_owned(),
            })
        })
    }

    fn location<'a>(&'a self, _request: LocationRequest<'a>) -> LocationFuture<'a> {
        Box::pin(async { Ok(ReadFrom::Source) })
    }

    fn read<'a>(&'a self, request: ReadRequest<'a>) -> ReadFuture<'a> {
        Box::pin(async move {
            self.reads.fetch_add(1, SeqCst);
            let now = self.under_way.fetch_add(1, SeqCst) + 1;
            self.most_under_way.fetch_max(now, SeqCst);
            let under_way = UnderWay(Arc::clone(&self.under_way));
            if self.is_silent.load(SeqCst) {
                let silence = stream::pending().map(move |piece| {
                    let _until_dropped = &under_way;
                    piece
                });
                return Ok(Box::pin(silence) as Pieces);
            }
            let (repository, digest) = (request.repository, request.digest);
            let pieces = self.reader.blob_range_stream(
                repository,
                digest,
                request.size_bytes,
                request.range,
            );
            let pieces = pieces.await.map_err(|error| read_error(&error))?;
            let pieces = pieces.map(move |piece| {
                let _until_dropped = &under_way;
                piece.map_err(|error| read_error(&error))
            });
            Ok(Box::pin(pieces) as Pieces)
        })
    }
}

fn read_error(error: &RegistryError) -> ReadError {
    let message = error.to_string();
    AuthError::Unreachable { message }.into()
}

struct Stage {
    image: Published,
    source: Arc<Reader>,
    process: MountProcess,
    _guard: Unmount,
}

impl Stage {
    async fn new(options: Options) -> Self {
        let password = options.password.clone();
        let archives = [
            archive("head -c 20000000 /dev/urandom > noise"),
            archive("seq 1 100 > high"),
        ];
        let image = Published::with(options, &archives).await;
        let source = Arc::new(Reader {
            reader: RegistryClient::new(
                &Dialer::new(image.request.dial.clone()),
                Endpoint {
                    plain_http: true,
                    ..Endpoint::new(image.request.registry.clone())
                },
                Script::answering(Ok(basic(1, &password))),
            )
            .unwrap(),
            was_asked_for_auth: AtomicBool::new(false),
            reads: AtomicU64::default(),
            is_silent: AtomicBool::new(false),
            under_way: Arc::default(),
            most_under_way: AtomicU64::default(),
        });
        let guard = Unmount(image.request.mountpoint.clone());
        let own = Arc::clone(&source) as Arc<dyn AuthSource>;
        let process = MountProcess::spawn(&program(), image.request.clone(), own)
            .await
            .unwrap();
        Self {
            image,
            source,
            process,
            _guard: guard,
        }
    }

    async fn length(&self, name: &str) -> usize {
        let path = self.image.path(name);
        blocking(move || fs::read(path).unwrap().len()).await
    }
}

fn options() -> Options {
    Options {
        login: Login::Basic,
        // Nothing that stands in the program itself.
        password: format!("{:032x}", fastrand::u128(..)),
        ..Options::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_reads_through_its_parent_and_holds_no_auth() {
    let options = options();
    let password = options.password.clone();
    let pair = BASE64_STANDARD.encode(format!("{}:{password}", options.username));
    let stage = Stage::new(options).await;
    let (noise, high) = tokio::join!(stage.length("noise"), stage.length("high"));
    assert_eq!((noise, high), (20_000_000, 292));
    let source = &stage.source;
    assert!(!source.was_asked_for_auth.load(SeqCst));
    let most = source.most_under_way.load(SeqCst);
    assert!(most > 1, "reads follow each other without a pause: {most}");
    let pid = stage.process.pid();
    let layer = stage.image.request.layers[0]
        .index
        .header
        .layer_digest
        .clone();
    let is_found = blocking(move || holds(pid, &[layer])).await;
    assert!(is_found, "its memory is searched");
    let is_held = blocking(move || holds(pid, &[password, pair])).await;
    assert!(!is_held, "the mount process holds an auth");
    stage.process.stop().await.unwrap();
}

/// The connection breaks in each read, after some bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_through_the_parent_that_breaks_goes_on_where_it_ended() {
    let stage = Stage::new(options()).await;
    stage.image.sim.faults(|faults| {
        faults.reset_after = Some(300_000);
        faults.break_times = Some(20);
    });
    assert_eq!(stage.length("noise").await, 20_000_000);
    stage.image.sim.faults(|faults| {
        assert_ne!(faults.break_times, Some(20), "none has broken");
    });
    stage.process.stop().await.unwrap();
}

/// Who waits for bytes is killed: what was asked for it is given up, and others are still answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_end_with_their_mount() {
    let stage = Stage::new(options()).await;
    assert_eq!(stage.length("high").await, 292);
    let under_way = Arc::clone(&stage.source.under_way);
    stage.source.is_silent.store(true, SeqCst);
    let path = stage.image.path("noise");
    let waiting = tokio::task::spawn_blocking(move || fs::read(path));
    until("a read waits for bytes", || under_way.load(SeqCst) > 0).await;
    stage.process.stop().await.unwrap();
    until("reads end with their mount", || under_way.load(SeqCst) == 0).await;
    let read = waiting.await.expect("it returns");
    assert!(read.is_err(), "who waited has an error");
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let becomes_so = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    let became_so = tokio::time::timeout(std::time::Duration::from_secs(30), becomes_so).await;
    assert!(became_so.is_ok(), "{what}");
}
