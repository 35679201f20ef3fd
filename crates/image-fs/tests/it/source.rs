//! A source in memory: counts what it is asked, and fails as it is told.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use image_fs::{BlobError, BlobSource, BoxFuture, PieceSink};
use tokio::sync::Semaphore;

use crate::layers::TestLayer;

/// As a connection gives them.
const PIECE: usize = 16 * 1024;

/// What happens to one request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    Error(BlobError),
    /// The byte at this place of the answer is another.
    Flip(usize),
    Short,
    /// Breaks off after so many bytes.
    Break(usize, BlobError),
    /// More comes than was asked for.
    Long,
    /// So many bytes come, and then nothing for ever.
    Stall(usize),
    /// Takes this long, in the clock of the test.
    Slow(Duration),
    Hang,
}

#[derive(Debug)]
pub(crate) struct MemorySource {
    layers: HashMap<String, Bytes>,
    faults: Mutex<VecDeque<Fault>>,
    /// What every request meets when no fault is left.
    rule: Mutex<Option<Fault>>,
    /// Layers that are not there.
    missing: Mutex<Vec<String>>,
    pub(crate) requests: Mutex<Vec<Range<u64>>>,
    pub(crate) distrusted: AtomicUsize,
    /// Requests that are let through; all of them unless `hold` was called.
    gate: Semaphore,
}

impl MemorySource {
    pub(crate) fn new(layers: &[TestLayer]) -> Arc<Self> {
        let layers = layers
            .iter()
            .map(|layer| {
                (
                    layer.index.header().layer_digest.clone(),
                    layer.compressed.clone(),
                )
            })
            .collect();
        Arc::new(Self {
            layers,
            faults: Mutex::default(),
            rule: Mutex::default(),
            missing: Mutex::default(),
            requests: Mutex::default(),
            distrusted: AtomicUsize::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        })
    }

    /// The next requests meet these faults.
    pub(crate) fn fail_with(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().extend(faults);
    }

    pub(crate) fn always(&self, fault: Option<Fault>) {
        *self.rule.lock().unwrap() = fault;
    }

    /// From now on this layer is not there.
    pub(crate) fn lose(&self, layer: &TestLayer) {
        let digest = layer.index.header().layer_digest.clone();
        self.missing.lock().unwrap().push(digest);
    }

    pub(crate) fn find_all(&self) {
        self.missing.lock().unwrap().clear();
    }

    /// Requests wait from now on until they are let go.
    pub(crate) fn hold(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub(crate) fn let_go(&self, requests: usize) {
        self.gate.add_permits(requests);
    }

    pub(crate) fn request_count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    fn next_fault(&self) -> Option<Fault> {
        let fault = self.faults.lock().unwrap().pop_front();
        fault.or_else(|| self.rule.lock().unwrap().clone())
    }
}

impl BlobSource for MemorySource {
    fn read<'a>(
        &'a self,
        layer: &'a str,
        size: u64,
        range: Range<u64>,
        pieces: PieceSink<'a>,
    ) -> BoxFuture<'a, Result<(), BlobError>> {
        Box::pin(async move {
            self.requests.lock().unwrap().push(range.clone());
            self.gate.acquire().await.unwrap().forget();
            if self
                .missing
                .lock()
                .unwrap()
                .iter()
                .any(|lost| lost == layer)
            {
                let message = "blob unknown".to_owned();
                return Err(BlobError::Missing { message });
            }
            let all = &self.layers[layer];
            assert_eq!(all.len() as u64, size);
            let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            let mut bytes = all.slice(range).to_vec();
            match self.next_fault() {
                Some(Fault::Error(error)) => return Err(error),
                Some(Fault::Flip(at)) => {
                    let at = at % bytes.len();
                    bytes[at] ^= 0x20;
                }
                Some(Fault::Short) => drop(bytes.pop()),
                Some(Fault::Break(at, error)) => {
                    pieces(bytes[..at.min(bytes.len())].to_vec().into());
                    return Err(error);
                }
                Some(Fault::Stall(at)) => {
                    pieces(bytes[..at.min(bytes.len())].to_vec().into());
                    std::future::pending::<()>().await;
                }
                Some(Fault::Long) => bytes.extend([7; 3 * PIECE]),
                Some(Fault::Slow(pause)) => tokio::time::sleep(pause).await,
                Some(Fault::Hang) => std::future::pending().await,
                None => {}
            }
            let bytes = Bytes::from(bytes);
            for start in (0..bytes.len()).step_by(PIECE) {
                pieces(bytes.slice(start..(start + PIECE).min(bytes.len())));
            }
            Ok(())
        })
    }

    fn distrust(&self, _layer: &str) {
        self.distrusted.fetch_add(1, SeqCst);
    }
}
