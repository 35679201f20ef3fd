//! An image of a gzip and a zstd layer whose every byte is known, in a real registry, and programs
//! in containers that say what they read. Nothing here waits without an end.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use e2e::Home;
use e2e::home::Finished;
use e2e::image::busybox;
use registry_sim::debian::DebianRegistry;
use registry_sim::{Entry, ImageBuilder, Layer};
use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;

use super::network::Network;
use crate::support::{PASSWORD, USER, noise};

/// 16 Mbit/s: the image takes seconds, in which something can happen.
const RATE: &str = "16mbit";

const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// What a command of ours may take without a fault, on a busy machine.
const USUAL: Duration = Duration::from_mins(2);

/// The read deadline, and what it takes to start a container and to read everything.
pub(crate) const PATIENCE: Duration = Duration::from_mins(4);

/// One of the image's large files, and the blocks that are read of it out of order.
pub(crate) const LARGE: usize = 5 << 20;
pub(crate) const BLOCK: usize = 64 << 10;
const SMALL: usize = 300_000;
const SMALL_FILES: u64 = 6;

/// Who reads the image's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The mount process, by a token for the repository.
    Token,
    /// Its parent, since the registry takes nothing but the password.
    Password,
}

pub(crate) struct Scene {
    pub(crate) network: Network,
    pub(crate) home: Home,
    pub(crate) registry: DebianRegistry,
    pub(crate) image: String,
    /// Every file that is read, by path.
    pub(crate) files: Vec<(String, Vec<u8>)>,
    _runtime: Runtime,
}

/// Half of it as compressible as programs are, so that its decoders have something to do.
fn content(seed: u64, length: usize) -> Vec<u8> {
    let noise = noise(seed, length);
    let chunks = noise.chunks(64).enumerate();
    chunks
        .flat_map(|(number, chunk)| match chunk[0] % 2 {
            0 => chunk.to_vec(),
            _ => format!("{:064}", number % 977).into_bytes()[..chunk.len()].to_vec(),
        })
        .collect()
}

fn files(directory: &str, seed: u64) -> Vec<(String, Vec<u8>)> {
    let small = (0..SMALL_FILES).map(|number| (format!("{directory}/{number}"), SMALL));
    let all = small.chain([(format!("{directory}/large"), LARGE)]);
    all.zip(seed..)
        .map(|((path, length), seed)| (path, content(seed, length)))
        .collect()
}

fn zstd_layer(entries: &[Entry]) -> Layer {
    let plain = ImageBuilder::new().layer(Layer::plain(entries)).build();
    let archive = &plain.layers[0].bytes;
    let compressed = zstd::bulk::compress(archive, 3).expect("into memory");
    Layer::compressed(ZSTD, compressed, archive)
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    let mut printed = String::new();
    for byte in Sha256::digest(bytes) {
        write!(printed, "{byte:02x}").expect("writing to a string");
    }
    printed
}

impl Scene {
    /// In a network that the calling thread enters; logged in, and the image was never used.
    pub(crate) fn new(way: Way) -> Self {
        let network = Network::enter(RATE);
        let (gzip, zstd) = (files("gzip", 100), files("zstd", 200));
        let entries = |files: &[(String, Vec<u8>)]| -> Vec<Entry> {
            let entry = |(path, content): &(String, Vec<u8>)| Entry::file(path, content.clone());
            files.iter().map(entry).collect()
        };
        let image = busybox()
            .layer(Layer::gzip(&entries(&gzip)))
            .layer(zstd_layer(&entries(&zstd)))
            .build();
        let runtime = Runtime::new().expect("a runtime");
        let registry = match way {
            Way::Token => runtime.block_on(DebianRegistry::token(USER, PASSWORD)),
            Way::Password => DebianRegistry::htpasswd(USER, PASSWORD),
        };
        runtime.block_on(registry.push("acme/fn", "v1", &image));
        let scene = Self {
            network,
            home: Home::new().with_own_program(),
            image: format!("{}/acme/fn:v1", registry.host()),
            registry,
            files: gzip.into_iter().chain(zstd).collect(),
            _runtime: runtime,
        };
        let scope = format!("{}/acme", scene.registry.host());
        let login = [
            "login",
            &scope,
            "--username",
            USER,
            "--password-stdin",
            "--plain-http",
        ];
        scene.command(&login, PASSWORD);
        scene
    }

    /// A command that goes well.
    #[track_caller]
    pub(crate) fn command(&self, words: &[&str], input: &str) -> Finished {
        let mut child = self.home.spawn(words);
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(input.as_bytes()).expect("it reads");
        drop(stdin);
        finish_within(child, USUAL, &format!("{words:?}")).ok()
    }

    /// Its indexes are there, and none of its bytes.
    pub(crate) fn cold(&self) {
        self.command(&["image", "index", &self.image], "");
        self.command(&["cache", "prune", "--all"], "");
    }

    /// Starts a program that prints the digest of every file, those at the end first.
    pub(crate) fn start(&self) -> Child {
        let paths = self.files.iter().rev().map(|(path, _)| format!("/{path}"));
        let words = ["run", "--network", "none", &self.image, "sha256sum"].map(str::to_owned);
        let words: Vec<String> = words.into_iter().chain(paths).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut child = self.home.spawn(&words);
        drop(child.stdin.take());
        child
    }

    /// What it prints.
    pub(crate) fn right_digests(&self) -> String {
        let mut printed = String::new();
        for (path, content) in self.files.iter().rev() {
            let digest = digest(content);
            writeln!(printed, "{digest}  /{path}").expect("writing to a string");
        }
        printed
    }

    pub(crate) fn content(&self, path: &str) -> &[u8] {
        let found = self.files.iter().find(|(name, _)| name == path);
        &found.expect("it is in the image").1
    }

    /// Processes of ours in this role.
    pub(crate) fn in_role(&self, role: &str) -> Vec<Pid> {
        let all = self.home.processes().into_iter();
        all.filter(|(_, its)| its == role)
            .map(|(pid, _)| pid)
            .collect()
    }

    pub(crate) fn signal_role(&self, role: &str, signal: Signal) {
        let found = self.in_role(role);
        assert!(!found.is_empty(), "no {role}");
        for pid in found {
            kill_process(pid, signal).expect("it is ours");
        }
    }

    pub(crate) fn signal_registry(&self, signal: Signal) {
        let pid = Pid::from_raw(self.registry.pid().cast_signed()).expect("a pid");
        kill_process(pid, signal).expect("it is ours");
    }
}

/// Waits for the end, and ends what does not end.
#[track_caller]
pub(crate) fn finish_within(mut child: Child, time: Duration, what: &str) -> Finished {
    let deadline = Instant::now() + time;
    let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let status = loop {
        if let Some(status) = child.try_wait().expect("it is ours") {
            break status;
        }
        if Instant::now() >= deadline {
            child.kill().expect("it is ours");
            child.wait().expect("it is ours");
            let (stdout, stderr) = (text(&stdout), text(&stderr));
            panic!("{what}: not within {time:?}; stdout: {stdout}\nstderr: {stderr}");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    Finished {
        code: status.code().unwrap_or(-1),
        stdout: text(&stdout),
        stderr: text(&stderr),
    }
}

fn collect(stream: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    let mut stream = stream.expect("piped");
    std::thread::spawn(move || {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        let _ = sender.send(all);
    });
    receiver
}

/// What a program that has ended had written. Something that it started may hold its pipe.
fn text(stream: &Receiver<Vec<u8>>) -> String {
    let all = stream.recv_timeout(Duration::from_secs(10));
    String::from_utf8_lossy(&all.unwrap_or_default()).into_owned()
}

/// What a container is asked to read.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    Whole(String),
    Block(String, usize),
}

/// A container that reads what it is asked to read, one after the other.
pub(crate) struct Reader {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    stderr: Receiver<Vec<u8>>,
}

const SCRIPT: &str = "while read path block; do \
                      if [ -z \"$block\" ]; then cat \"/$path\" > /tmp/part; \
                      else busybox dd if=\"/$path\" bs=65536 skip=\"$block\" count=1 \
                      2>/dev/null > /tmp/part; fi \
                      && sha256sum < /tmp/part || echo failed; done";

impl Reader {
    pub(crate) fn start(scene: &Scene) -> Self {
        let words = [
            "run",
            "-i",
            "--network",
            "none",
            &scene.image,
            "--",
            "sh",
            "-c",
            SCRIPT,
        ];
        let mut child = scene.home.spawn(&words);
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            stdin: child.stdin.take(),
            stderr: collect(child.stderr.take()),
            child,
            lines,
        }
    }

    pub(crate) fn ask(&mut self, part: &Part) {
        let line = match part {
            Part::Whole(path) => format!("{path}\n"),
            Part::Block(path, block) => format!("{path} {block}\n"),
        };
        let stdin = self.stdin.as_mut().expect("not ended yet");
        // Where it has ended, it does not answer either.
        let _ = stdin.write_all(line.as_bytes());
    }

    /// The next answer: the digest of what was read, or none where reading failed or the container
    /// has ended.
    #[track_caller]
    pub(crate) fn answer(&self, what: &str) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) if line == "failed" => None,
            Ok(line) => Some(line.split(' ').next().unwrap_or_default().to_owned()),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("{what}: no answer within {PATIENCE:?}"),
        }
    }

    /// Ends it; what it had said on standard error.
    #[track_caller]
    pub(crate) fn end(mut self, what: &str) -> Finished {
        drop(self.stdin.take());
        let deadline = Instant::now() + USUAL;
        while self.child.try_wait().expect("it is ours").is_none() {
            assert!(Instant::now() < deadline, "{what}: it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
        let status = self.child.wait().expect("it is ours");
        Finished {
            code: status.code().unwrap_or(-1),
            stdout: String::new(),
            stderr: text(&self.stderr),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // After the end there is nothing to kill; after a failed test there may be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
