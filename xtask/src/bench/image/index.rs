//! Index building beside a bare inflate of the same stream, by `index_speed` of `layer-indexer`.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Lab;
use crate::bench::report::{Row, Samples, Target};
use crate::lab::LayerFile;
use crate::{process, tree};

/// A layer smaller than this is indexed before a clock can tell.
const LAYER_MIN_BYTES: u64 = 8 << 20;

/// What an index may take: a share of the compressed layer, and what the smallest one needs.
const INDEX_SHARE: f64 = 0.03;
const INDEX_BASE_BYTES: f64 = 16.0 * 1024.0;

pub(super) fn rows(lab: &Lab) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for layer in lab.demo.layers()? {
        if layer.bytes >= LAYER_MIN_BYTES {
            rows.extend(rows_of(&layer, lab.runs)?);
        }
    }
    Ok(rows)
}

fn rows_of(layer: &LayerFile, runs: usize) -> Result<Vec<Row>> {
    let found = measure(&layer.path, runs)?;
    let size = found["uncompressed_bytes"]
        .as_f64()
        .context("no size was printed")?;
    let speed = |who: &str, clock: &str| speeds(&found[who][clock], size);
    let row = |what: &str, clock, peer, peer_name: &str, target| {
        anyhow::Ok(Row {
            what: format!("{what}, layer of {} MB", layer.bytes / 1_000_000),
            unit: "MB/s",
            ours: speed("ours", clock)?,
            peer: speed(peer, clock)?,
            peer_name: peer_name.to_owned(),
            target,
        })
    };
    Ok(vec![
        row(
            "index build",
            "wall_seconds",
            "bare",
            "zlib-rs inflate, SHA-256 of both streams on a second thread",
            Target::AtLeast(0.75),
        )?,
        row(
            "index build per core",
            "cpu_seconds",
            "single",
            "zlib-rs inflate and SHA-256 of both streams",
            Target::None,
        )?,
        row(
            "index build",
            "wall_seconds",
            "gzip",
            "gzip -dc",
            Target::None,
        )?,
        size_row(layer, &found)?,
    ])
}

fn size_row(layer: &LayerFile, found: &Value) -> Result<Row> {
    let index = found["index_bytes"]
        .as_f64()
        .context("no index size was printed")?;
    let compressed = found["compressed_bytes"]
        .as_f64()
        .context("no layer size was printed")?;
    Ok(Row {
        what: format!("index size, layer of {} MB", layer.bytes / 1_000_000),
        unit: "kB",
        ours: Samples::of([index / 1000.0]),
        peer: Samples::of([(compressed * INDEX_SHARE + INDEX_BASE_BYTES) / 1000.0]),
        peer_name: "3 % of the layer and 16 KiB".to_owned(),
        target: Target::AtMost(1.0),
    })
}

fn measure(layer: &Path, runs: usize) -> Result<Value> {
    let mut command = process::command("cargo", &["run", "--release", "--quiet"]);
    command
        .args([
            "--package",
            "layer-indexer",
            "--example",
            "index_speed",
            "--",
        ])
        .arg(layer)
        .arg(runs.to_string())
        .current_dir(tree::root());
    serde_json::from_str(&process::capture(&mut command)?).context("index_speed prints no JSON")
}

/// Megabytes of the uncompressed layer per second.
fn speeds(seconds: &Value, bytes: f64) -> Result<Samples> {
    let seconds = seconds.as_array().context("no times were printed")?;
    let speeds = seconds.iter().filter_map(Value::as_f64);
    Ok(Samples::of(speeds.map(|seconds| bytes / 1e6 / seconds)))
}
