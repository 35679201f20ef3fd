//! The image of `cargo xtask demo`, mounted, is what `tar` and the kernel's overlay make of it.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::read::MultiGzDecoder;
use registry_sim::{Layer, Options};
use serde_json::Value;

use crate::oracle::{Oracle, check_same, count};
use crate::support::{Published, blocking};

/// A whole Debian with an interpreter has more paths than this.
const PATHS_AT_LEAST: usize = 5000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_image_is_what_tar_and_overlay_make_of_it() {
    let blobs = blocking(|| layers_of(&pack())).await;
    assert!(blobs.len() >= 4, "{} layers", blobs.len());
    let image =
        Published::of_layers(Options::default(), blobs.iter().map(|blob| layer(blob))).await;
    let mounted = image.mount().await;
    let mountpoint = image.request.mountpoint.clone();
    blocking(move || {
        let oracle = Oracle::new(&blobs);
        let paths = count(&oracle);
        assert!(paths > PATHS_AT_LEAST, "only {paths} paths");
        check_same(&oracle, &mountpoint);
    })
    .await;
    mounted.stop().await;
}

/// Where `cargo xtask pack` keeps the image, which it packs if it is not there.
fn pack() -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["xtask", "pack"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said} {output:?}");
    let last = said.lines().last().unwrap_or_default();
    let (layout, _tag) = last.rsplit_once(':').expect("LAYOUT:TAG is printed");
    layout.into()
}

/// The layers' blobs of the only image in an OCI layout, lowest first.
fn layers_of(layout: &Path) -> Vec<Vec<u8>> {
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap();
        let name = digest.strip_prefix("sha256:").unwrap();
        fs::read(layout.join("blobs/sha256").join(name)).unwrap()
    };
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    let index = json(&fs::read(layout.join("index.json")).unwrap());
    let manifest = json(&blob(&index["manifests"][0]));
    let layers = manifest["layers"].as_array().unwrap();
    layers.iter().map(blob).collect()
}

fn layer(blob: &[u8]) -> Layer {
    let mut archive = Vec::new();
    MultiGzDecoder::new(blob).read_to_end(&mut archive).unwrap();
    let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
    Layer::compressed(kind, blob.to_vec(), &archive)
}
