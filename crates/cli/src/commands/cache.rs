//! `holdfast cache du|prune`.

use image_fs::{LayerUsage, PruneReport, SpanCache};
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
        CacheCommand::Prune { all, keep, pinned } => {
            let keep_bytes = match keep {
                Some(size) if !all => crate::settings::parse_size(size)?,
                _ => 0,
            };
            let report = if *pinned {
                cache.prune_pinned_too(keep_bytes)
            } else {
                cache.prune(keep_bytes)
            };
            pruned(app, report?)
        }
    }
}

#[derive(Debug, Serialize)]
struct Usage {
    bytes: u64,
    pinned_bytes: u64,
    limit_bytes: u64,
    layers: Vec<Layer>,
}

#[derive(Debug, Serialize)]
struct Layer {
    origin: String,
    layer: String,
    bytes: u64,
    in_use: bool,
    pinned: bool,
}

impl From<LayerUsage> for Layer {
    fn from(usage: LayerUsage) -> Self {
        let LayerUsage {
            origin,
            layer,
            bytes,
            in_use,
            pinned,
            ..
        } = usage;
        Self {
            origin,
            layer,
            bytes,
            in_use,
            pinned,
        }
    }
}

fn usage(app: &App, cache: &SpanCache) -> Result<()> {
    let layers: Vec<Layer> = cache.du()?.into_iter().map(Layer::from).collect();
    let pinned = layers.iter().filter(|layer| layer.pinned);
    let usage = Usage {
        bytes: layers.iter().map(|layer| layer.bytes).sum(),
        pinned_bytes: pinned.map(|layer| layer.bytes).sum(),
        limit_bytes: app.settings.cache_limit_bytes,
        layers,
    };
    app.output.show(&usage, |usage| {
        let yes_or_no = |is_so| if is_so { "yes" } else { "no" };
        let rows = usage.layers.iter().map(|layer| {
            let layer_name = short(&layer.layer).to_owned();
            vec![
                layer.origin.clone(),
                layer_name,
                bytes(layer.bytes),
                yes_or_no(layer.in_use).to_owned(),
                yes_or_no(layer.pinned).to_owned(),
            ]
        });
        let listing = table(&["ORIGIN", "LAYER", "SIZE", "IN USE", "PINNED"], rows);
        format!(
            "{listing}\n{} of {}, {} pinned",
            bytes(usage.bytes),
            bytes(usage.limit_bytes),
            bytes(usage.pinned_bytes)
        )
    })
}

#[derive(Debug, Serialize)]
struct Pruned {
    layers: usize,
    bytes: u64,
}

fn pruned(app: &App, report: PruneReport) -> Result<()> {
    let pruned = Pruned {
        layers: report.layers,
        bytes: report.bytes,
    };
    app.output.show(&pruned, |pruned| {
        format!("removed {} layers, {}", pruned.layers, bytes(pruned.bytes))
    })
}
