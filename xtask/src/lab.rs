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
mod scratch;

use std::process::ExitCode;

use anyhow::Result;

use crate::arguments::Arguments;
use crate::{setup, tree};

pub(crate) use self::image::{LayerFile, PackedImage, TAG, packed_image, packed_image_with_data};
pub(crate) use self::registry::{Login, Registry};
pub(crate) use self::scratch::Scratch;

/// `cargo xtask pack`: packs the image if it is not there and prints where it is.
pub(crate) fn pack(arguments: Arguments) -> Result<ExitCode> {
    arguments.finish()?;
    setup::require_root()?;
    let image = packed_image(&tree::target().join("holdfast-demo"))?;
    println!("{}:{TAG}", image.layout.display());
    Ok(ExitCode::SUCCESS)
}
