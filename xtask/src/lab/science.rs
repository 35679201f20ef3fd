//! The image of the cold start bench: Debian, Python with pip, numpy and pandas, a pile of larger
//! libraries that the measured command never touches, and a small handler; five layers.
//!
//! Packed once and kept, as the demo image is. Wheels come from `PyPI`, each in one version, so
//! that two machines measure the same bytes.

use std::path::Path;

use anyhow::Result;

use super::debian;
use super::image::{self, PackedImage};
use crate::{process, python};

/// Goes up whenever what is packed changes.
pub(super) const RECIPE: u32 = 1;

const PACKAGES: &[&str] = &["python3", "python3-pip"];

/// Two layers of libraries: what the command imports, and what only lies there.
const LIBRARIES: &[(&str, &[&str])] = &[
    ("numpy and pandas", &["numpy==1.26.4", "pandas==2.2.3"]),
    (
        "larger libraries",
        &[
            "numpy==1.26.4",
            "scipy==1.13.1",
            "scikit-learn==1.5.2",
            "pyarrow==17.0.0",
            "matplotlib==3.9.2",
            "pillow==10.4.0",
            "fastapi==0.115.6",
        ],
    ),
];

/// Where Debian's Python looks for what pip installed.
const SITE: &str = "usr/local/lib/python3.11/dist-packages";

const HANDLER: &str = "def handle(name):\n    return {'hello': name}\n";

/// The image below `folder`, packing it if it is not there yet.
pub(crate) fn packed_science_image(folder: &Path) -> Result<PackedImage> {
    let kept = folder.join(format!("science-{RECIPE}"));
    image::keep(folder, &kept, || {
        println!("packing the image of scientific Python (once; some minutes)");
        pack(&folder.join("packing"), &folder.join("packing.log"))
    })?;
    Ok(PackedImage {
        name: "science",
        layout: kept,
    })
}

fn pack(work: &Path, log: &Path) -> Result<()> {
    let packed = work.join("image");
    let tagged = image::empty(&packed)?;
    println!("  layer 1: Debian, by debootstrap");
    let base = work.join("base");
    debian::bootstrap(&base, log)?;
    image::archive_layer(work, &base, &packed, "a minimal Debian")?;
    println!("  layer 2: Python, by apt");
    let bundle = work.join("bundle");
    image::umoci(&["unpack", "--image", &tagged, image::path(&bundle)?])?;
    debian::install(&bundle.join("rootfs"), PACKAGES, log)?;
    image::umoci(&["repack", "--image", &tagged, image::path(&bundle)?])?;
    for (number, (note, libraries)) in (3..).zip(LIBRARIES) {
        println!("  layer {number}: {note}, by pip");
        let folder = work.join(format!("layer-{number}"));
        install(&folder, libraries)?;
        image::archive_layer(work, &folder, &packed, note)?;
    }
    println!("  layer 5: a handler");
    let handler = work.join("handler");
    std::fs::create_dir_all(handler.join("app"))?;
    std::fs::write(handler.join("app/handler.py"), HANDLER)?;
    image::archive_layer(work, &handler, &packed, "handler")?;
    image::configure(&tagged)
}

/// Installs wheels into a folder, by the pip of an environment with Debian's own Python.
fn install(folder: &Path, libraries: &[&str]) -> Result<()> {
    python::install()?;
    let site = folder.join(SITE);
    std::fs::create_dir_all(&site)?;
    let mut pip = std::process::Command::new(python::interpreter("sdk"));
    pip.args(["-m", "pip", "install", "--quiet", "--no-warn-conflicts"]);
    pip.args(["--disable-pip-version-check", "--only-binary=:all:"]);
    process::run(pip.arg("--target").arg(&site).args(libraries))
}
