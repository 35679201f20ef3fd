//! Layers made by the system's own tools, a registry that has them, and mounts that go away with
//! the test whatever becomes of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use credential::auth::{AuthError, AuthFuture, AuthRequest, AuthScheme, AuthSource, RegistryAuth};
use dial::DialPolicy;
use image_fs::{CacheLimits, SpanCache};
use image_mount::{LayerRef, MountError, MountProcess, MountRequest};
use layer_index::{LayerIndex, Tree};
use reference::Registry;
use registry_sim::{ImageBuilder, Layer, Options, RegistrySim};
use tempfile::TempDir;

pub(crate) const REPOSITORY: &str = "acme/fn";

/// The program that a `MountProcess` starts.
pub(crate) fn program() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mount-server")
}

/// In memory, which is many times faster to write and take away than a disk.
const MEMORY: &str = "/dev/shm";

/// A directory to work in: in memory where that keeps attributes, which it does since Linux 6.6.
pub(crate) fn scratch() -> TempDir {
    let in_memory = TempDir::new_in(MEMORY).ok().filter(|directory| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(directory.path(), "user.probe", b"", flags).is_ok()
    });
    in_memory.unwrap_or_else(|| TempDir::new().unwrap())
}

/// Runs a script in `directory` with the layer's own idea of permissions.
pub(crate) fn shell(directory: &Path, script: &str) {
    assert!(
        rustix::process::geteuid().is_root(),
        "these tests need root"
    );
    let output = Command::new("bash")
        .args(["-euc", &format!("umask 022\n{script}")])
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .expect("bash runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{said}");
}

/// An archive of what `script` makes in an empty directory.
pub(crate) fn archive(script: &str) -> Vec<u8> {
    let directory = TempDir::new().unwrap();
    let root = directory.path().join("root");
    fs::create_dir(&root).unwrap();
    shell(&root, script);
    shell(
        directory.path(),
        "tar --create --file=layer.tar --format=pax --sort=name --numeric-owner --sparse \
         --xattrs --xattrs-include='*' --directory=root .",
    );
    fs::read(directory.path().join("layer.tar")).unwrap()
}

/// A registry with one image, and what is needed to mount it.
pub(crate) struct Published {
    pub(crate) sim: RegistrySim,
    pub(crate) request: MountRequest,
    pub(crate) directory: TempDir,
}

impl Published {
    /// The layers are archives, lowest first; they are pushed as gzip.
    pub(crate) async fn new(archives: &[Vec<u8>]) -> Self {
        Self::with(Options::default(), archives).await
    }

    pub(crate) async fn with(options: Options, archives: &[Vec<u8>]) -> Self {
        let layers = archives.iter().map(|archive| Layer::gzip_of(archive));
        Self::of_layers(options, layers).await
    }

    pub(crate) async fn of_layers(
        options: Options,
        layers: impl IntoIterator<Item = Layer>,
    ) -> Self {
        let sim = RegistrySim::start(options).await;
        let image = layers
            .into_iter()
            .fold(ImageBuilder::new(), ImageBuilder::layer)
            .build();
        sim.push(REPOSITORY, "latest", &image);
        let directory = scratch();
        let mountpoint = directory.path().join("image");
        fs::create_dir(&mountpoint).unwrap();
        let layers = image.layers.iter().enumerate().map(|(number, blob)| {
            let index_path = directory.path().join(format!("index-{number}"));
            let index = layer_indexer::index_bytes(&blob.bytes).expect("the layer is good");
            fs::write(&index_path, &index).unwrap();
            let index = LayerIndex::decode(index.into()).unwrap().summary();
            LayerRef { index_path, index }
        });
        let request = MountRequest {
            mountpoint,
            registry: Registry::parse(sim.host()).unwrap(),
            repository: REPOSITORY.to_owned(),
            plain_http: true,
            ca_pem: None,
            dial: DialPolicy::default(),
            layers: layers.collect(),
            origin: format!("{}/{REPOSITORY}", sim.host()),
            cache: SpanCache::open(&directory.path().join("cache"), CacheLimits::default())
                .unwrap(),
            has_shared_cache: false,
            id_shift: None,
            read_deadline: Duration::from_mins(2),
            foretold: Vec::new(),
            program: None,
            start_lasts: Duration::ZERO,
            fill_when_idle: false,
        };
        Self {
            sim,
            request,
            directory,
        }
    }

    /// The same, or why the layers are refused.
    pub(crate) async fn try_new(archives: &[Vec<u8>]) -> Result<Self, String> {
        let indexes = archives.iter().map(|archive| {
            let index = layer_indexer::index_bytes(archive).map_err(|error| error.to_string())?;
            Ok(LayerIndex::decode(index.into()).unwrap())
        });
        let indexes: Vec<_> = indexes.collect::<Result<_, String>>()?;
        Tree::merge(&indexes).map_err(|error| error.to_string())?;
        Ok(Self::new(archives).await)
    }

    pub(crate) async fn mount(&self) -> Mounted {
        let auth = Script::answering(Ok(RegistryAuth::anonymous()));
        self.mount_with(auth).await.expect("the image mounts")
    }

    pub(crate) async fn mount_with(&self, auth: Arc<Script>) -> Result<Mounted, MountError> {
        let guard = Unmount(self.request.mountpoint.clone());
        let process = MountProcess::spawn(&program(), self.request.clone(), auth).await?;
        Ok(Mounted { process, guard })
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.request.mountpoint.join(relative)
    }
}

/// A mounted image. The process ends first, then whatever is left is taken off.
pub(crate) struct Mounted {
    pub(crate) process: MountProcess,
    pub(crate) guard: Unmount,
}

impl Mounted {
    /// Ends it as a launch does, and shows that nothing is left.
    pub(crate) async fn stop(self) -> image_mount::MountStats {
        let mountpoint = self.guard.0.clone();
        let pid = self.process.pid();
        let stats = self.process.stop().await.expect("stops");
        assert!(!is_mounted(&mountpoint));
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        stats
    }
}

/// Takes a mount off at the end of a test.
pub(crate) struct Unmount(pub(crate) PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = image_mount::unmount(&self.0);
    }
}

pub(crate) fn is_mounted(path: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let path = path.to_str().unwrap();
    table
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(path))
}

/// Runs what blocks, so that the registry in this process can answer meanwhile.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work)
        .await
        .expect("does not panic")
}

/// Answers for registry auth as it is told.
#[derive(Debug)]
pub(crate) struct Script {
    answer: Mutex<Result<RegistryAuth, AuthError>>,
    pub(crate) asked: AtomicU64,
    question: tokio::sync::Notify,
}

impl Script {
    pub(crate) fn answering(answer: Result<RegistryAuth, AuthError>) -> Arc<Self> {
        Arc::new(Self {
            answer: Mutex::new(answer),
            asked: AtomicU64::default(),
            question: tokio::sync::Notify::new(),
        })
    }

    pub(crate) fn answer(&self, answer: Result<RegistryAuth, AuthError>) {
        *self.answer.lock().unwrap() = answer;
    }
}

impl Script {
    /// Returns when there have been so many questions.
    pub(crate) async fn wait_for_questions(&self, count: u64) {
        loop {
            let next = self.question.notified();
            if self.asked.load(SeqCst) >= count {
                return;
            }
            next.await;
        }
    }
}

impl AuthSource for Script {
    fn auth<'a>(&'a self, request: AuthRequest<'a>) -> AuthFuture<'a> {
        assert_eq!(request.repository, REPOSITORY);
        self.asked.fetch_add(1, SeqCst);
        self.question.notify_waiters();
        let answer = self.answer.lock().unwrap().clone();
        Box::pin(async move { answer })
    }
}

pub(crate) fn basic(serial: u64, password: &str) -> RegistryAuth {
    let scheme = AuthScheme::Basic {
        username: "puller".to_owned(),
        password: password.to_owned().into(),
    };
    RegistryAuth {
        scheme,
        not_after: None,
        serial,
    }
}
