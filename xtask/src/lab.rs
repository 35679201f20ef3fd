//! What the demo, the benches and the end-to-end tests work on: a packed private image, and a
//! registry that demands a login.
//!
//! Invariants: everything is below a folder that the caller named; a registry dies with its owner;
//! passwords travel by file or standard input, never by argument. It deliberately knows nothing of
//! Holdfast: the image is packed by tools that are not ours.

mod debian;
mod image;
mod layout;
mod oddities;
mod registry;
mod science;
mod scratch;
mod shapes;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::arguments::Arguments;
use crate::{setup, tree};

pub(crate) use self::image::{
    Data, LayerFile, PackedImage, TAG, packed_image, packed_image_with_data,
};
pub(crate) use self::registry::{Login, Registry};
pub(crate) use self::science::packed_science_image;
pub(crate) use self::scratch::Scratch;
pub(crate) use self::shapes::{
    ZSTD_NAME, packed_many_layers_image, packed_one_layer_image, packed_zstd_image,
};

type Pack = fn(&Path) -> Result<PackedImage>;

const IMAGES: &[(&str, Pack)] = &[
    ("demo", packed_image),
    ("science", packed_science_image),
    ("science-zstd", packed_zstd_image),
    ("science-one-layer", packed_one_layer_image),
    ("science-many-layers", packed_many_layers_image),
];

/// `cargo xtask pack`: packs an image if it is not there and prints where it is.
pub(crate) fn pack(mut arguments: Arguments) -> Result<ExitCode> {
    let name = arguments.next_word();
    arguments.finish()?;
    setup::require_root()?;
    let folder = tree::target().join("holdfast-demo");
    let name = name.as_deref().unwrap_or("demo");
    let Some((_, pack)) = IMAGES.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = IMAGES.iter().map(|(known, _)| *known).collect();
        bail!("no image named {name}; there are: {}", known.join(", "));
    };
    let image = pack(&folder)?;
    println!("{}:{TAG}", image.layout.display());
    Ok(ExitCode::SUCCESS)
}
