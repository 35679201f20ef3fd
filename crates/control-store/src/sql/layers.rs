//! The layers of an image as they stand in its row: a JSON list, read with the same care as any
//! other input.

use serde::{Deserialize, Serialize};

use super::{damaged, digest};
use crate::error::StoreError;
use crate::images::ImageLayer;

/// Bytes of the root digest of an index.
const ROOT_BYTES: usize = 32;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredLayer {
    digest: String,
    size_bytes: u64,
    media_type: String,
    diff_id: String,
    /// Hexadecimal.
    index_root: String,
}

pub(super) fn write(layers: &[ImageLayer]) -> String {
    let stored: Vec<_> = layers.iter().map(stored).collect();
    serde_json::to_string(&stored).expect("texts and numbers serialise")
}

pub(super) fn read(text: &str) -> Result<Vec<ImageLayer>, StoreError> {
    let stored: Vec<StoredLayer> =
        serde_json::from_str(text).map_err(|error| damaged("image", error.to_string()))?;
    stored.into_iter().map(layer).collect()
}

fn stored(layer: &ImageLayer) -> StoredLayer {
    let digits = layer.index_root.iter().map(|byte| format!("{byte:02x}"));
    StoredLayer {
        digest: layer.digest.as_str().to_owned(),
        size_bytes: layer.size_bytes,
        media_type: layer.media_type.clone(),
        diff_id: layer.diff_id.as_str().to_owned(),
        index_root: digits.collect(),
    }
}

fn layer(stored: StoredLayer) -> Result<ImageLayer, StoreError> {
    let root = parse_root(&stored.index_root);
    Ok(ImageLayer {
        digest: digest("image", &stored.digest)?,
        size_bytes: stored.size_bytes,
        media_type: stored.media_type,
        diff_id: digest("image", &stored.diff_id)?,
        index_root: root.ok_or_else(|| damaged("image", "root of an index".to_owned()))?,
    })
}

fn parse_root(digits: &str) -> Option<[u8; ROOT_BYTES]> {
    let mut root = [0; ROOT_BYTES];
    if digits.len() != 2 * ROOT_BYTES {
        return None;
    }
    for (byte, pair) in root.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    Some(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_rows_are_refused() {
        let zeros = "0".repeat(64);
        let good = format!(
            r#"[{{"digest":"sha256:{zeros}","size_bytes":1,"media_type":"m",
                "diff_id":"sha256:{zeros}","index_root":"{zeros}"}}]"#
        );
        assert_eq!(read(&good).unwrap().len(), 1);
        let bad = [
            "",
            "{}",
            "[1]",
            &good.replace("sha256", "md5"),
            &good.replace("\"m\"", "7"),
            &good.replace("index_root\":\"0", "index_root\":\"g"),
            &good.replace("index_root\":\"00", "index_root\":\""),
            &good.replace("\"size_bytes\":1", "\"size_bytes\":-1"),
            &good.replace("\"media_type\"", "\"more\":1,\"media_type\""),
        ];
        for text in bad {
            assert!(
                matches!(read(text), Err(StoreError::Damaged { .. })),
                "{text}"
            );
        }
    }
}
