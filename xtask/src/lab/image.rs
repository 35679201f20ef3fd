//! The demo image: Debian, Python, a layer of oddities and a small handler, four layers in all.
//!
//! Packed once and kept; [`RECIPE`] names what was packed, so that a changed recipe packs anew.
//! Layer 2 is encoded by umoci, in Go; the others by gzip(1) from archives of GNU tar.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::layout::Compression;
use super::{debian, layout, oddities};
use crate::process;

/// Goes up whenever what is packed changes.
const RECIPE: u32 = 3;

/// The tag inside the layout.
pub(crate) const TAG: &str = "demo";

/// Of random bytes: gzip saves about half of what is left.
pub(super) const HALF_OF_THE_BITS: u64 = 0x0f0f_0f0f_0f0f_0f0f;

/// Packages of the second layer: an interpreter and a few libraries that are only Python.
const PACKAGES: &[&str] = &["python3", "python3-requests", "python3-yaml"];

const HANDLER: &str = "\
import json, platform, sys

def handle(name):
    return {'hello': name, 'python': platform.python_version()}

if __name__ == '__main__':
    print(json.dumps(handle(sys.argv[1] if len(sys.argv) > 1 else 'world')))
";

/// An image on disk, ready to be pushed.
#[derive(Debug)]
pub(crate) struct PackedImage {
    /// The last part of its repository.
    pub(crate) name: &'static str,
    /// An OCI layout with one image, tagged [`TAG`].
    pub(crate) layout: PathBuf,
}

/// A layer's blob in the layout.
#[derive(Debug)]
pub(crate) struct LayerFile {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

impl PackedImage {
    /// The image's layers, lowest first.
    pub(crate) fn layers(&self) -> Result<Vec<LayerFile>> {
        let file = |path: PathBuf| {
            let bytes = std::fs::metadata(&path)?.len();
            Ok(LayerFile { path, bytes })
        };
        layout::layers(&self.layout)?
            .into_iter()
            .map(file)
            .collect()
    }
}

/// The packed image below `folder`, packing it if it is not there yet.
pub(crate) fn packed_image(folder: &Path) -> Result<PackedImage> {
    let layout = folder.join(format!("image-{RECIPE}"));
    keep(folder, &layout, || {
        println!("packing the demo image (once; about a minute)");
        pack(&folder.join("packing"), &folder.join("packing.log"))
    })?;
    Ok(PackedImage {
        name: "demo",
        layout,
    })
}

/// Files of one size in an image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Data {
    /// The last part of the image's repository.
    pub(crate) name: &'static str,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

impl Data {
    /// Where they are below the image's root.
    pub(crate) fn paths(self) -> impl Iterator<Item = PathBuf> {
        (0..self.files).map(|number| Path::new("data").join(number.to_string()))
    }
}

/// The demo image with a layer of files, for reading.
pub(crate) fn packed_image_with_data(folder: &Path, data: Data) -> Result<PackedImage> {
    let demo = packed_image(folder)?;
    let Data { name, files, bytes } = data;
    let layout = folder.join(format!("image-{RECIPE}-{name}-{files}-of-{bytes}"));
    keep(folder, &layout, || {
        println!("packing the image {name} (once)");
        let work = folder.join("packing");
        let image = work.join("image");
        copy(&demo, &image)?;
        let root = work.join("root");
        std::fs::create_dir_all(root.join("data"))?;
        for (number, path) in (0..).zip(data.paths()) {
            write_data(&root.join(path), bytes, number, HALF_OF_THE_BITS)?;
        }
        archive_layer(&work, &root, &image, "data")
    })?;
    Ok(PackedImage { name, layout })
}

/// Makes `layout` by `pack`, which leaves it in `packing/image`, unless it is there.
pub(super) fn keep(folder: &Path, layout: &Path, pack: impl FnOnce() -> Result<()>) -> Result<()> {
    if layout.join("index.json").exists() {
        return Ok(());
    }
    let work = folder.join("packing");
    remove(&work)?;
    std::fs::create_dir_all(&work)?;
    pack()?;
    remove(layout)?;
    std::fs::rename(work.join("image"), layout).context("cannot keep the packed image")?;
    remove(&work)
}

/// Writes the bits of `mask` of a fixed random sequence; another one for each number.
pub(super) fn write_data(path: &Path, length: u64, number: u64, mask: u64) -> Result<()> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(2 * number + 1);
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut file = BufWriter::new(file);
    for _ in 0..length / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all(&(state & mask).to_le_bytes())?;
    }
    file.flush()?;
    Ok(())
}

/// Copies an image's layout.
pub(super) fn copy(image: &PackedImage, to: &Path) -> Result<()> {
    let mut copy = process::command("cp", &["--archive"]);
    process::run(copy.arg(&image.layout).arg(to))
}

/// Makes a layout with an image of no layers; gives what umoci calls it.
pub(super) fn empty(layout: &Path) -> Result<String> {
    let tagged = format!("{}:{TAG}", layout.display());
    umoci(&["init", "--layout", path(layout)?])?;
    umoci(&["new", "--image", &tagged])?;
    Ok(tagged)
}

fn pack(work: &Path, log: &Path) -> Result<()> {
    let image = work.join("image");
    let tagged = empty(&image)?;
    println!("  layer 1: Debian, by debootstrap");
    let base = work.join("base");
    debian::bootstrap(&base, log)?;
    archive_layer(work, &base, &image, "a minimal Debian")?;
    println!("  layer 2: Python, by apt");
    let bundle = work.join("bundle");
    umoci(&["unpack", "--image", &tagged, path(&bundle)?])?;
    debian::install(&bundle.join("rootfs"), PACKAGES, log)?;
    umoci(&["repack", "--image", &tagged, path(&bundle)?])?;
    println!("  layer 3: oddities, by tar");
    let odd = work.join("oddities");
    std::fs::create_dir(&odd)?;
    oddities::fill(&odd)?;
    archive_layer(work, &odd, &image, "oddities")?;
    println!("  layer 4: a handler");
    let handler = work.join("handler");
    std::fs::create_dir_all(handler.join("app"))?;
    std::fs::write(handler.join("app/handler.py"), HANDLER)?;
    archive_layer(work, &handler, &image, "handler")?;
    configure(&tagged)
}

pub(super) fn configure(tagged: &str) -> Result<()> {
    umoci(&[
        "config",
        "--image",
        tagged,
        "--config.workingdir=/app",
        "--config.env=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "--config.env=LANG=C.UTF-8",
        "--config.cmd=python3",
        "--config.cmd=/app/handler.py",
        "--architecture=amd64",
        "--os=linux",
    ])
}

pub(super) fn archive_layer(work: &Path, folder: &Path, image: &Path, note: &str) -> Result<()> {
    let archive = work.join(format!("{}.tar", note.replace(' ', "-")));
    let mut tar = process::command("tar", &["--create", "--format=posix", "--numeric-owner"]);
    tar.args([
        "--xattrs",
        "--xattrs-include=*",
        "--sparse",
        "--sort=name",
        "--file",
    ]);
    process::run(tar.arg(&archive).arg("--directory").arg(folder).arg("."))?;
    layout::add_layer(image, &archive, note, Compression::Gzip)
}

pub(super) fn umoci(arguments: &[&str]) -> Result<()> {
    process::capture(&mut process::command("umoci", arguments)).map(drop)
}

pub(super) fn path(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}
