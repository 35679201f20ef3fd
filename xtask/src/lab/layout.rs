//! Adding a ready-made archive to an OCI layout, as it is, and finding what is in one.
//!
//! umoci compresses every layer by itself, in Go. Here gzip(1) or zstd(1) does it, so that several
//! ways of encoding are there. Blobs are only added; the old manifest is simply no longer named.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::process;

const GZIP_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const ZSTD_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// How a layer is compressed, by the program of that name.
#[derive(Debug, Clone, Copy)]
pub(super) enum Compression {
    Gzip,
    Zstd,
}

/// Compresses `archive` with gzip(1) or zstd(1) and puts it on top of the layout's only image.
pub(super) fn add_layer(
    layout: &Path,
    archive: &Path,
    note: &str,
    compression: Compression,
) -> Result<()> {
    let (program, flags, extension, media_type) = match compression {
        Compression::Gzip => ("gzip", ["-6", "-n", "-f", "-k"], "tar.gz", GZIP_TYPE),
        Compression::Zstd => ("zstd", ["-3", "-q", "-f", "-k"], "tar.zst", ZSTD_TYPE),
    };
    process::run(process::command(program, &flags).arg(archive))?;
    let compressed = archive.with_extension(extension);
    let diff_id = sha256(archive)?;
    let layer = add_blob(layout, &compressed, media_type)?;
    let mut index = read_json(&layout.join("index.json"))?;
    let mut manifest = read_json(&blob(layout, &index["manifests"][0])?)?;
    let mut config = read_json(&blob(layout, &manifest["config"])?)?;
    push(
        &mut config["rootfs"]["diff_ids"],
        json!(format!("sha256:{diff_id}")),
    );
    push(&mut config["history"], json!({"created_by": note}));
    push(&mut manifest["layers"], layer);
    manifest["config"] = merged(&manifest["config"], add_json(layout, &config)?);
    index["manifests"][0] = merged(&index["manifests"][0], add_json(layout, &manifest)?);
    write_json(&layout.join("index.json"), &index)
}

/// The blobs of the only image's layers, lowest first.
pub(super) fn layers(layout: &Path) -> Result<Vec<PathBuf>> {
    let index = read_json(&layout.join("index.json"))?;
    let manifest = read_json(&blob(layout, &index["manifests"][0])?)?;
    let layers = manifest["layers"].as_array().context("no layers")?;
    layers.iter().map(|layer| blob(layout, layer)).collect()
}

fn push(list: &mut Value, value: Value) {
    if let Some(list) = list.as_array_mut() {
        list.push(value);
    } else {
        *list = json!([value]);
    }
}

/// `old` with the fields of `new`.
fn merged(old: &Value, new: Value) -> Value {
    let mut result = old.clone();
    if let (Some(result), Value::Object(new)) = (result.as_object_mut(), new) {
        result.extend(new);
    }
    result
}

fn blob(layout: &Path, descriptor: &Value) -> Result<PathBuf> {
    let digest = descriptor["digest"]
        .as_str()
        .and_then(|text| text.strip_prefix("sha256:"));
    Ok(layout
        .join("blobs/sha256")
        .join(digest.context("a descriptor without a digest")?))
}

fn add_blob(layout: &Path, file: &Path, media_type: &str) -> Result<Value> {
    let digest = sha256(file)?;
    let size = std::fs::metadata(file)?.len();
    std::fs::copy(file, layout.join("blobs/sha256").join(&digest))
        .with_context(|| format!("cannot copy {} into the layout", file.display()))?;
    Ok(json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size}))
}

/// Adds a document; gives the fields of its descriptor that change with it.
fn add_json(layout: &Path, value: &Value) -> Result<Value> {
    let file = layout.join("document.json");
    write_json(&file, value)?;
    let mut descriptor = add_blob(layout, &file, "")?;
    std::fs::remove_file(&file)?;
    descriptor
        .as_object_mut()
        .expect("a descriptor is an object")
        .remove("mediaType");
    Ok(descriptor)
}

fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", path.display()))
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    std::fs::write(path, serde_json::to_vec(value)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

fn sha256(path: &Path) -> Result<String> {
    let text = process::capture(process::command("sha256sum", &["--"]).arg(path))?;
    let digest = text.trim_start_matches('\\').split_whitespace().next();
    Ok(digest.context("sha256sum printed nothing")?.to_owned())
}
