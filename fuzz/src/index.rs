//! Layer indexes from a disk that may hold anything: opened or refused, and then safe to ask.

use bytes::Bytes;
use layer_index::{Builder, Entry, EntryKind, Layer, LayerIndex, Scratch, SpanDigests, Tree};

use crate::index_file::{self, Cursor, Sections};
use crate::tree;

/// Layers made of one input.
const LAYERS_MAX: usize = 3;

/// Spans and checkpoints looked at one by one, from either end.
const LOOKED_AT: usize = 6;

pub fn check(bytes: &[u8]) {
    let opened = open(bytes);
    for (index, layer) in &opened {
        check_index(index, layer);
    }
    let indexes: Vec<_> = opened.into_iter().map(|(index, _)| index).collect();
    check_merged(&indexes);
}

/// The indexes that open, each with bytes that a registry might send for its layer. The first byte
/// says what the rest is: a file as it is, or layers in sections.
pub(crate) fn open(bytes: &[u8]) -> Vec<(LayerIndex, &[u8])> {
    let Some((kind, rest)) = bytes.split_first() else {
        return Vec::new();
    };
    if kind % 2 == 0 {
        let index = LayerIndex::decode(Bytes::copy_from_slice(rest));
        return index.into_iter().map(|index| (index, rest)).collect();
    }
    let mut cursor = Cursor(rest);
    let mut opened = Vec::new();
    while !cursor.0.is_empty() && opened.len() < LAYERS_MAX {
        let file = index_file::write(&sections(&mut cursor));
        let layer = cursor.section();
        let index = LayerIndex::decode(Bytes::from(file));
        opened.extend(index.map(|index| (index, layer)));
    }
    opened
}

fn sections<'a>(cursor: &mut Cursor<'a>) -> Sections<'a> {
    Sections {
        codec: cursor.number(1).to_le_bytes()[0],
        compressed_bytes: cursor.number(4),
        uncompressed_bytes: cursor.number(6),
        entries: cursor.number(2),
        spans: cursor.number(2),
        metadata: cursor.section(),
        span_table: cursor.section(),
        windows: cursor.section(),
    }
}

fn check_index(index: &LayerIndex, layer: &[u8]) {
    let header = index.header();
    let entries: Vec<Entry> = index.entries().collect();
    assert_eq!(entries.len() as u64, header.entry_count);
    assert_eq!(index.spans().len() as u64, header.span_count);
    check_spans(index);
    check_read_back(index, &entries);
    check_decoding(index, layer);
    for entry in &entries {
        if let EntryKind::File { size, extents } = &entry.kind {
            for extent in extents {
                assert!(extent.file_offset + extent.length <= *size);
                assert!(extent.layer_offset + extent.length <= header.uncompressed_size);
            }
        }
    }
}

/// Spans cover the layer without gaps, and each is reached from a checkpoint at or before it.
fn check_spans(index: &LayerIndex) {
    let header = index.header();
    let spans = index.spans();
    let mut end = 0;
    for (number, span) in spans.iter().enumerate() {
        assert_eq!(span.uncompressed_offset, end);
        assert!(span.length > 0);
        assert_eq!(index.span_at(end), number);
        end = span.end();
    }
    assert_eq!(end, header.uncompressed_size);
    assert_eq!(index.span_at(end), spans.len());
    let last = spans.len().saturating_sub(1);
    let from_end = (0..spans.len()).rev().take(LOOKED_AT);
    for span in (0..spans.len()).take(LOOKED_AT).chain(from_end) {
        let range = index.compressed_range(span, last);
        assert!(range.start < range.end && range.end <= header.compressed_size);
        if let Ok(checkpoint) = index.checkpoint(span) {
            assert!(checkpoint.span <= span && checkpoint.bits < 8);
            assert_eq!(checkpoint.compressed_offset, range.start);
        }
    }
    assert!(index.checkpoint(spans.len()).is_err());
    assert!(index.compressed_range(spans.len(), spans.len()).is_empty());
}

/// What the reader takes, the writer takes, and the same entries come back.
fn check_read_back(index: &LayerIndex, entries: &[Entry]) {
    let scratch = Scratch::in_memory();
    let mut builder = Builder::new(&scratch);
    let mut digests = SpanDigests::new(&scratch);
    for entry in entries {
        builder.entry(entry).expect("an entry that was read");
    }
    builder.checkpoint(0, 0);
    for span in index.spans() {
        builder.span(span.length).expect("a span that was read");
        digests.push(&span.digest).expect("memory takes it");
    }
    let header = index.header();
    let layer = Layer {
        layer_digest: header.layer_digest.clone(),
        diff_id: header.diff_id.clone(),
        codec: header.codec,
        compressed_size: header.compressed_size,
    };
    let mut file = Vec::new();
    let root = builder
        .finish(layer, digests, &mut file)
        .expect("it is written");
    let again = LayerIndex::decode(Bytes::from(file)).expect("what was written is read");
    assert_eq!(again.root(), root);
    assert_eq!(again.header(), header);
    assert!(again.entries().eq(entries.iter().cloned()));
    assert_eq!(again.spans().len(), index.spans().len());
}

/// Whatever bytes a registry sends for the layer: the right span, or an error.
fn check_decoding(index: &LayerIndex, layer: &[u8]) {
    for first in (0..index.spans().len()).take(LOOKED_AT) {
        let mut next = None;
        let each = |number: usize, bytes: &[u8]| {
            assert!(next.is_none_or(|next| next == number));
            let span = index.spans()[number];
            assert_eq!(bytes.len(), span.length as usize);
            assert_eq!(*blake3::hash(bytes).as_bytes(), span.digest);
            next = Some(number + 1);
            Ok(())
        };
        let decoded = index.decode_spans(first, first, layer, each);
        if decoded.is_ok() {
            assert_eq!(next, Some(first + 1));
        }
    }
}

fn check_merged(layers: &[LayerIndex]) {
    for height in 1..=layers.len() {
        if let Ok(merged) = Tree::merge(&layers[..height]) {
            tree::check(&merged);
            if height == 1 {
                tree::check_link_counts(&merged);
            }
        }
    }
}
