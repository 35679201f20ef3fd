//! Reading a manifest's bytes: which kind it is, what it points to, which platform to take.
//!
//! Pure. Media types that nobody knows yet are kept; a document that claims two kinds at once is
//! refused, because two readers could take it for two different images.

use reference::Digest;
use serde::Deserialize;

use crate::manifest::Descriptor;
use crate::media_type::{self, Kind};
use crate::platform::Platform;

/// Layers of one image. Overlays of the kernel and of other tools stop at 128 to 500.
const MAX_LAYERS: usize = 512;

/// Platforms named in an error.
const MAX_NAMED_PLATFORMS: usize = 12;

/// Longest media type kept; real ones are below 100.
const MAX_MEDIA_TYPE_BYTES: usize = 255;

/// URLs kept for one descriptor. They are never dialled, only named in an error.
const MAX_URLS: usize = 8;

/// Why a document cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Flaw {
    Corrupt(String),
    Unsupported(String),
}

/// A manifest that has been read.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) media_type: String,
    pub(crate) content: Content,
}

#[derive(Debug)]
pub(crate) enum Content {
    Image {
        config: Descriptor,
        layers: Vec<Descriptor>,
    },
    Index(Offers),
}

/// What an index offers. Entries become descriptors only when chosen, so that an entry for some
/// other platform cannot spoil ours.
#[derive(Debug)]
pub(crate) struct Offers(Vec<WireDescriptor>);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireDocument {
    schema_version: u32,
    media_type: Option<String>,
    config: Option<WireDescriptor>,
    layers: Option<Vec<WireDescriptor>>,
    manifests: Option<Vec<WireDescriptor>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireDescriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    urls: Option<Vec<String>>,
    #[serde(default)]
    platform: Option<WirePlatform>,
}

#[derive(Debug, Deserialize)]
struct WirePlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

/// Reads a manifest that came with this `Content-Type`.
pub(crate) fn read(content_type: Option<&str>, bytes: &[u8]) -> Result<Document, Flaw> {
    let header = media_type::essence(content_type.unwrap_or_default());
    if media_type::kind(&header) == Kind::SchemaOne {
        return Err(schema_one());
    }
    let wire: WireDocument = serde_json::from_slice(bytes).map_err(|error| {
        Flaw::Corrupt(dial::quoted(
            format!("not a manifest: {error}").as_bytes(),
            200,
        ))
    })?;
    if wire.schema_version == 1 {
        return Err(schema_one());
    }
    if wire.schema_version != 2 {
        return Err(Flaw::Unsupported(format!(
            "schema version {}",
            wire.schema_version
        )));
    }
    let media_type = agreed_type(&header, wire.media_type.as_deref())?;
    let content = content(wire, media_type::kind(&media_type))?;
    Ok(Document {
        media_type,
        content,
    })
}

fn schema_one() -> Flaw {
    Flaw::Unsupported("docker schema 1 manifests are too old; push the image again".to_owned())
}

/// The type that header and document agree on. A generic header type agrees with everything.
fn agreed_type(header: &str, inside: Option<&str>) -> Result<String, Flaw> {
    let Some(inside) = inside
        .map(media_type::essence)
        .filter(|inside| !inside.is_empty())
    else {
        check_media_type(header)?;
        return Ok(header.to_owned());
    };
    if media_type::kind(header) != Kind::Unknown && header != inside {
        let header = shown(header);
        return Err(Flaw::Corrupt(format!(
            "it came as {header} and calls itself {}",
            shown(&inside)
        )));
    }
    if media_type::kind(&inside) == Kind::SchemaOne {
        return Err(schema_one());
    }
    check_media_type(&inside)?;
    Ok(inside)
}

fn content(wire: WireDocument, kind: Kind) -> Result<Content, Flaw> {
    match (kind, wire.manifests, wire.config, wire.layers) {
        (Kind::Index | Kind::Unknown, Some(manifests), None, None) => {
            Ok(Content::Index(Offers(manifests)))
        }
        (Kind::Image | Kind::Unknown, None, Some(config), Some(layers)) => image(config, layers),
        (_, Some(_), _, Some(_)) => {
            Err(Flaw::Corrupt("it has both layers and manifests".to_owned()))
        }
        (Kind::Unknown, ..) => Err(Flaw::Unsupported(
            "not an image and not an index".to_owned(),
        )),
        _ => Err(Flaw::Corrupt(
            "it is not what its media type says".to_owned(),
        )),
    }
}

fn image(config: WireDescriptor, layers: Vec<WireDescriptor>) -> Result<Content, Flaw> {
    if layers.len() > MAX_LAYERS {
        return Err(Flaw::Unsupported(format!(
            "{} layers are too many",
            layers.len()
        )));
    }
    let config = descriptor(config)?;
    let layers = layers
        .into_iter()
        .map(descriptor)
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Content::Image { config, layers })
}

fn descriptor(wire: WireDescriptor) -> Result<Descriptor, Flaw> {
    let digest = Digest::parse(&wire.digest)
        .map_err(|error| Flaw::Unsupported(format!("digest {}: {error}", shown(&wire.digest))))?;
    check_media_type(&wire.media_type)?;
    let urls = wire
        .urls
        .unwrap_or_default()
        .into_iter()
        .take(MAX_URLS)
        .collect();
    Ok(Descriptor {
        digest,
        size: wire.size,
        media_type: wire.media_type,
        urls,
    })
}

/// Media types travel into indexes and output: short printable ASCII only.
fn check_media_type(text: &str) -> Result<(), Flaw> {
    let printable = text
        .bytes()
        .all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if text.len() > MAX_MEDIA_TYPE_BYTES || !printable {
        return Err(Flaw::Corrupt(format!("media type {}", shown(text))));
    }
    Ok(())
}

fn shown(text: &str) -> String {
    dial::quoted(text.as_bytes(), 80)
}

impl Offers {
    /// The entry that runs best on `platform`.
    ///
    /// An entry that names no platform is taken when it is the only one of an index.
    pub(crate) fn choose(mut self, platform: &Platform) -> Result<Descriptor, Flaw> {
        let best = self
            .0
            .iter()
            .enumerate()
            .filter_map(|(position, entry)| {
                let offered = entry.platform.as_ref()?.read();
                Some((platform.distance(&offered)?, position))
            })
            .min();
        let position = match best {
            Some((_, position)) => position,
            None if self.0.len() == 1 && self.0[0].platform.is_none() => 0,
            None => return Err(self.none_for(platform)),
        };
        descriptor(self.0.swap_remove(position))
    }

    fn none_for(&self, platform: &Platform) -> Flaw {
        let mut names: Vec<String> = Vec::new();
        for entry in &self.0 {
            let Some(offered) = &entry.platform else {
                continue;
            };
            let name = shown(&offered.read().to_string());
            if offered.os != "unknown" && !names.contains(&name) {
                names.push(name);
            }
            if names.len() == MAX_NAMED_PLATFORMS {
                break;
            }
        }
        let offered = if names.is_empty() {
            "nothing".to_owned()
        } else {
            names.join(", ")
        };
        Flaw::Unsupported(format!(
            "there is no image for {platform}; the index offers {offered}"
        ))
    }
}

impl WirePlatform {
    fn read(&self) -> Platform {
        let variant = self
            .variant
            .as_deref()
            .filter(|variant| !variant.is_empty());
        Platform::new(&self.os, &self.architecture, variant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const OCI: &str = media_type::OCI_MANIFEST;
    const INDEX: &str = media_type::OCI_INDEX;

    fn entry(media_type: &str, platform: Option<&str>) -> Value {
        let digest = format!("sha256:{}", "a".repeat(64));
        let mut entry = json!({ "mediaType": media_type, "digest": digest, "size": 7 });
        if let Some((os, architecture)) = platform.and_then(|text| text.split_once('/')) {
            entry["platform"] = json!({ "os": os, "architecture": architecture });
        }
        entry
    }

    fn image_document(media_type: &str) -> Value {
        json!({ "schemaVersion": 2, "mediaType": media_type, "config": entry("c", None),
                "layers": [entry("some/new+type", None)] })
    }

    fn read_json(header: Option<&str>, value: &Value) -> Result<Document, Flaw> {
        read(header, value.to_string().as_bytes())
    }

    #[test]
    fn images_are_read_whatever_their_layers_are() {
        for header in [
            Some(OCI),
            Some("application/json"),
            None,
            Some("text/plain; charset=x"),
        ] {
            let document = read_json(header, &image_document(OCI)).expect("image");
            assert_eq!(document.media_type, OCI);
            let Content::Image { layers, .. } = document.content else {
                panic!("not an image")
            };
            assert_eq!(layers[0].media_type, "some/new+type");
        }
        let mut untyped = image_document(OCI);
        untyped.as_object_mut().expect("object").remove("mediaType");
        let document = read_json(Some("application/vnd.new.manifest.v9+json"), &untyped);
        assert_eq!(
            document.expect("image").media_type,
            "application/vnd.new.manifest.v9+json"
        );
    }

    #[test]
    fn documents_of_two_minds_are_refused() {
        let mut both = image_document(OCI);
        both["manifests"] = json!([entry(OCI, None)]);
        let mut untyped = image_document(OCI);
        untyped.as_object_mut().expect("object").remove("mediaType");
        let long_header = "x".repeat(MAX_MEDIA_TYPE_BYTES + 1);
        let index_in_image = json!({ "schemaVersion": 2, "mediaType": OCI,
                                     "manifests": [entry(OCI, None)] });
        let corrupt = [
            (Some(OCI), both),
            (Some(INDEX), image_document(OCI)),
            (Some(long_header.as_str()), untyped.clone()),
            (Some("a\tb"), untyped),
            (None, index_in_image),
            (
                Some(OCI),
                json!({ "schemaVersion": 2, "mediaType": OCI, "layers": [] }),
            ),
            (Some(OCI), json!("text")),
            (
                Some(OCI),
                json!({ "schemaVersion": 2, "layers": [{ "digest": "x", "size": -1 }] }),
            ),
        ];
        for (header, value) in corrupt {
            let flaw = read_json(header, &value).expect_err("flaw");
            assert!(matches!(flaw, Flaw::Corrupt(_)), "{value}: {flaw:?}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let mut sha1 = image_document(OCI);
        sha1["layers"][0]["digest"] = json!("sha1:abc");
        let layers: Vec<Value> = (0..=MAX_LAYERS).map(|_| entry("l", None)).collect();
        let mut tall = image_document(OCI);
        tall["layers"] = json!(layers);
        let signed = "application/vnd.docker.distribution.manifest.v1+prettyjws";
        let unsupported = [
            (Some(signed), json!({}), "schema 1"),
            (
                None,
                json!({ "schemaVersion": 1, "fsLayers": [] }),
                "schema 1",
            ),
            (None, json!({ "schemaVersion": 3 }), "schema version 3"),
            (None, json!({ "schemaVersion": 2 }), "not an image"),
            (Some(OCI), sha1, "sha1:abc"),
            (Some(OCI), tall, "too many"),
        ];
        for (header, value, expected) in unsupported {
            match read_json(header, &value).expect_err("flaw") {
                Flaw::Unsupported(message) => assert!(message.contains(expected), "{message}"),
                other @ Flaw::Corrupt(_) => panic!("{value}: {other:?}"),
            }
        }
    }

    fn offers(platforms: &[Option<&str>]) -> Offers {
        let mut entries: Vec<Value> = platforms.iter().map(|text| entry(OCI, *text)).collect();
        for (position, entry) in entries.iter_mut().enumerate() {
            entry["size"] = json!(position);
        }
        let value = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
        match read_json(Some(INDEX), &value).expect("index").content {
            Content::Index(offers) => offers,
            Content::Image { .. } => panic!("not an index"),
        }
    }

    #[test]
    fn the_platform_is_chosen() {
        let amd64 = Platform::new("linux", "amd64", None);
        let cases: [(&[Option<&str>], Option<u64>); 5] = [
            (&[Some("linux/arm64"), Some("linux/amd64")], Some(1)),
            (
                &[
                    Some("unknown/unknown"),
                    Some("linux/amd64"),
                    Some("linux/amd64"),
                ],
                Some(1),
            ),
            (&[None], Some(0)),
            (&[None, None], None),
            (&[Some("linux/arm64"), Some("windows/amd64")], None),
        ];
        for (platforms, expected) in cases {
            let chosen = offers(platforms)
                .choose(&amd64)
                .ok()
                .map(|chosen| chosen.size);
            assert_eq!(chosen, expected, "{platforms:?}");
        }
        let flaw = offers(&[Some("linux/arm64"), Some("unknown/unknown")]).choose(&amd64);
        let Err(Flaw::Unsupported(message)) = flaw else {
            panic!("{flaw:?}")
        };
        assert!(message.ends_with("offers linux/arm64"), "{message}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = read(None, &bytes);
        }
    }
}
