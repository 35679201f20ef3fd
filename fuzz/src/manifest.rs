//! Manifests, indexes and image configurations: bounded, unambiguous, read back as written.

use container::{ImageDefaults, Overrides, compose};
use registry_client::fuzzing::{Manifest, ManifestContent, read_manifest};
use registry_client::{Descriptor, Platform};
use serde_json::{Value, json};

use crate::text::{check_message, split_line};

/// As the reader has them.
const LAYERS_MAX: usize = 512;
const URLS_MAX: usize = 8;
const MEDIA_TYPE_MAX_BYTES: usize = 255;

/// The first line is the `Content-Type`, the rest the document.
pub fn check(bytes: &[u8]) {
    let (content_type, document) = split_line(bytes);
    // As a header's value can be: visible ASCII, blanks and tabs.
    let content_type = str::from_utf8(content_type).ok().filter(|text| {
        text.bytes()
            .all(|byte| byte == b'\t' || (32..127).contains(&byte))
    });
    let platform = Platform::new("linux", "amd64", None);
    match read_manifest(content_type, document, &platform) {
        Ok(manifest) => check_manifest(&manifest, document, &platform),
        Err(message) => check_message(&message),
    }
    check_config(document);
}

fn check_manifest(manifest: &Manifest, document: &[u8], platform: &Platform) {
    check_media_type(&manifest.media_type);
    match &manifest.content {
        ManifestContent::Image { config, layers } => {
            assert!(layers.len() <= LAYERS_MAX);
            layers.iter().chain([config]).for_each(check_descriptor);
            check_read_back(manifest, config, layers, platform);
        }
        ManifestContent::Index(Ok(chosen)) => {
            check_descriptor(chosen);
            check_chosen(chosen, document);
        }
        ManifestContent::Index(Err(message)) => check_message(message),
    }
}

fn check_media_type(text: &str) {
    assert!(
        text.len() <= MEDIA_TYPE_MAX_BYTES,
        "a type of {} bytes",
        text.len()
    );
    assert!(
        text.bytes().all(|byte| (32..127).contains(&byte)),
        "{text:?}"
    );
}

fn check_descriptor(descriptor: &Descriptor) {
    check_media_type(&descriptor.media_type);
    assert!(descriptor.urls.len() <= URLS_MAX);
}

fn check_read_back(
    manifest: &Manifest,
    config: &Descriptor,
    layers: &[Descriptor],
    platform: &Platform,
) {
    let document = json!({
        "schemaVersion": 2,
        "mediaType": manifest.media_type,
        "config": written(config),
        "layers": layers.iter().map(written).collect::<Vec<_>>(),
    });
    let again = read_manifest(None, document.to_string().as_bytes(), platform);
    assert_eq!(again.as_ref(), Ok(manifest), "{document}");
}

fn written(descriptor: &Descriptor) -> Value {
    json!({
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest.as_str(),
        "size": descriptor.size,
        "urls": descriptor.urls,
    })
}

/// The chosen entry is one that the index has, and is for the platform that was asked for.
fn check_chosen(chosen: &Descriptor, document: &[u8]) {
    let Some(document) = strict(document) else {
        return;
    };
    let entries = document["manifests"]
        .as_array()
        .expect("an index has entries");
    let fits = |entry: &Value| {
        let platform = &entry["platform"];
        let alone = entries.len() == 1 && platform.is_null();
        let ours = platform["os"] == "linux" && platform["architecture"] == "amd64";
        (alone || ours)
            && entry["digest"] == chosen.digest.as_str()
            && entry["size"].as_u64() == Some(chosen.size)
    };
    assert!(entries.iter().any(fits), "{chosen:?} is not offered");
}

/// The document as a reader sees it that also looks at what ours skips, such as unknown keys.
fn strict(document: &[u8]) -> Option<Value> {
    serde_json::from_slice(document).ok()
}

fn check_config(document: &[u8]) {
    if let (Ok(digests), Some(listed)) = (image::diff_ids(document), strict(document)) {
        let listed = listed["rootfs"]["diff_ids"].as_array().map_or(0, Vec::len);
        assert_eq!(digests.len(), listed);
    }
    let Ok(defaults) = ImageDefaults::from_config(document) else {
        return;
    };
    let Ok(process) = compose(&defaults, &Overrides::default(), "host") else {
        return;
    };
    assert!(
        process
            .args
            .first()
            .is_some_and(|program| !program.is_empty())
    );
    let texts = process
        .args
        .iter()
        .chain(&process.env)
        .chain([&process.cwd]);
    assert!(texts.into_iter().all(|text| !text.contains('\0')));
    let mut names: Vec<&str> = process.env.iter().map(|entry| name_of(entry)).collect();
    assert!(names.iter().all(|name| !name.is_empty()));
    names.sort_unstable();
    assert!(
        names.is_sorted_by(|one, next| one < next),
        "a variable twice"
    );
    assert!(process.cwd.starts_with('/'));
    let parts = process.cwd.split('/').skip(1);
    assert!(
        process.cwd == "/"
            || parts
                .into_iter()
                .all(|part| !["", ".", ".."].contains(&part))
    );
}

fn name_of(entry: &str) -> &str {
    entry.split_once('=').expect("an entry sets a variable").0
}
