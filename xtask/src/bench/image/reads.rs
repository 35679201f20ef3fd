//! Reading through the mount with a warm span cache, beside the same file on the native filesystem.

use std::fs::File;
use std::io::{BufRead, BufReader, Lines, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{ChildStderr, Stdio};

use anyhow::{Context, Result, bail};

use super::Lab;
use crate::bench::ours::Ours;
use crate::bench::peer::Peer;
use crate::bench::report::{Row, Samples, Target};
use crate::bench::{drop_page_cache, timed};
use crate::lab;
use crate::process::{self, Service};
use crate::tree;

const FILE: &str = "data/large";
/// What a program reads at once when it reads a file from front to back.
const SEQUENTIAL_BYTES: usize = 1 << 20;
const RANDOM_BYTES: usize = 4096;
const RANDOM_READS: u64 = 4000;

#[derive(Default)]
struct Measured {
    first: Samples,
    again: Samples,
    random: Samples,
}

pub(super) fn rows(lab: &Lab) -> Result<Vec<Row>> {
    let image = lab::packed_image_with_data(&tree::target().join("holdfast-demo"))?;
    let name = lab.registry.push(&image, &lab.login)?;
    lab.ours.login(&lab.registry.address(), &lab.login)?;
    lab.ours.output(&["image", "warm", &name])?;
    let peer = Peer::new(&lab.folder("reads-peer"))?;
    peer.forget()?;
    peer.pull(
        &name,
        &lab.registry
            .auth_file(&lab.registry.address(), &lab.login)?,
    )?;
    peer.unpack()?;
    let mountpoint = lab.folder("mount");
    std::fs::create_dir_all(&mountpoint)?;
    let mount = Mount::start(&lab.ours, &name, &mountpoint)?;
    let (mut ours, mut theirs) = (Measured::default(), Measured::default());
    for _ in 0..lab.runs {
        measure(&mountpoint.join(FILE), &mut ours)?;
        measure(&peer.rootfs().join(FILE), &mut theirs)?;
    }
    mount.stop()?;
    peer.forget()?;
    Ok(vec![
        row(
            "sequential read, first pass",
            "MB/s",
            ours.first,
            theirs.first,
            Target::AtLeast(0.7),
        ),
        row(
            "sequential read, again",
            "MB/s",
            ours.again,
            theirs.again,
            Target::AtLeast(0.95),
        ),
        row(
            "random 4 KiB reads",
            "us",
            ours.random,
            theirs.random,
            Target::None,
        ),
    ])
}

fn measure(path: &Path, into: &mut Measured) -> Result<()> {
    drop_page_cache()?;
    into.first.push(sequential(path)?);
    into.again.push(sequential(path)?);
    drop_page_cache()?;
    into.random.push(random(path)?);
    Ok(())
}

/// Megabytes per second.
fn sequential(path: &Path) -> Result<f64> {
    let mut buffer = vec![0_u8; SEQUENTIAL_BYTES];
    let (megabytes, seconds) = timed(|| {
        let mut file =
            File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let mut bytes = 0_u32;
        while let count @ 1.. = file.read(&mut buffer)? {
            bytes += u32::try_from(count)?;
        }
        Ok(f64::from(bytes) / 1e6)
    })?;
    Ok(megabytes / seconds)
}

/// Microseconds per read, over a fixed sequence of places.
fn random(path: &Path) -> Result<f64> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let pages = file.metadata()?.len() / RANDOM_BYTES as u64;
    let mut buffer = [0_u8; RANDOM_BYTES];
    let ((), seconds) = timed(|| {
        let mut state = 1_u64;
        for _ in 0..RANDOM_READS {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            file.read_exact_at(&mut buffer, (state >> 33) % pages * RANDOM_BYTES as u64)?;
        }
        Ok(())
    })?;
    Ok(seconds * 1e6 / f64::from(u32::try_from(RANDOM_READS)?))
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

fn row(what: &str, unit: &'static str, ours: Samples, peer: Samples, target: Target) -> Row {
    let peer_name = "the file unpacked on the native filesystem".to_owned();
    Row {
        what: what.to_owned(),
        unit,
        ours,
        peer,
        peer_name,
        target,
    }
}
