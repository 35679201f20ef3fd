//! Layers from a registry: an archive means the same however it arrives, and its index gives back
//! every byte.

use std::io::{Read, Write};
use std::ops::Range;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use layer_index::{Entry, LayerIndex, Tree};
use layer_indexer::{Files, Indexed, IndexerError, Limits, fuzzing, index_bytes, index_layer};
use sha2::{Digest, Sha256};

use crate::tree;

/// Largest layer unpacked here. The bomb limit of the indexer starts above it and has its own test.
const UNCOMPRESSED_MAX_BYTES: u64 = 2 << 20;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

const BLOCK: usize = 512;
/// Where a header has the size of its content, and its checksum.
const SIZE_FIELD: Range<usize> = 124..136;
const CHECKSUM_FIELD: Range<usize> = 148..156;

/// Archives are cut into pieces of these lengths: inside headers, at blocks, around them.
const PIECES: [usize; 3] = [97, 512, 1500];

/// The input is the layer: an archive, plain or compressed. A plain one is checked again with right
/// header checksums, since no mutation would find those.
pub fn check(bytes: &[u8]) {
    check_layer(bytes);
    let mut repaired = bytes.to_vec();
    repair_checksums(&mut repaired);
    if repaired != bytes && !bytes.starts_with(&GZIP_MAGIC) && !bytes.starts_with(&ZSTD_MAGIC) {
        check_layer(&repaired);
    }
}

fn check_layer(bytes: &[u8]) {
    let plain = check_archive(bytes);
    let limits = Limits {
        uncompressed_bytes: UNCOMPRESSED_MAX_BYTES,
        ..Limits::default()
    };
    let mut file = Vec::new();
    let indexed = match index_layer(bytes, &mut file, Files::in_memory(), limits) {
        Ok(indexed) => indexed,
        Err(error) => return check_refusal(&error),
    };
    let mut again = Vec::new();
    let trickle = Trickle {
        bytes,
        length: 1009,
    };
    let trickled = index_layer(trickle, &mut again, Files::in_memory(), limits);
    let trickled = trickled.expect("it was indexed before");
    check_index(bytes, &indexed, file);
    assert_eq!(trickled.diff_id, indexed.diff_id);
    assert_eq!(trickled.entries, indexed.entries);
    check_index(bytes, &trickled, again);
    if indexed.diff_id == indexed.layer_digest {
        let entries = plain.expect("it was indexed as it is");
        check_compressed(bytes, &entries);
    }
}

/// The same archive compressed has the same entries.
fn check_compressed(bytes: &[u8], entries: &[Entry]) {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory takes everything");
    let layer = encoder.finish().expect("memory takes everything");
    let file = index_bytes(&layer).expect("it was indexed before");
    let index = LayerIndex::decode(Bytes::from(file)).expect("what was written is read");
    assert_eq!(index.header().diff_id, sha256(bytes));
    assert!(index.entries().eq(entries.iter().cloned()));
}

/// The entries do not depend on where the archive is cut.
fn check_archive(bytes: &[u8]) -> Result<Vec<Entry>, String> {
    let entries = |pieces| fuzzing::scan(pieces).map_err(|error| error.to_string());
    let whole = entries(vec![bytes]);
    for length in PIECES {
        assert_eq!(
            entries(bytes.chunks(length).collect()),
            whole,
            "in pieces of {length}"
        );
    }
    whole
}

/// A refusal is about the layer; it is never our own process that failed.
fn check_refusal(error: &IndexerError) {
    assert!(
        matches!(
            error,
            IndexerError::Stream(_) | IndexerError::Archive(_) | IndexerError::Limit(_)
        ),
        "{error:?}"
    );
}

fn check_index(layer: &[u8], indexed: &Indexed, file: Vec<u8>) {
    assert_eq!(indexed.index_bytes, file.len() as u64);
    let index = LayerIndex::decode(Bytes::from(file)).expect("what was written is read");
    let header = index.header();
    assert_eq!(header.compressed_size, layer.len() as u64);
    assert_eq!(header.layer_digest, sha256(layer));
    assert_eq!(header.diff_id, indexed.diff_id);
    let content = content(&index, layer);
    assert_eq!(sha256(&content), indexed.diff_id);
    let entries = fuzzing::scan([content.as_slice()]).expect("it was indexed before");
    assert!(index.entries().eq(entries));
    check_spans_alone(&index, layer, &content);
    if let Ok(merged) = Tree::merge(&[index]) {
        tree::check(&merged);
        tree::check_link_counts(&merged);
    }
}

fn content(index: &LayerIndex, layer: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    let Some(last) = index.spans().len().checked_sub(1) else {
        return content;
    };
    let each = |_, bytes: &[u8]| {
        content.extend_from_slice(bytes);
        Ok(())
    };
    let compressed = part(layer, index.compressed_range(0, last));
    index
        .decode_spans(0, last, compressed, each)
        .expect("every span decodes");
    content
}

fn check_spans_alone(index: &LayerIndex, layer: &[u8], content: &[u8]) {
    for (number, span) in index.spans().iter().enumerate() {
        let expected = part(content, span.uncompressed_offset..span.end());
        let mut found = false;
        let each = |at, bytes: &[u8]| {
            found |= at == number && bytes == expected;
            Ok(())
        };
        let compressed = part(layer, index.compressed_range(number, number));
        index
            .decode_spans(number, number, compressed, each)
            .expect("a span decodes alone");
        assert!(found, "span {number} alone is something else");
    }
}

/// Makes the checksum of every header right that can be found by going from size to size.
fn repair_checksums(archive: &mut [u8]) {
    let mut at = 0;
    while let Some(header) = archive.get_mut(at..at + BLOCK) {
        if header.iter().any(|byte| *byte != 0) {
            header[CHECKSUM_FIELD].fill(b' ');
            let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
            header[CHECKSUM_FIELD].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let size = octal(&header[SIZE_FIELD]).unwrap_or(0);
        at += BLOCK + size.min(archive.len()).next_multiple_of(BLOCK);
    }
}

fn octal(field: &[u8]) -> Option<usize> {
    let text = str::from_utf8(field).ok()?;
    let text = text.trim_matches(['\0', ' ']);
    usize::from_str_radix(text, 8).ok()
}

fn part(bytes: &[u8], range: Range<u64>) -> &[u8] {
    let place = |offset| usize::try_from(offset).expect("in memory");
    &bytes[place(range.start)..place(range.end)]
}

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    reference::Digest::sha256(digest.into()).to_string()
}

/// Gives its bytes in pieces of one length.
struct Trickle<'a> {
    bytes: &'a [u8],
    length: usize,
}

impl Read for Trickle<'_> {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        let length = room.len().min(self.length).min(self.bytes.len());
        let (taken, rest) = self.bytes.split_at(length);
        room[..length].copy_from_slice(taken);
        self.bytes = rest;
        Ok(length)
    }
}
