//! What reading costs over links of many kinds, against downloading. Only the link takes time here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use image_fs::{CacheLimits, FsOptions, ImageFs, SpanCache};
use layer_index::Codec;
use tokio::time::Instant;

use crate::layers::{Shape, TestLayer, layer, open_layers};
use crate::link::{Link, LinkSource};

const MIB: usize = 1024 * 1024;

/// What the kernel asks for at once.
const READ: usize = 128 * 1024;

pub(crate) struct Mount {
    pub(crate) fs: Arc<ImageFs>,
    pub(crate) source: Arc<LinkSource>,
    layers: Vec<TestLayer>,
    _directory: tempfile::TempDir,
}

impl Mount {
    pub(crate) fn new(layers: Vec<TestLayer>, link: Link) -> Self {
        Self::with(layers, link, FsOptions::default())
    }

    pub(crate) fn with(layers: Vec<TestLayer>, link: Link, options: FsOptions) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let cache = SpanCache::open(directory.path(), CacheLimits::default()).unwrap();
        let source = LinkSource::new(&layers, link);
        let indexes: Vec<_> = layers.iter().map(|layer| layer.index.clone()).collect();
        let opened = open_layers(&cache, "registry.example/acme/fn", &indexes).unwrap();
        let fs = ImageFs::new(opened, Arc::clone(&source) as _, options).unwrap();
        Self {
            fs: Arc::new(fs),
            source,
            layers,
            _directory: directory,
        }
    }

    /// Reads a part of a file as the kernel asks for it, and says what it is.
    pub(crate) async fn read(&self, name: &str, offset: usize, length: usize) -> Bytes {
        let tree = self.fs.tree();
        let inode = tree.lookup(tree.root(), name.as_bytes()).unwrap();
        match self.fs.read_cached(inode, offset as u64, length) {
            Some(bytes) => bytes,
            None => self.fs.read(inode, offset as u64, length).await.unwrap(),
        }
    }

    /// The same, and it is what it should be.
    pub(crate) async fn read_and_check(&self, name: &str, offset: usize, length: usize) {
        let bytes = self.read(name, offset, length).await;
        let mut files = self.layers.iter().flat_map(|layer| layer.files.iter());
        let (_, content) = files.find(|file| file.0 == name).unwrap();
        assert!(
            bytes == content[offset..offset + length],
            "{name} at {offset}"
        );
    }

    /// As `cat` does it.
    async fn read_file(&self, name: &str, content: &[u8]) {
        for (number, expected) in content.chunks(READ).enumerate() {
            let offset = number * READ;
            let bytes = self.read(name, offset, READ).await;
            assert!(bytes == expected, "{name} at {offset}");
        }
    }

    async fn read_all(&self) -> Duration {
        let begun = Instant::now();
        for (name, content) in self.layers.iter().flat_map(|layer| layer.files.iter()) {
            self.read_file(name, content).await;
        }
        begun.elapsed()
    }

    pub(crate) fn size(&self) -> u64 {
        let sizes = self
            .layers
            .iter()
            .map(|layer| layer.compressed.len() as u64);
        sizes.sum()
    }
}

fn link(megabits: u64, millis: u64, flow_megabits: u64) -> Link {
    Link {
        round_trip: Duration::from_millis(millis),
        bytes_per_second: megabits * 125_000,
        flow_bytes_per_second: flow_megabits * 125_000,
    }
}

#[tokio::test(start_paused = true)]
async fn reading_a_whole_image_takes_as_long_as_downloading_it() {
    for codec in [Codec::Tar, Codec::Zstd] {
        let shape = Shape {
            codec,
            ..Shape::default()
        };
        let image = layer(&shape, &[[200_000; 80].as_slice(), &[8 * MIB; 8]].concat());
        for (link, most_per_mille) in [
            (link(24, 50, 24), 1100),
            (link(200, 20, 200), 1100),
            (link(800, 20, 800), 1100),
            (link(1000, 1, 1000), 1100),
            // A download has one flow for each layer.
            (link(800, 20, 100), 500),
        ] {
            let mount = Mount::new(vec![image.clone()], link);
            let took = mount.read_all().await;
            let size = mount.size();
            let sending = Duration::from_nanos(size * 1_000_000_000 / link.flow_bytes_per_second);
            let download = link.round_trip + sending;
            let per_mille = took.as_micros() * 1000 / download.as_micros();
            println!("{codec:?}, {link:?}: {took:?}, {per_mille} per mille of {download:?}");
            assert!(per_mille <= most_per_mille, "{codec:?}, {link:?}: {took:?}");
            assert_eq!(mount.source.bytes_asked(), size, "each byte once");
        }
    }
}
