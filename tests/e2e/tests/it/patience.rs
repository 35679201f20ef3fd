//! A running container reads files that were never fetched, while the registry misbehaves.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout};
use std::time::Duration;

use e2e::Home;
use e2e::image::busybox;
use registry_sim::{Entry, ImageBuilder, Layer};
use sha2::{Digest, Sha256};

use crate::support::{Stage, USER, noise};

const FILES: usize = 6;
const FILE_BYTES: usize = 1 << 20;

fn content(file: usize) -> Vec<u8> {
    noise(file as u64, FILE_BYTES)
}

/// Six files of a megabyte, which no compressor shrinks.
pub(crate) fn image() -> ImageBuilder {
    let file = |number| Entry::file(&format!("data/{number}"), content(number));
    busybox().layer(Layer::gzip(&(0..FILES).map(file).collect::<Vec<_>>()))
}

/// A container that hashes the file whose number it is sent.
pub(crate) struct Reader {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Reader {
    pub(crate) fn start(home: &Home, image: &str) -> Self {
        home.run(&["image", "index", image]).ok();
        home.run(&["cache", "prune", "--all"]).ok();
        let script = "while read file; do sha256sum /data/$file || echo failed; done";
        // What is asked for was not fetched before, however long a test takes.
        let words = [
            "run", "-i", "--fill", "never", image, "--", "sh", "-c", script,
        ];
        let mut child = home.spawn(&words);
        let stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Self {
            child,
            stdin,
            stdout,
        }
    }

    pub(crate) fn ask(&mut self, file: usize) {
        writeln!(self.stdin, "{file}").expect("the container reads");
    }

    /// What the container says of the file that it was asked for.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout
            .read_line(&mut line)
            .expect("the container writes");
        line
    }

    /// What it says when it could read the file to its end.
    pub(crate) fn right(file: usize) -> String {
        let mut hash = String::new();
        for byte in Sha256::digest(content(file)) {
            hash.push_str(&format!("{byte:02x}"));
        }
        format!("{hash}  /data/{file}\n")
    }

    #[track_caller]
    fn answer(&mut self, file: usize) {
        assert_eq!(self.line(), Self::right(file));
    }

    #[track_caller]
    pub(crate) fn read(&mut self, file: usize) {
        self.ask(file);
        self.answer(file);
    }

    pub(crate) fn end(self) {
        let Self {
            child,
            stdin,
            stdout,
        } = self;
        drop(stdin);
        drop(stdout);
        let mut child = child;
        child.stdin = None;
        let status = child.wait().expect("the child is waited for");
        assert!(status.success(), "{status}");
    }
}

#[test]
fn a_password_rotated_in_mid_run_is_used() {
    let mut stage = Stage::logged_in(image());
    let mut reader = Reader::start(&stage.home, &stage.image);
    reader.read(0);
    stage.registry.set_password("the second");
    reader.ask(3);
    stage.home.login(&stage.scope(), USER, "the second").ok();
    reader.answer(3);
    reader.read(5);
    reader.end();
}

#[test]
fn a_registry_that_is_gone_is_waited_for() {
    let mut stage = Stage::logged_in(image());
    let mut reader = Reader::start(&stage.home, &stage.image);
    reader.read(0);
    stage.registry.stop();
    reader.ask(4);
    // Thirty seconds is what the promise names; there is no event to wait for instead.
    std::thread::sleep(Duration::from_secs(30));
    stage.registry.start_again();
    reader.answer(4);
    reader.read(2);
    reader.end();
}

#[test]
fn a_token_that_lives_two_seconds_is_renewed() {
    let stage = Stage::with_tokens(image(), Duration::from_secs(2));
    let mut reader = Reader::start(&stage.home, &stage.image);
    for file in [0, 2, 4] {
        reader.read(file);
        std::thread::sleep(Duration::from_secs(3));
    }
    reader.read(5);
    reader.end();
    let issuer = stage
        .registry
        .issuer()
        .expect("a token registry has an issuer");
    let requests = issuer.counter().read().requests;
    assert!(requests >= 4, "{requests} token requests");
}
