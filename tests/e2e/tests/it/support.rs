//! A registry that demands a login, an image in it, and a home that is logged in.

use std::ffi::CString;
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use e2e::Home;
use fastrand::Rng;
use registry_sim::ImageBuilder;
use registry_sim::debian::DebianRegistry;
use rustix::process::Signal;
use tokio::runtime::Runtime;

pub(crate) const USER: &str = "alice";
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// How long processes may take to see that their parent was killed, on a busy machine.
pub(crate) const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// A started registry with one image, and a home that knows nothing of it yet.
pub(crate) struct Stage {
    pub(crate) home: Home,
    pub(crate) registry: DebianRegistry,
    pub(crate) image: String,
    /// Where the token issuer lives, when there is one.
    runtime: Runtime,
}

impl Stage {
    /// Puts the image into a new registry as `acme/fn:v1`.
    pub(crate) fn new(image: ImageBuilder) -> Self {
        Self::with(image, async { DebianRegistry::htpasswd(USER, PASSWORD) })
    }

    /// The same, logged in.
    pub(crate) fn logged_in(image: ImageBuilder) -> Self {
        Self::new(image).log_in()
    }

    /// Logged in to a registry that takes tokens, each of which lives for `life`.
    pub(crate) fn with_tokens(image: ImageBuilder, life: Duration) -> Self {
        let stage = Self::with(image, DebianRegistry::token(USER, PASSWORD));
        stage
            .registry
            .issuer()
            .expect("a token registry has an issuer")
            .set_life(life);
        stage.log_in()
    }

    fn with(image: ImageBuilder, registry: impl Future<Output = DebianRegistry>) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let registry = runtime.block_on(registry);
        runtime.block_on(registry.push("acme/fn", "v1", &image.build()));
        let image = format!("{}/acme/fn:v1", registry.host());
        Self {
            home: Home::new(),
            registry,
            image,
            runtime,
        }
    }

    /// Puts another image beside the first one; gives its name.
    pub(crate) fn push(&self, tag: &str, image: ImageBuilder) -> String {
        let image = image.build();
        self.runtime
            .block_on(self.registry.push("acme/fn", tag, &image));
        format!("{}/acme/fn:{tag}", self.registry.host())
    }

    fn log_in(self) -> Self {
        self.home.login(&self.scope(), USER, PASSWORD).ok();
        self
    }

    /// With processes that are told from those of other tests.
    pub(crate) fn with_own_program(self) -> Self {
        Self {
            home: self.home.with_own_program(),
            ..self
        }
    }

    /// The registry scope that the tests log in to.
    pub(crate) fn scope(&self) -> String {
        format!("{}/acme", self.registry.host())
    }
}

/// A file system of its own, taken off at the end.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `size` is as `mount` takes it: `100k`, `8m`.
    pub(crate) fn mount(on: &Path, size: &str) -> Self {
        let options = CString::new(format!("size={size}")).expect("no zero in it");
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", on, "tmpfs", flags, options.as_c_str())
            .expect("root can mount a tmpfs");
        Self(on.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

/// Bytes that no compressor shrinks, different for every seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64 ^ (seed + 1);
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(next).collect()
}

/// Waits until the command inside the container has printed its first byte.
pub(crate) fn wait_for_line(child: &mut Child) {
    let stdout = child.stdout.as_mut().expect("standard output is piped");
    let mut first = [0];
    stdout
        .read_exact(&mut first)
        .expect("the command says that it is up");
}

/// Waits until the program itself has said this on its standard error.
pub(crate) fn wait_for_error_line(child: &mut Child, says: &str) {
    let stderr = child.stderr.as_mut().expect("standard error is piped");
    let mut said = Vec::new();
    let mut byte = [0];
    while !String::from_utf8_lossy(&said).contains(says) {
        let read = stderr.read_exact(&mut byte);
        read.unwrap_or_else(|_| {
            panic!("{says:?} was not said: {}", String::from_utf8_lossy(&said))
        });
        said.push(byte[0]);
    }
}

/// Sends a signal to a process of the test.
pub(crate) fn signal(child: &Child, signal: Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).expect("the child is ours");
}

/// Mounts and processes that still name this home.
pub(crate) fn leftovers(home: &Home) -> Vec<String> {
    let needle = home.path().to_str().expect("utf-8");
    let mounts = std::fs::read_to_string("/proc/mounts").expect("/proc/mounts");
    let mut found: Vec<String> = mounts
        .lines()
        .filter(|line| line.contains(needle))
        .map(str::to_owned)
        .collect();
    let containers = home.run_dir().join("containers");
    if let Ok(entries) = std::fs::read_dir(containers) {
        let paths = entries.flatten().map(|entry| entry.path());
        let paths = paths.filter(|path| path.is_dir());
        found.extend(paths.map(|path| path.display().to_string()));
    }
    found
}

/// All files below a directory but sockets, which hold nothing; none where there is no directory.
pub(crate) fn files_below(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let below = |path: PathBuf| {
        let kind = path.symlink_metadata().map(|found| found.file_type());
        if path.is_dir() {
            files_below(&path)
        } else if kind.is_ok_and(|kind| kind.is_socket()) {
            Vec::new()
        } else {
            vec![path]
        }
    };
    entries
        .flat_map(|entry| below(entry.expect("lists").path()))
        .collect()
}

/// Waits for what must come.
#[track_caller]
pub(crate) fn until(what: &str, is_so: impl Fn() -> bool) {
    until_within(ENDS_WITHIN, what, is_so);
}

#[track_caller]
pub(crate) fn until_within(time: Duration, what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + time;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within {time:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// It is gone, or waits to be waited for.
pub(crate) fn has_ended(child: &Child) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id()));
    stat.map_or(true, |stat| stat.contains(") Z "))
}

/// The seed is printed, so that a failure can be had again.
pub(crate) struct Random(Rng);

impl Random {
    pub(crate) fn new() -> Self {
        let given = std::env::var("HOLDFAST_TEST_SEED").ok();
        let given = given.map(|seed| seed.parse().expect("a number"));
        let seed = given.unwrap_or_else(|| fastrand::u64(..));
        println!("HOLDFAST_TEST_SEED={seed}");
        Self(Rng::with_seed(seed))
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0.u64(..end.max(1))
    }

    /// A moment within the time that something takes.
    pub(crate) fn moment(&mut self, within: Duration) -> Duration {
        let micros = u64::try_from(within.as_micros()).expect("not so long");
        Duration::from_micros(self.below(micros))
    }
}
