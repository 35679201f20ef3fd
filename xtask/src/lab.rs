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

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::arguments::Arguments;
use crate::{setup, tree};

pub(crate) use self::image::{LayerFile, PackedImage, TAG, packed_image, packed_image_with_data};
pub(crate) use self::registry::{Login, Registry};
pub(crate) use self::science::{ZSTD_NAME, packed_science_image, packed_zstd_image};
pub(crate) use self::scratch::Scratch;

/// `cargo xtask pack`: packs an image if it is not there and prints where it is.
pub(crate) fn pack(mut arguments: Arguments) -> Result<ExitCode> {
    let name = arguments.next_word();
    arguments.finish()?;
    setup::require_root()?;
    let folder = tree::target().join("holdfast-demo");
    let image = match name.as_deref() {
        None | Some("demo") => packed_image(&folder)?,
        Some("science") => packed_science_image(&folder)?,
        Some("science-zstd") => packed_zstd_image(&folder)?,
        Some(other) => bail!("no image named {other}; there are: demo, science, science-zstd"),
    };
    println!("{}:{TAG}", image.layout.display());
    Ok(ExitCode::SUCCESS)
}
