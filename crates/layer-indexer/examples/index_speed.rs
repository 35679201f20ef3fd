//! How fast a gzip layer is indexed, beside what nobody can do without: inflating it and hashing
//! both streams.
//!
//! `index_speed LAYER RUNS` prints one JSON document; contenders take turns. *Bare* inflates on one
//! thread and hashes on a second one, *single* does both on one thread, *gzip* is `gzip -dc`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use flate2::bufread::MultiGzDecoder;
use layer_indexer::{Files, Indexed, Limits, index_layer};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use sha2::{Digest, Sha256};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Output is handed on in pieces of a span's length.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces on their way to the hashing thread.
const QUEUE: usize = 8;

#[derive(Default)]
struct Samples {
    wall: Vec<f64>,
    cpu: Vec<f64>,
}

impl Samples {
    fn measure<T>(&mut self, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        let (wall, cpu) = (Instant::now(), cpu_time());
        let value = work()?;
        self.wall.push(wall.elapsed().as_secs_f64());
        self.cpu.push(cpu_time().saturating_sub(cpu).as_secs_f64());
        Ok(value)
    }

    fn json(&self) -> serde_json::Value {
        json!({ "wall_seconds": self.wall, "cpu_seconds": self.cpu })
    }
}

fn main() -> Outcome<()> {
    let mut words = std::env::args().skip(1);
    let (Some(layer), Some(runs)) = (words.next(), words.next()) else {
        return Err("usage: index_speed LAYER RUNS".into());
    };
    let (path, runs) = (Path::new(&layer), runs.parse::<usize>()?);
    let layer = std::fs::read(path)?;
    let mut indexed = None;
    let (mut ours, mut bare) = (Samples::default(), Samples::default());
    let (mut single, mut gzip) = (Samples::default(), Samples::default());
    for _ in 0..runs {
        indexed = Some(ours.measure(|| index(&layer))?);
        bare.measure(|| inflate_and_hash_apart(&layer))?;
        single.measure(|| inflate_and_hash(&layer))?;
        gzip.measure(|| gzip_to_nowhere(path))?;
    }
    let indexed = indexed.ok_or("no runs")?;
    let document = json!({
        "compressed_bytes": indexed.compressed_bytes,
        "uncompressed_bytes": indexed.uncompressed_bytes,
        "index_bytes": indexed.index_bytes,
        "ours": ours.json(),
        "bare": bare.json(),
        "single": single.json(),
        "gzip": gzip.json(),
    });
    println!("{document}");
    Ok(())
}

/// Of the whole process, so threads that have ended count too.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).expect("processor time is not negative")
}

fn index(layer: &[u8]) -> Outcome<Indexed> {
    let indexed = index_layer(
        layer,
        &mut io::sink(),
        Files::in_memory(),
        Limits::default(),
    )?;
    Ok(indexed)
}

fn inflate_and_hash_apart(layer: &[u8]) -> Outcome<()> {
    let (send, receive) = sync_channel::<Vec<u8>>(QUEUE);
    let (give_back, returned) = sync_channel(2 * QUEUE);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let compressed = Sha256::digest(layer);
            std::hint::black_box((compressed, hash_all(&receive, &give_back)));
        });
        inflate(layer, send, &returned)
    })
}

/// The hashing thread ends when `send` is dropped at the end.
fn inflate(layer: &[u8], send: SyncSender<Vec<u8>>, returned: &Receiver<Vec<u8>>) -> Outcome<()> {
    let mut decoder = MultiGzDecoder::new(layer);
    loop {
        let mut piece = returned.try_recv().unwrap_or_default();
        if !fill(&mut decoder, &mut piece)? {
            drop(send);
            return Ok(());
        }
        send.send(piece)?;
    }
}

fn hash_all(pieces: &Receiver<Vec<u8>>, give_back: &SyncSender<Vec<u8>>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for piece in pieces {
        hash.update(&piece);
        let _ = give_back.try_send(piece);
    }
    hash.finalize().into()
}

fn inflate_and_hash(layer: &[u8]) -> Outcome<()> {
    let mut decoder = MultiGzDecoder::new(layer);
    let (mut hash, mut piece) = (Sha256::new(), Vec::new());
    while fill(&mut decoder, &mut piece)? {
        hash.update(&piece);
    }
    std::hint::black_box((Sha256::digest(layer), hash.finalize()));
    Ok(())
}

/// The next piece of output; false at the end.
fn fill(decoder: &mut impl Read, piece: &mut Vec<u8>) -> io::Result<bool> {
    piece.clear();
    let count = decoder.take(PIECE_BYTES as u64).read_to_end(piece)?;
    Ok(count > 0)
}

fn gzip_to_nowhere(path: &Path) -> Outcome<()> {
    let mut gzip = Command::new("gzip");
    gzip.arg("-dc")
        .stdin(File::open(path)?)
        .stdout(Stdio::null());
    if gzip.status()?.success() {
        Ok(())
    } else {
        Err("gzip failed".into())
    }
}
