//! `holdfast image index|inspect|mount|verify|list|warm|pin|unpin`.

mod pins;
mod warm;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::{Fill, LayerReport};
use image_mount::{Janitor, MountError, MountProcess};
use serde::Serialize;

use crate::app::{App, own_program};
use crate::args::{ImageArg, ImageCommand};
use crate::failure::{Failure, Kind, Result};
use crate::output::{bytes, json_text, or_dash, show_time, table};
use crate::progress::short;
use crate::resolved::{Resolved, layer_ref, resolve};

pub(crate) async fn image(app: &App, command: ImageCommand) -> Result<()> {
    match command {
        ImageCommand::Index(args) => index(app, &args, Fill::Unindexed).await,
        ImageCommand::Warm(args) => warm::warm(app, &args).await,
        ImageCommand::Inspect(args) => inspect(app, &args).await,
        ImageCommand::Mount { image, directory } => mount(app, &image, &directory).await,
        ImageCommand::Verify(args) => verify(app, &args).await,
        ImageCommand::List => list(app).await,
        ImageCommand::Pin(args) => pins::pin(app, &args).await,
        ImageCommand::Unpin { image } => pins::unpin(app, &image).await,
    }
}

#[derive(Debug, Serialize)]
struct Indexed {
    image: String,
    manifest_digest: String,
    layers: Vec<Layer>,
}

#[derive(Debug, Serialize)]
struct Layer {
    digest: String,
    media_type: String,
    compressed_bytes: u64,
    uncompressed_bytes: u64,
    entries: u64,
    spans: u64,
    index_bytes: u64,
    /// Nothing for an index that was there already.
    seconds: Option<f64>,
}

impl From<&LayerReport> for Layer {
    fn from(report: &LayerReport) -> Self {
        let header = &report.index.header;
        Self {
            digest: report.digest.clone(),
            media_type: report.media_type.clone(),
            compressed_bytes: header.compressed_size,
            uncompressed_bytes: header.uncompressed_size,
            entries: header.entry_count,
            spans: header.span_count,
            index_bytes: report.index.file_bytes,
            seconds: report.took.map(|took| took.as_secs_f64()),
        }
    }
}

async fn index(app: &App, args: &ImageArg, fill: Fill) -> Result<()> {
    let resolved = resolve(app, &args.image, args.credential.as_deref()).await?;
    let layers = resolved.index(app, fill).await?;
    resolved.end().await;
    let indexed = Indexed {
        image: resolved.pinned.reference.canonical(),
        manifest_digest: resolved.pinned.manifest_digest.to_string(),
        layers: layers.iter().map(Layer::from).collect(),
    };
    app.output.show(&indexed, |indexed| {
        let cells = indexed.layers.iter().map(|layer| {
            let seconds = layer
                .seconds
                .map_or_else(|| "-".into(), |took| format!("{took:.1} s"));
            vec![
                short(&layer.digest).to_owned(),
                bytes(layer.compressed_bytes),
                bytes(layer.uncompressed_bytes),
                layer.entries.to_string(),
                bytes(layer.index_bytes),
                seconds,
            ]
        });
        table(
            &[
                "LAYER",
                "COMPRESSED",
                "UNPACKED",
                "ENTRIES",
                "INDEX",
                "TOOK",
            ],
            cells,
        )
    })
}

#[derive(Debug, Serialize)]
struct Inspected {
    image: String,
    manifest_digest: String,
    config_digest: String,
    config: serde_json::Value,
    layers: Vec<InspectedLayer>,
}

#[derive(Debug, Serialize)]
struct InspectedLayer {
    digest: String,
    diff_id: String,
    media_type: String,
    compressed_bytes: u64,
    indexed: bool,
}

async fn inspect(app: &App, args: &ImageArg) -> Result<()> {
    let resolved = resolve(app, &args.image, args.credential.as_deref()).await?;
    resolved.end().await;
    let pinned = &resolved.pinned;
    let store = app.image_store()?;
    let layers = pinned.layers.iter().map(|layer| {
        let digest = layer.descriptor.digest.as_str();
        Ok(InspectedLayer {
            digest: digest.to_owned(),
            diff_id: layer.diff_id.to_string(),
            media_type: layer.descriptor.media_type.clone(),
            compressed_bytes: layer.descriptor.size,
            indexed: store.index(pinned.index_key(layer))?.is_some(),
        })
    });
    let config = serde_json::from_slice(&pinned.config)
        .map_err(|error| Failure::new(Kind::Corrupt, format!("configuration: {error}")))?;
    let inspected = Inspected {
        image: pinned.reference.canonical(),
        manifest_digest: pinned.manifest_digest.to_string(),
        config_digest: pinned.config_digest.to_string(),
        config,
        layers: layers.collect::<Result<_>>()?,
    };
    // There is no better text for a configuration than its JSON.
    app.output.show(&inspected, |inspected| {
        json_text(inspected).unwrap_or_default()
    })
}

async fn mount(app: &App, args: &ImageArg, directory: &Path) -> Result<()> {
    let directory = place_to_mount(directory)?;
    let resolved = resolve(app, &args.image, args.credential.as_deref()).await?;
    let layers = resolved.index(app, Fill::Unindexed).await?;
    let request = resolved.mount_request(app, &layers, directory.clone())?;
    let lease = Arc::clone(&resolved.reader.lease);
    // From here on a Ctrl-C waits until there is something to unmount.
    let mut signals = container::Signals::listen()
        .map_err(|error| Failure::new(Kind::Machine, format!("signals: {error}")))?;
    let program = own_program()?;
    let _janitor = Janitor::start(&program, &directory)
        .map_err(|error| Failure::new(Kind::Machine, format!("mount janitor: {error}")))?;
    let mounted = MountProcess::spawn(&program, request, lease).await;
    if let Err(MountError::Index { .. }) = &mounted {
        remove_damaged_indexes(app, &resolved).await?;
    }
    let mut mounted = mounted?;
    app.output.note(&format!(
        "mounted on {}; Ctrl-C unmounts",
        directory.display()
    ));
    tokio::select! {
        _ = signals.asked_to_end() => {
            mounted.stop().await?;
            resolved.end().await;
            Ok(())
        }
        error = mounted.died() => Err(error.into()),
    }
}

/// The directory, cleared of a mount that was left there and answers no more.
fn place_to_mount(directory: &Path) -> Result<PathBuf> {
    let failed = |error: io::Error| {
        Failure::invalid(format!("{}: {error}", directory.display()))
            .hint("name a directory that exists")
    };
    // A dead mount has no name to be resolved, the directory that it is in has.
    if let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) {
        let parent = std::path::absolute(parent.join(".")).and_then(|path| path.canonicalize());
        let place = parent.map_err(failed)?.join(name);
        image_mount::unmount_dead(&place).map_err(failed)?;
    }
    directory.canonicalize().map_err(failed)
}

#[derive(Debug, Serialize)]
struct Verified {
    image: String,
    manifest_digest: String,
    layers: Vec<VerifiedLayer>,
}

#[derive(Debug, Serialize)]
struct VerifiedLayer {
    digest: String,
    index_sound: bool,
    spans: u64,
    spans_cached: u64,
    spans_damaged: u64,
}

impl VerifiedLayer {
    fn without_index(digest: String, spans: u64) -> Self {
        Self {
            digest,
            index_sound: false,
            spans,
            spans_cached: 0,
            spans_damaged: 0,
        }
    }
}

/// Checks what is here, in a confined process. Damaged spans are forgotten, so that they will be
/// fetched again; damaged indexes are removed, so that they will be made again.
async fn verify(app: &App, args: &ImageArg) -> Result<()> {
    let resolved = resolve(app, &args.image, args.credential.as_deref()).await?;
    resolved.end().await;
    let layers = verify_layers(app, &resolved).await?;
    let verified = Verified {
        image: resolved.pinned.reference.canonical(),
        manifest_digest: resolved.pinned.manifest_digest.to_string(),
        layers,
    };
    app.output.show(&verified, render_verified)?;
    let sound = |layer: &VerifiedLayer| layer.index_sound && layer.spans_damaged == 0;
    if verified.layers.iter().all(sound) {
        return Ok(());
    }
    Err(Failure::new(Kind::Corrupt, "the image is not whole here")
        .hint("`holdfast image index` makes missing indexes; damaged spans are fetched again"))
}

/// Once a mount process found an index damaged, the next command makes it anew.
pub(crate) async fn remove_damaged_indexes(app: &App, resolved: &Resolved) -> Result<()> {
    verify_layers(app, resolved).await.map(drop)
}

async fn verify_layers(app: &App, resolved: &Resolved) -> Result<Vec<VerifiedLayer>> {
    let (store, pinned) = (app.image_store()?, &resolved.pinned);
    let mut layers = Vec::new();
    for layer in &pinned.layers {
        let digest = layer.descriptor.digest.to_string();
        let key = pinned.index_key(layer);
        let Some(index) = store.index(key)? else {
            layers.push(VerifiedLayer::without_index(digest, 0));
            continue;
        };
        let spans = index.header.span_count;
        let layer = layer_ref(&store, key, index)?;
        let origin = pinned.origin.clone();
        let program = own_program()?;
        let verdict = image_mount::verify(&program, layer, origin, app.span_cache()?).await?;
        if verdict.index_problem.is_some() {
            store.remove_index(key)?;
            layers.push(VerifiedLayer::without_index(digest, spans));
            continue;
        }
        layers.push(VerifiedLayer {
            digest,
            index_sound: true,
            spans,
            spans_cached: verdict.spans_sound,
            spans_damaged: verdict.spans_damaged,
        });
    }
    Ok(layers)
}

fn render_verified(verified: &Verified) -> String {
    let cells = verified.layers.iter().map(|layer| {
        let index = if layer.index_sound {
            "sound"
        } else {
            "missing"
        };
        let cached = format!("{} of {}", layer.spans_cached, layer.spans);
        let damaged = layer.spans_damaged.to_string();
        vec![
            short(&layer.digest).to_owned(),
            index.to_owned(),
            cached,
            damaged,
        ]
    });
    table(&["LAYER", "INDEX", "SPANS CACHED", "DAMAGED"], cells)
}

#[derive(Debug, Serialize)]
struct Listed {
    image: String,
    manifest_digest: String,
    layers: usize,
    compressed_bytes: u64,
    created_at: String,
    /// The names that keep it in the cache.
    pinned_as: Vec<String>,
}

async fn list(app: &App) -> Result<()> {
    let opened = app.open().await?;
    let images = opened.broker.store().images(opened.workspace).await?;
    let (pins, owner) = (app.span_cache()?.pins()?, opened.workspace.to_string());
    let listed: Vec<Listed> = images
        .into_iter()
        .map(|image| Listed {
            pinned_as: image::names_pinned(&pins, &owner, &image.origin, &image.manifest_digest),
            image: image.canonical,
            manifest_digest: image.manifest_digest.to_string(),
            layers: image.layers.len(),
            compressed_bytes: image.layers.iter().map(|layer| layer.size_bytes).sum(),
            created_at: show_time(image.created_at),
        })
        .collect();
    app.output.show(&listed, |listed| {
        let cells = listed.iter().map(|image| {
            vec![
                image.image.clone(),
                short(&image.manifest_digest).to_owned(),
                image.layers.to_string(),
                bytes(image.compressed_bytes),
                image.created_at.clone(),
                or_dash((!image.pinned_as.is_empty()).then_some(&*image.pinned_as.join(", "))),
            ]
        });
        table(
            &[
                "IMAGE",
                "MANIFEST",
                "LAYERS",
                "SIZE",
                "INDEXED",
                "PINNED AS",
            ],
            cells,
        )
    })
}
