//! `holdfast image pin|unpin`.

use serde::Serialize;

use crate::app::App;
use crate::args::ImageArg;
use crate::commands::reference::parse;
use crate::failure::{Failure, Kind, Result};
use crate::output::bytes;
use crate::progress::short;
use crate::resolved::resolve;

#[derive(Debug, Serialize)]
struct Pinned {
    image: String,
    manifest_digest: String,
    layers: usize,
    uncompressed_bytes: u64,
    /// For how long the image starts while its registry does not answer.
    offline_seconds: u64,
}

pub(super) async fn pin(app: &App, args: &ImageArg) -> Result<()> {
    let resolved = resolve(app, &args.image, args.credential.as_deref()).await?;
    let layers = resolved.pin(app).await;
    resolved.end().await;
    let layers = layers?;
    let opened = &resolved.opened;
    let all = opened.broker.store().workspaces().await?;
    let own = all.iter().find(|own| own.id == opened.workspace);
    let sizes = layers
        .iter()
        .map(|layer| layer.index.header.uncompressed_size);
    let pinned = Pinned {
        image: resolved.pinned.reference.canonical(),
        manifest_digest: resolved.pinned.manifest_digest.to_string(),
        layers: layers.len(),
        uncompressed_bytes: sizes.sum(),
        offline_seconds: own.map_or(0, |own| broker::offline_for(own).as_secs()),
    };
    app.output.show(&pinned, |pinned| {
        format!(
            "pinned {} as {}: {} layers, {}",
            pinned.image,
            short(&pinned.manifest_digest),
            pinned.layers,
            bytes(pinned.uncompressed_bytes),
        )
    })
}

#[derive(Debug, Serialize)]
struct Unpinned {
    image: String,
}

pub(super) async fn unpin(app: &App, image: &str) -> Result<()> {
    let name = parse(image)?.canonical();
    let opened = app.open().await?;
    let owner = opened.workspace.to_string();
    if !app.span_cache()?.unpin(&owner, &name)? {
        let failure = Failure::new(Kind::NotFound, format!("{name} is not pinned"));
        return Err(failure.hint("an image is unpinned by the name that it was pinned by"));
    }
    app.output.show(&Unpinned { image: name }, |unpinned| {
        format!("unpinned {}", unpinned.image)
    })
}
