//! An image of many layers, indexed by one core and by two, and what a layer takes of memory.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Lab;
use crate::bench::report::{Row, Samples, Target};
use crate::bench::timed;
use crate::lab::{self, LayerFile, PackedImage};
use crate::process;
use crate::tree;

/// What an indexing process may have in memory, its program included.
const PEAK_MB: f64 = 64.0 * 1.048_576;

/// Which share of twice the speed two cores have to give.
const OF_LINEAR: f64 = 0.85;

/// Cores, as taskset(1) takes them.
const ONE: &str = "0";
const TWO: &str = "0,1";

pub(super) fn rows(lab: &Lab) -> Result<Vec<Row>> {
    let folder = tree::target().join("holdfast-demo");
    let many = lab::packed_many_layers_image(&folder)?;
    let zstd = lab::packed_zstd_image(&folder)?;
    let mut rows = vec![speed_row(lab, &many)?];
    for image in [&many, &zstd] {
        let layers = image.layers()?;
        let largest = layers.iter().max_by_key(|layer| layer.bytes);
        rows.push(memory_row(lab, image, largest.context("no layers")?)?);
    }
    Ok(rows)
}

/// The registry runs on the same cores: it is part of the work that they share.
fn speed_row(lab: &Lab, image: &PackedImage) -> Result<Row> {
    let name = lab.registry.push(image, &lab.login)?;
    let registry = lab.registry.process();
    let registry = registry.context("the registry is not there")?;
    let (mut one, mut both) = (Vec::new(), Vec::new());
    for _ in 0..lab.runs {
        for (cores, times) in [(ONE, &mut one), (TWO, &mut both)] {
            lab.ours.forget()?;
            lab.ours.login(&lab.registry.address(), &lab.login)?;
            pin(registry, cores)?;
            let arguments = ["image", "index", "--json", &name];
            let mut command = lab.ours.command_on(cores, &arguments);
            times.push(timed(|| process::capture(&mut command))?.1);
        }
    }
    pin(registry, TWO)?;
    // As rates, so that more is better.
    let rates = |seconds: Vec<f64>| Samples::of(seconds.into_iter().map(|it| 1.0 / it));
    Ok(Row {
        what: format!("first use of {} layers on two cores", image.layers()?.len()),
        unit: "1/s",
        ours: rates(both),
        peer: rates(one.into_iter().map(|seconds| seconds / 2.0).collect()),
        peer_name: "twice as fast as on one core".to_owned(),
        target: Target::AtLeast(OF_LINEAR),
    })
}

/// All threads of a process.
fn pin(process: u32, cores: &str) -> Result<()> {
    let process = process.to_string();
    let arguments = ["--all-tasks", "--cpu-list", "--pid", cores, &process];
    process::capture(&mut process::command("taskset", &arguments)).map(drop)
}

fn memory_row(lab: &Lab, image: &PackedImage, layer: &LayerFile) -> Result<Row> {
    let mut ours = Samples::default();
    for _ in 0..lab.runs {
        ours.push(peak_mb(lab, &layer.path)?);
    }
    Ok(Row {
        what: format!(
            "peak memory, layer of {} MB of {}",
            layer.bytes / 1_000_000,
            image.name
        ),
        unit: "MB",
        ours,
        peer: Samples::of([PEAK_MB]),
        peer_name: "64 MiB".to_owned(),
        target: Target::AtMost(1.0),
    })
}

/// What the indexing process says of itself. It gets its files as descriptors.
fn peak_mb(lab: &Lab, layer: &Path) -> Result<f64> {
    let folder = lab.folder("one-layer");
    std::fs::create_dir_all(&folder)?;
    let script = "exec \"$0\" layer-indexer --fill-cache 1000000000000 3>index 4>cache 5<>scratch";
    let mut command = Command::new("sh");
    command
        .args(["-c", script])
        .arg(lab.ours.binary())
        .current_dir(&folder)
        .stdin(File::open(layer)?);
    let report = process::capture(&mut command)?;
    process::run(process::command("rm", &["-rf"]).arg(&folder))?;
    let report: Value = serde_json::from_str(&report)?;
    let peak = report["indexed"]["peak_memory_bytes"].as_f64();
    Ok(peak.context("no peak was reported")? / 1e6)
}
