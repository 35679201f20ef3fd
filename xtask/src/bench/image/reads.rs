//! Reading through the mount with a warm span cache, beside the same files on the native
//! filesystem.
//!
//! Before each first pass, and before the random reads, the kernel forgets everything on both
//! sides. What is measured is the steady state: files that the kernel comes to read by itself are
//! read often enough before that it does.

use std::fs::File;
use std::io::{BufRead, BufReader, Lines, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Lab;
use crate::bench::ours::Ours;
use crate::bench::peer::Peer;
use crate::bench::report::{Row, Samples, Target};
use crate::bench::{drop_page_cache, timed};
use crate::lab::{self, Data};
use crate::process::{self, Service};
use crate::tree;

/// One large file; some of a middling size, of which none is large by itself; many small ones.
const DATA: &[Data] = &[
    data("data-large", 1, 256 << 20),
    data("data-middling", 10, 16 << 20),
    data("data-small", 500, 64 << 10),
];

const fn data(name: &'static str, files: u64, bytes: u64) -> Data {
    Data { name, files, bytes }
}

/// What a program reads at once when it reads a file from front to back, as `cat` does.
const SEQUENTIAL_BYTES: usize = 128 << 10;
const RANDOM_BYTES: usize = 4096;
const RANDOM_READS: u64 = 4000;

/// How long files may take until the kernel reads them by itself, and between two looks.
const SETTLING: Duration = Duration::from_secs(20);
const LOOK_PAUSE: Duration = Duration::from_millis(100);

#[derive(Default)]
struct Measured {
    first: Samples,
    again: Samples,
    random: Samples,
}

pub(super) fn rows(lab: &Lab) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    lab.ours.login(&lab.registry.address(), &lab.login)?;
    for data in DATA {
        rows.extend(rows_of(lab, *data)?);
    }
    Ok(rows)
}

fn rows_of(lab: &Lab, data: Data) -> Result<Vec<Row>> {
    let image = lab::packed_image_with_data(&tree::target().join("holdfast-demo"), data)?;
    let name = lab.registry.push(&image, &lab.login)?;
    lab.ours.output(&["image", "warm", &name])?;
    let peer = Peer::new(&lab.folder("reads-peer"))?;
    peer.forget()?;
    let address = lab.registry.address();
    peer.pull(&name, &lab.registry.auth_file(&address, &lab.login)?)?;
    peer.unpack()?;
    let mountpoint = lab.folder("mount");
    std::fs::create_dir_all(&mountpoint)?;
    let mount = Mount::start(&lab.ours, &name, &mountpoint)?;
    let below = |root: &Path| data.paths().map(|path| root.join(path)).collect();
    let (in_ours, in_theirs): (Vec<_>, Vec<_>) = (below(&mountpoint), below(&peer.rootfs()));
    let backed = settle(&lab.ours, &in_ours)?;
    let (mut ours, mut theirs) = (Measured::default(), Measured::default());
    for _ in 0..lab.runs {
        measure(&in_ours, &mut ours)?;
        measure(&in_theirs, &mut theirs)?;
    }
    mount.stop()?;
    peer.forget()?;
    let what = format!(
        "{} of {} KiB, {backed} backed",
        data.files,
        data.bytes >> 10
    );
    Ok(compare(&what, ours, theirs))
}

fn compare(files: &str, ours: Measured, theirs: Measured) -> Vec<Row> {
    let row = |what: &str, unit, ours, peer, least| Row {
        what: format!("{files}: {what}"),
        unit,
        ours,
        peer,
        peer_name: "the files unpacked on the native filesystem".to_owned(),
        target: Target::AtLeast(least),
    };
    vec![
        row("first pass", "MB/s", ours.first, theirs.first, 0.7),
        row("again", "MB/s", ours.again, theirs.again, 0.95),
        row("random 4 KiB", "reads/s", ours.random, theirs.random, 0.8),
    ]
}

/// Reads again and again until no more files are backed than were before; gives how many are.
fn settle(ours: &Ours, paths: &[PathBuf]) -> Result<usize> {
    let begin = Instant::now();
    let mut before = 0;
    let mut quiet = 0;
    while quiet < 5 && begin.elapsed() < SETTLING {
        sequential(paths)?;
        std::thread::sleep(LOOK_PAUSE);
        let backed = ours.backing_files()?;
        quiet = if backed == before { quiet + 1 } else { 0 };
        before = backed;
    }
    Ok(before)
}

fn measure(paths: &[PathBuf], into: &mut Measured) -> Result<()> {
    drop_page_cache()?;
    into.first.push(sequential(paths)?);
    into.again.push(sequential(paths)?);
    drop_page_cache()?;
    into.random.push(random(paths)?);
    Ok(())
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}

/// Megabytes per second, opening included.
fn sequential(paths: &[PathBuf]) -> Result<f64> {
    let mut buffer = vec![0_u8; SEQUENTIAL_BYTES];
    let (megabytes, seconds) = timed(|| {
        let mut bytes = 0_u32;
        for path in paths {
            let mut file = open(path)?;
            while let count @ 1.. = file.read(&mut buffer)? {
                bytes += u32::try_from(count)?;
            }
        }
        Ok(f64::from(bytes) / 1e6)
    })?;
    Ok(megabytes / seconds)
}

/// Reads per second of open files, over a fixed sequence of places.
fn random(paths: &[PathBuf]) -> Result<f64> {
    let files: Vec<File> = paths.iter().map(|path| open(path)).collect::<Result<_>>()?;
    let bytes = files.first().context("no files")?.metadata()?.len();
    let (count, pages) = (files.len() as u64, bytes / RANDOM_BYTES as u64);
    let mut buffer = [0_u8; RANDOM_BYTES];
    let ((), seconds) = timed(|| {
        let mut state = 1_u64;
        for _ in 0..RANDOM_READS {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let place = (state >> 33) % (count * pages);
            let (file, page) = (usize::try_from(place / pages)?, place % pages);
            files[file].read_exact_at(&mut buffer, page * RANDOM_BYTES as u64)?;
        }
        Ok(())
    })?;
    Ok(f64::from(u32::try_from(RANDOM_READS)?) / seconds)
}

/// `holdfast image mount`, until interrupted.
struct Mount {
    service: Service,
    /// Kept open: a program whose standard error is gone cannot say why it ends.
    _remarks: Lines<BufReader<ChildStderr>>,
}

impl Mount {
    fn start(ours: &Ours, image: &str, mountpoint: &Path) -> Result<Self> {
        let mut command = ours.command(&["image", "mount", image]);
        command.arg(mountpoint).stderr(Stdio::piped());
        let mut service = Service::start(&mut command)?;
        let stderr = service.take_stderr().expect("standard error was asked for");
        let mut remarks = BufReader::new(stderr).lines();
        let mut last = String::new();
        for remark in remarks.by_ref() {
            last = remark?;
            if last.starts_with("mounted on") {
                return Ok(Self {
                    service,
                    _remarks: remarks,
                });
            }
        }
        bail!("the image was not mounted: {last}")
    }

    fn stop(mut self) -> Result<()> {
        process::run(&mut process::command(
            "kill",
            &["-TERM", &self.service.id().to_string()],
        ))?;
        self.service.wait()
    }
}
