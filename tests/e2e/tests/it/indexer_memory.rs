//! What indexing a layer takes of memory, whatever the layer is: the process that a layer is fed
//! to, with layers that have much of one thing.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use e2e::home::binary;
use serde_json::Value;

use crate::support::noise;

/// What a layer may take, beside the program, which is larger in a build for tests.
const PEAK_MAX_BYTES: u64 = 64 << 20;

const BLOCK: usize = 512;

/// Archives that are written as they are made.
struct Archive<W> {
    out: W,
}

impl<W: Write> Archive<W> {
    /// A header as POSIX has it, and the content, filled up to blocks.
    fn member(&mut self, kind: u8, content: &[u8]) {
        let mut header = [0; BLOCK];
        header[..4].copy_from_slice(b"file");
        header[100..108].copy_from_slice(b"0000644\0");
        for (field, digits) in [(108..116, 7), (116..124, 7), (136..148, 11)] {
            header[field][..digits].fill(b'0');
        }
        let size = format!("{:011o}\0", content.len());
        header[124..136].copy_from_slice(size.as_bytes());
        header[148..156].fill(b' ');
        header[156] = kind;
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().copied().map(u32::from).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let padding = content.len().next_multiple_of(BLOCK) - content.len();
        for part in [&header, content, &[0; BLOCK][..padding]] {
            self.out.write_all(part).expect("writes");
        }
    }

    /// The extended header of the member that follows.
    fn extension(&mut self, records: &[(String, Vec<u8>)]) {
        let mut text = Vec::new();
        for (name, value) in records {
            // The length counts its own digits.
            let rest = name.len() + value.len() + 3;
            let with = |digits: usize| (rest + digits).to_string();
            let digits = (1..9).find(|digits| with(*digits).len() == *digits);
            text.extend_from_slice(with(digits.expect("short")).as_bytes());
            text.extend_from_slice(format!(" {name}=").as_bytes());
            text.extend_from_slice(value);
            text.push(b'\n');
        }
        self.member(b'x', &text);
    }

    fn end(mut self) {
        self.out.write_all(&[0; 2 * BLOCK]).expect("writes");
        self.out.flush().expect("writes");
    }
}

/// Hexadecimal digits that do not repeat.
fn digits(seed: u64, length: usize) -> Vec<u8> {
    let bytes = noise(seed, length / 2);
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    digits.collect::<String>().into_bytes()
}

/// What the program takes by itself.
fn nothing(_archive: &mut Archive<impl Write>) {}

/// What compresses best has the longest spans.
fn zeros(archive: &mut Archive<impl Write>) {
    archive.member(b'0', &vec![0; 384 << 20]);
}

/// Each with a name and a link that no other has: much more metadata than memory.
fn many_names(archive: &mut Archive<impl Write>) {
    for number in 0..40_000 {
        let path = format!("{number}/{}", "d".repeat(100)).into_bytes();
        let target = digits(number, 2400);
        archive.extension(&[("path".to_owned(), path), ("linkpath".to_owned(), target)]);
        archive.member(b'2', b"");
    }
}

/// Sets of attributes that are all different, each nearly as large as may be.
fn attributes(archive: &mut Archive<impl Write>) {
    for number in 0..120 {
        let path = ("path".to_owned(), number.to_string().into_bytes());
        let attribute = |at: u64| {
            let name = format!("SCHILY.xattr.user.{at}");
            (name, digits(number * 100 + at, 60_000))
        };
        let records: Vec<_> = [path].into_iter().chain((0..16).map(attribute)).collect();
        archive.extension(&records);
        archive.member(b'0', b"");
    }
}

/// Noise that comes again far later, in another order: windows of which much is used.
fn far_references(archive: &mut Archive<impl Write>) {
    let noise = noise(1, 12 << 20);
    let mut content = noise.clone();
    for round in 0..6 {
        let mut parts: Vec<&[u8]> = noise.chunks(3000 + 500 * round).collect();
        let half = parts.len() / 2;
        parts.rotate_left(half);
        for pair in parts.chunks_exact(2) {
            content.extend_from_slice(pair[1]);
            content.extend_from_slice(pair[0]);
        }
    }
    archive.member(b'0', &content);
}

type Fill = fn(&mut Archive<BufWriter<std::process::ChildStdin>>);

fn layer(path: &Path, compressor: &str, arguments: &[&str], fill: Fill) {
    let mut child = Command::new(compressor)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(File::create(path).expect("a file"))
        .spawn()
        .unwrap_or_else(|error| panic!("{compressor}: {error}: run `cargo xtask setup`"));
    let out = BufWriter::new(child.stdin.take().expect("piped"));
    let mut archive = Archive { out };
    fill(&mut archive);
    archive.end();
    assert!(child.wait().expect("ends").success());
}

/// Feeds a layer to an indexing process; its report.
fn index(layer: &Path) -> Value {
    let directory = tempfile::tempdir().expect("a directory");
    let script = "exec \"$0\" layer-indexer --fill-cache 10000000000 3>index 4>cache 5<>scratch";
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(binary())
        .current_dir(&directory)
        .stdin(File::open(layer).expect("a layer"))
        .output()
        .expect("sh is there");
    let report = serde_json::from_slice(&output.stdout);
    report.unwrap_or_else(|_| panic!("no report: {output:?}"))
}

fn peak(report: &Value) -> u64 {
    let peak = report["indexed"]["peak_memory_bytes"].as_u64();
    peak.unwrap_or_else(|| panic!("{report}"))
}

#[test]
fn a_layer_takes_no_more_than_64_mib_whatever_it_is() {
    let cases: [(&str, &str, &[&str], Fill); 6] = [
        ("zeros", "gzip", &["-1"], zeros),
        ("many names", "gzip", &["-1"], many_names),
        ("attributes", "gzip", &["-1"], attributes),
        ("a usual window", "zstd", &["-3", "-q"], far_references),
        (
            "the largest window that is entered",
            "zstd",
            &["-3", "-q", "--long=24"],
            far_references,
        ),
        (
            "a window of 32 MiB",
            "zstd",
            &["-3", "-q", "--long=25"],
            far_references,
        ),
    ];
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("layer");
    layer(&path, "gzip", &["-1"], nothing);
    let of_program = peak(&index(&path));
    let mut over = Vec::new();
    for (what, compressor, arguments, fill) in cases {
        layer(&path, compressor, arguments, fill);
        let peak = peak(&index(&path)).saturating_sub(of_program);
        println!("{what}: {} kB", peak / 1024);
        if peak > PEAK_MAX_BYTES {
            over.push((what, peak));
        }
    }
    assert!(over.is_empty(), "{over:?}");
}
