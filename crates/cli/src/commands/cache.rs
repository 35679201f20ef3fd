//! `holdfast cache du|prune`.

use image_fs::{LayerUsage, SpanCache};
use serde::Serialize;

use crate::app::App;
use crate::args::CacheCommand;
use crate::failure::Result;
use crate::output::{bytes, table};
use crate::progress::short;

pub(crate) fn cache(app: &App, command: &CacheCommand) -> Result<()> {
    let cache = app.span_cache()?;
    match command {
        CacheCommand::Du => usage(app, &cache),
        CacheCommand::Prune { all, keep } => {
            let keep_bytes = match keep {
                Some(size) if !all => crate::settings::parse_size(size)?,
                _ => 0,
            };
            prune(app, &cache, keep_bytes)
        }
    }
}

#[derive(Debug, Serialize)]
struct Usage {
    bytes: u64,
    limit_bytes: u64,
    layers: Vec<Layer>,
}

#[derive(Debug, Serialize)]
struct Layer {
    origin: String,
    layer: String,
    bytes: u64,
    in_use: bool,
}

impl From<LayerUsage> for Layer {
    fn from(usage: LayerUsage) -> Self {
        let LayerUsage {
            origin,
            layer,
            bytes,
            in_use,
            ..
        } = usage;
        Self {
            origin,
            layer,
            bytes,
            in_use,
        }
    }
}

fn usage(app: &App, cache: &SpanCache) -> Result<()> {
    let layers: Vec<Layer> = cache.du()?.into_iter().map(Layer::from).collect();
    let usage = Usage {
        bytes: layers.iter().map(|layer| layer.bytes).sum(),
        limit_bytes: app.settings.cache_limit_bytes,
        layers,
    };
    app.output.show(&usage, |usage| {
        let rows = usage.layers.iter().map(|layer| {
            let in_use = if layer.in_use { "yes" } else { "no" };
            let layer_name = short(&layer.layer).to_owned();
            vec![
                layer.origin.clone(),
                layer_name,
                bytes(layer.bytes),
                in_use.to_owned(),
            ]
        });
        let listing = table(&["ORIGIN", "LAYER", "SIZE", "IN USE"], rows);
        format!(
            "{listing}\n{} of {}",
            bytes(usage.bytes),
            bytes(usage.limit_bytes)
        )
    })
}

#[derive(Debug, Serialize)]
struct Pruned {
    layers: usize,
    bytes: u64,
}

fn prune(app: &App, cache: &SpanCache, keep_bytes: u64) -> Result<()> {
    let report = cache.prune(keep_bytes)?;
    let pruned = Pruned {
        layers: report.layers,
        bytes: report.bytes,
    };
    app.output.show(&pruned, |pruned| {
        format!("removed {} layers, {}", pruned.layers, bytes(pruned.bytes))
    })
}
