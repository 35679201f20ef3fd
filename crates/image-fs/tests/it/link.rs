//! A source behind a modelled link: a round trip before the first byte, a rate that all requests
//! share, and a most that each of them gets. In the clock of the test, which costs no time.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use image_fs::{BlobError, BlobSource, BoxFuture, PieceSink};
use tokio::time::Instant;

use crate::layers::TestLayer;

/// As a connection gives them.
const PIECE: usize = 16 * 1024;

/// How a link is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) round_trip: Duration,
    pub(crate) bytes_per_second: u64,
    /// Of one request.
    pub(crate) flow_bytes_per_second: u64,
}

#[derive(Debug)]
pub(crate) struct LinkSource {
    layers: HashMap<String, Bytes>,
    link: Link,
    active: AtomicUsize,
    pub(crate) requests: Mutex<Vec<Range<u64>>>,
    /// What the next requests get each, in bytes a second, where it is less.
    crawls: Mutex<VecDeque<u64>>,
}

/// A request that has its bytes coming.
struct Active<'a>(&'a AtomicUsize);

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl LinkSource {
    pub(crate) fn new(layers: &[TestLayer], link: Link) -> Arc<Self> {
        let bytes = |layer: &TestLayer| {
            let digest = layer.index.header().layer_digest.clone();
            (digest, layer.compressed.clone())
        };
        Arc::new(Self {
            layers: layers.iter().map(bytes).collect(),
            link,
            active: AtomicUsize::default(),
            requests: Mutex::default(),
            crawls: Mutex::default(),
        })
    }

    pub(crate) fn bytes_asked(&self) -> u64 {
        let requests = self.requests.lock().unwrap();
        requests.iter().map(|range| range.end - range.start).sum()
    }

    /// So many of the next requests crawl.
    pub(crate) fn crawl(&self, requests: usize, bytes_per_second: u64) {
        let crawls = std::iter::repeat_n(bytes_per_second, requests);
        self.crawls.lock().unwrap().extend(crawls);
    }

    async fn pass(&self, bytes: usize, most: u64, due: &mut Instant) {
        let sharing = self.active.load(SeqCst).max(1) as u64;
        let rate = (self.link.bytes_per_second / sharing).min(most);
        *due += Duration::from_nanos(bytes as u64 * 1_000_000_000 / rate.max(1));
        tokio::time::sleep_until(*due).await;
    }
}

impl BlobSource for LinkSource {
    fn read<'a>(
        &'a self,
        layer: &'a str,
        _size: u64,
        range: Range<u64>,
        pieces: PieceSink<'a>,
    ) -> BoxFuture<'a, Result<(), BlobError>> {
        Box::pin(async move {
            self.requests.lock().unwrap().push(range.clone());
            let crawl = self.crawls.lock().unwrap().pop_front();
            let flow = self.link.flow_bytes_per_second;
            let most = crawl.unwrap_or(flow).min(flow);
            tokio::time::sleep(self.link.round_trip).await;
            self.active.fetch_add(1, SeqCst);
            let _active = Active(&self.active);
            let place = |offset: u64| usize::try_from(offset).unwrap();
            let bytes = self.layers[layer].slice(place(range.start)..place(range.end));
            let mut due = Instant::now();
            for start in (0..bytes.len()).step_by(PIECE) {
                let piece = bytes.slice(start..(start + PIECE).min(bytes.len()));
                self.pass(piece.len(), most, &mut due).await;
                pieces(piece);
            }
            Ok(())
        })
    }
}
