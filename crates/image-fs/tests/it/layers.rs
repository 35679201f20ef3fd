//! Layers for tests: a few files with random-looking content, and their index. The compressed form
//! is the bytes themselves or one zstd frame, so nothing here depends on an archive's format.

use std::sync::Arc;

use bytes::Bytes;
use image_fs::{Allowance, CacheError, LayerCache, SpanCache};
use layer_index::{
    Builder, Codec, Entry, EntryKind, Extent, Layer, LayerIndex, Mtime, Scratch, SpanDigests,
};

/// A layer, its index, and what its files should read as.
#[derive(Clone)]
pub(crate) struct TestLayer {
    pub(crate) index: LayerIndex,
    pub(crate) compressed: Bytes,
    pub(crate) files: Arc<Vec<(String, Vec<u8>)>>,
}

pub(crate) struct Shape {
    pub(crate) codec: Codec,
    pub(crate) span_bytes: usize,
    pub(crate) spans_per_checkpoint: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            codec: Codec::Tar,
            span_bytes: 64 * 1024,
            spans_per_checkpoint: 1,
        }
    }
}

/// The layers of an image as one process opens them, which owns the cache too.
pub(crate) fn open_layers(
    cache: &SpanCache,
    origin: &str,
    indexes: &[LayerIndex],
) -> Result<Vec<LayerCache>, CacheError> {
    let allowance = Allowance::new(cache.limits(), Arc::new(cache.clone()));
    let open = |index: &LayerIndex| {
        let files = cache.layer_files(origin, &index.summary())?;
        Ok(LayerCache::new(files, index.clone(), Arc::clone(&allowance)).unwrap())
    };
    indexes.iter().map(open).collect()
}

/// Bytes that do not repeat and do not compress, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let hasher = blake3::Hasher::new_keyed(blake3::hash(&seed.to_le_bytes()).as_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// A layer with files of these lengths, called `file-0` and so on, 512 bytes of something between
/// them as archives have it.
pub(crate) fn layer(shape: &Shape, lengths: &[usize]) -> TestLayer {
    let mut plain = Vec::new();
    let mut entries = Vec::new();
    let mut files = Vec::new();
    for (number, length) in lengths.iter().enumerate() {
        plain.extend(noise(1000 + number as u64, 512));
        let content = noise(number as u64, *length);
        let name = format!("file-{number}");
        let extent = Extent {
            file_offset: 0,
            layer_offset: plain.len() as u64,
            length: *length as u64,
        };
        let extents = if *length > 0 {
            vec![extent]
        } else {
            Vec::new()
        };
        entries.push(file(&name, *length as u64, extents));
        plain.extend(&content);
        files.push((name, content));
    }
    finish(shape, &plain, &entries, files)
}

/// What is at a path of a tree.
pub(crate) enum Node<'a> {
    File(&'a [u8]),
    Link(&'a str),
}

/// A layer with these paths, parents first where they are given.
pub(crate) fn tree_layer(shape: &Shape, nodes: &[(&str, Node<'_>)]) -> TestLayer {
    let (mut plain, mut entries) = (Vec::new(), Vec::new());
    let mut files = Vec::new();
    for (path, node) in nodes {
        plain.extend(noise(1000, 512));
        let mut entry = file(path, 0, Vec::new());
        match node {
            Node::File(content) => {
                let extent = Extent {
                    file_offset: 0,
                    layer_offset: plain.len() as u64,
                    length: content.len() as u64,
                };
                let extents = if content.is_empty() {
                    Vec::new()
                } else {
                    vec![extent]
                };
                entry = file(path, content.len() as u64, extents);
                plain.extend(*content);
                files.push(((*path).to_owned(), content.to_vec()));
            }
            Node::Link(target) => {
                let target = target.as_bytes().to_vec();
                entry.kind = EntryKind::Symlink { target };
            }
        }
        entries.push(entry);
    }
    finish(shape, &plain, &entries, files)
}

/// A layer with one sparse file: `pieces` are its data, at these offsets.
pub(crate) fn sparse_layer(shape: &Shape, size: usize, pieces: &[(usize, usize)]) -> TestLayer {
    let (mut plain, mut extents, mut content) = (noise(77, 512), Vec::new(), vec![0; size]);
    for (offset, length) in pieces {
        let data = noise(*offset as u64, *length);
        content[*offset..offset + length].copy_from_slice(&data);
        extents.push(Extent {
            file_offset: *offset as u64,
            layer_offset: plain.len() as u64,
            length: *length as u64,
        });
        plain.extend(data);
    }
    let entries = [file("file-0", size as u64, extents)];
    finish(
        shape,
        &plain,
        &entries,
        vec![("file-0".to_owned(), content)],
    )
}

/// A real archive with one file of text, compressed to one zstd frame and indexed as layers are.
pub(crate) fn one_frame_layer(length: usize) -> TestLayer {
    let mut content = Vec::with_capacity(length + 200);
    for number in 0_u64.. {
        if content.len() >= length {
            break;
        }
        let line = blake3::hash(&number.to_le_bytes()).to_hex();
        let kept = usize::from(line.as_bytes()[0] % 40);
        let line = format!("{} {}\n", &line[..kept], number % 1000);
        content.extend_from_slice(line.as_bytes());
    }
    content.truncate(length);
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(length as u64);
    header.set_mode(0o644);
    builder
        .append_data(&mut header, "file-0", content.as_slice())
        .unwrap();
    let archive = builder.into_inner().unwrap();
    let compressed = zstd::bulk::compress(&archive, 3).unwrap();
    let index = layer_indexer::index_bytes(&compressed).unwrap();
    TestLayer {
        index: LayerIndex::decode(index.into()).unwrap(),
        compressed: compressed.into(),
        files: Arc::new(vec![("file-0".to_owned(), content)]),
    }
}

fn file(name: &str, size: u64, extents: Vec<Extent>) -> Entry {
    Entry {
        path: name.as_bytes().to_vec(),
        kind: EntryKind::File { size, extents },
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Mtime::default(),
        xattrs: Vec::new(),
    }
}

fn finish(
    shape: &Shape,
    plain: &[u8],
    entries: &[Entry],
    files: Vec<(String, Vec<u8>)>,
) -> TestLayer {
    let scratch = Scratch::in_memory();
    let mut builder = Builder::new(&scratch);
    for entry in entries {
        builder.entry(entry).unwrap();
    }
    let compressed = match shape.codec {
        Codec::Zstd => zstd::bulk::compress(plain, 1).unwrap(),
        _ => plain.to_vec(),
    };
    let mut digests = SpanDigests::new(&scratch);
    for (number, span) in plain.chunks(shape.span_bytes).enumerate() {
        if number == 0 || (shape.codec == Codec::Tar && number % shape.spans_per_checkpoint == 0) {
            builder.checkpoint((number * shape.span_bytes) as u64, 0);
        }
        let length = u32::try_from(span.len()).unwrap();
        builder.span(length).unwrap();
        digests.push(blake3::hash(span).as_bytes()).unwrap();
    }
    let digest = |bytes: &[u8]| format!("sha256:{}", blake3::hash(bytes).to_hex());
    let layer = Layer {
        layer_digest: digest(&compressed),
        diff_id: digest(plain),
        codec: shape.codec,
        compressed_size: compressed.len() as u64,
    };
    let mut bytes = Vec::new();
    builder.finish(layer, digests, &mut bytes).unwrap();
    let index = LayerIndex::decode(bytes.into()).unwrap();
    TestLayer {
        index,
        compressed: compressed.into(),
        files: Arc::new(files),
    }
}
