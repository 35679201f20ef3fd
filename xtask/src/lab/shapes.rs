//! The image of scientific Python in other shapes: layers of zstd, one large one, many small ones.
//!
//! The measured command finds the same files in each.

use std::path::Path;

use anyhow::Result;

use super::image::{self, PackedImage, TAG};
use super::layout::{self, Compression};
use super::science::{self, packed_science_image};
use crate::process;

/// Repository of the twin whose layers are of zstd.
pub(crate) const ZSTD_NAME: &str = "science-zstd";

/// What the one layer weighs.
const LARGE_LAYER_BYTES: u64 = 1 << 30;
/// Each of the files that make it so heavy.
const WEIGHTS_BYTES: u64 = 64 << 20;
/// Nothing that gzip could save, as weights of models are.
const ALL_BITS: u64 = u64::MAX;

/// Layers of the image that has many: a build that copies and runs a little at a time.
const MANY_LAYERS: usize = 60;
/// What each added layer brings.
const PART_BYTES: u64 = 512 << 10;

/// Its layers compressed by zstd.
pub(crate) fn packed_zstd_image(folder: &Path) -> Result<PackedImage> {
    reshaped(folder, ZSTD_NAME, recompress)
}

/// All in one layer, with weights of a model that make it 1 GiB.
pub(crate) fn packed_one_layer_image(folder: &Path) -> Result<PackedImage> {
    reshaped(folder, "science-one-layer", squash)
}

/// Sixty layers, of which the upper ones are small and replace a file of each other.
pub(crate) fn packed_many_layers_image(folder: &Path) -> Result<PackedImage> {
    reshaped(folder, "science-many-layers", pile)
}

/// The image in another shape, which `pack` leaves in the folder that it is given.
fn reshaped(
    folder: &Path,
    name: &'static str,
    pack: fn(&PackedImage, &Path) -> Result<()>,
) -> Result<PackedImage> {
    let science = packed_science_image(folder)?;
    let layout = folder.join(format!("{name}-{}", science::RECIPE));
    image::keep(folder, &layout, || {
        println!("packing {name} (once; a minute or two)");
        pack(&science, &folder.join("packing"))
    })?;
    Ok(PackedImage { name, layout })
}

fn recompress(science: &PackedImage, work: &Path) -> Result<()> {
    let packed = work.join("image");
    let tagged = image::empty(&packed)?;
    for (number, layer) in science.layers()?.iter().enumerate() {
        let archive = work.join(format!("layer-{number}.tar"));
        let mut gzip = process::command("gzip", &["-d", "-c"]);
        gzip.arg(&layer.path)
            .stdout(std::fs::File::create(&archive)?);
        process::run(&mut gzip)?;
        layout::add_layer(&packed, &archive, "a layer", Compression::Zstd)?;
    }
    image::configure(&tagged)
}

fn squash(science: &PackedImage, work: &Path) -> Result<()> {
    let bundle = work.join("bundle");
    let source = format!("{}:{TAG}", science.layout.display());
    image::umoci(&["unpack", "--image", &source, image::path(&bundle)?])?;
    let root = bundle.join("rootfs");
    let weights = root.join("srv/weights");
    std::fs::create_dir_all(&weights)?;
    let layers = science.layers()?;
    let there: u64 = layers.iter().map(|layer| layer.bytes).sum();
    for number in 0..LARGE_LAYER_BYTES.saturating_sub(there) / WEIGHTS_BYTES {
        let file = weights.join(format!("{number:02}.bin"));
        image::write_data(&file, WEIGHTS_BYTES, number, ALL_BITS)?;
    }
    let packed = work.join("image");
    let tagged = image::empty(&packed)?;
    image::archive_layer(work, &root, &packed, "everything")?;
    image::configure(&tagged)
}

fn pile(science: &PackedImage, work: &Path) -> Result<()> {
    let packed = work.join("image");
    image::copy(science, &packed)?;
    for number in science.layers()?.len()..MANY_LAYERS {
        let part = work.join(format!("part-{number}"));
        let app = part.join("app");
        std::fs::create_dir_all(&app)?;
        std::fs::write(app.join("version.txt"), format!("{number}\n"))?;
        let data = app.join(format!("part-{number}.bin"));
        image::write_data(&data, PART_BYTES, number as u64, image::HALF_OF_THE_BITS)?;
        image::archive_layer(work, &part, &packed, "a part")?;
    }
    Ok(())
}
