//! The shared cache as a source of layer bytes, before the registry and for as long as that pays.
//!
//! Invariants: whatever goes wrong there, the registry is read from where it ended, and no reader
//! hears of it; nobody waits for the store longer than stated here; a byte of it is passed on only
//! when the layer's own key has opened it, and is verified by the index like one of the registry.
//! Whether the mount may read a layer there says its parent, layer by layer.

mod standing;

use std::collections::HashMap;
use std::fmt::{self, Debug, Formatter};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use credential::ExposeSecret;
use credential::auth::{AuthSource, SharedLayer, SharedRequest};
use dial::header::{HeaderValue, RANGE};
use dial::{AddressPolicy, Dialer, HttpClient, Request, StatusCode, TlsProfile, Url};
use futures::StreamExt;
use image_fs::{BlobError, BlobSource, BoxFuture, PieceSink};
use jiff::Timestamp;
use reference::{Digest, Registry};
use shared_cache::{LayerKey, Opening};
use tokio::time::{Instant, timeout};

use self::standing::{Read, Standing, Whose};
use super::blobs::RegistryBlobs;
use crate::request::ServerRequest;

/// How long the store may keep a reader waiting, for its answer and for each next piece: several
/// times what a store nearby takes, and little beside what a start takes.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long one stretch may take in all, so that a store which sends a byte now and then holds up
/// nobody: the longest stretch has 4 MiB, which come in this time over a link of 2 Mbit/s.
const READ_PATIENCE: Duration = Duration::from_secs(20);
/// The parent may have to ask the control plane, which looks into the store.
const ASK_PATIENCE: Duration = Duration::from_secs(2);
/// After this a layer that was not there is asked for again: somebody may have put it there.
const ABSENT_FOR: Duration = Duration::from_mins(2);
/// For so long nobody looks again at what the key did not open.
const DAMAGED_FOR: Duration = Duration::from_hours(1);
/// A URL is not used in the last part of its life: the request has to arrive, and the two clocks
/// may differ.
const URL_MARGIN: Duration = Duration::from_secs(20);

/// The store first, and the registry for the rest.
#[derive(Debug)]
pub(super) struct SharedBlobs {
    store: Store,
    registry: RegistryBlobs,
}

impl SharedBlobs {
    pub(super) fn new(store: Store, registry: RegistryBlobs) -> Self {
        Self { store, registry }
    }
}

impl BlobSource for SharedBlobs {
    fn read<'a>(
        &'a self,
        layer: &'a str,
        size: u64,
        range: Range<u64>,
        pieces: PieceSink<'a>,
    ) -> BoxFuture<'a, Result<(), BlobError>> {
        Box::pin(async move {
            let end = range.end;
            let rest = self.store.read(layer, size, range, pieces).await..end;
            if rest.is_empty() {
                return Ok(());
            }
            let begun = Instant::now();
            let length = rest.end - rest.start;
            self.registry.read(layer, size, rest, pieces).await?;
            self.store.note(Whose::Registry, begun, length);
            Ok(())
        })
    }

    fn distrust(&self, layer: &str) {
        // Where it came from is not known any more.
        self.store.forget(layer);
        self.registry.distrust(layer);
    }
}

/// What is read of the shared cache, and how it does.
#[derive(Debug)]
pub(super) struct Store {
    auth: Arc<dyn AuthSource>,
    dialer: Dialer,
    registry: Registry,
    repository: String,
    bytes: Arc<AtomicU64>,
    layers: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Known>>>>,
    standing: Mutex<Standing>,
}

/// What is known of a layer.
#[derive(Debug, Default)]
enum Known {
    #[default]
    Nothing,
    There(Arc<There>, Instant),
    NotUntil(Instant),
}

/// A layer in the store. Its URL is not shown.
struct There {
    http: HttpClient,
    url: Url,
    key: LayerKey,
}

impl Debug for There {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("There");
        shown.field("key", &self.key).finish_non_exhaustive()
    }
}

/// Why a read ended early.
enum Failure {
    /// The store is not well.
    Store,
    /// It has not got the layer.
    Absent,
    /// What it has is not the layer.
    Damaged,
}

impl Store {
    pub(super) fn new(
        request: &ServerRequest,
        auth: Arc<dyn AuthSource>,
        bytes: Arc<AtomicU64>,
    ) -> Self {
        Self {
            auth,
            dialer: Dialer::new(request.dial.clone()),
            registry: request.registry.clone(),
            repository: request.repository.clone(),
            bytes,
            layers: Mutex::default(),
            standing: Mutex::default(),
        }
    }

    /// Gives as much of the stretch as the store has, and says where that ends.
    async fn read(&self, layer: &str, size: u64, range: Range<u64>, pieces: PieceSink<'_>) -> u64 {
        if !lock(&self.standing).is_worth_it(Instant::now()) {
            return range.start;
        }
        let Some(there) = self.find(layer).await else {
            return range.start;
        };
        let begun = Instant::now();
        let mut at = range.start;
        let mut count = |piece: Bytes| {
            at += piece.len() as u64;
            self.bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
            pieces(piece);
        };
        let came = timeout(READ_PATIENCE, there.read(size, range.clone(), &mut count));
        match came.await.unwrap_or(Err(Failure::Store)) {
            Ok(()) => self.note(Whose::Shared, begun, at - range.start),
            Err(Failure::Store) => lock(&self.standing).failed(Instant::now()),
            Err(Failure::Absent) => self.not_for(layer, ABSENT_FOR).await,
            Err(Failure::Damaged) => {
                tracing::warn!(layer, "the shared cache has something else than the layer");
                self.not_for(layer, DAMAGED_FOR).await;
            }
        }
        at
    }

    fn note(&self, whose: Whose, begun: Instant, bytes: u64) {
        let took = begun.elapsed();
        lock(&self.standing).succeeded(Instant::now(), whose, Read { bytes, took });
    }

    /// Nobody knows any more where it is; until somebody has put it there anew it is not there.
    fn forget(&self, layer: &str) {
        let until = Instant::now() + DAMAGED_FOR;
        let known = Arc::new(tokio::sync::Mutex::new(Known::NotUntil(until)));
        lock(&self.layers).insert(layer.to_owned(), known);
    }

    async fn not_for(&self, layer: &str, pause: Duration) {
        *self.known(layer).lock().await = Known::NotUntil(Instant::now() + pause);
    }

    /// Layers of the image alone are read, so that there are no more of them.
    fn known(&self, layer: &str) -> Arc<tokio::sync::Mutex<Known>> {
        let mut layers = lock(&self.layers);
        Arc::clone(layers.entry(layer.to_owned()).or_default())
    }

    /// Where the layer is, asked once for all who read it.
    async fn find(&self, layer: &str) -> Option<Arc<There>> {
        let known = self.known(layer);
        let mut known = known.lock().await;
        let now = Instant::now();
        match &*known {
            Known::There(there, until) if now < *until => return Some(Arc::clone(there)),
            Known::NotUntil(until) if now < *until => return None,
            _ => {}
        }
        let found = timeout(ASK_PATIENCE, self.ask(layer)).await.ok().flatten();
        let Some((there, life)) = found else {
            *known = Known::NotUntil(now + ABSENT_FOR);
            return None;
        };
        let there = Arc::new(there);
        *known = Known::There(Arc::clone(&there), now + life);
        Some(there)
    }

    async fn ask(&self, layer: &str) -> Option<(There, Duration)> {
        let digest = Digest::parse(layer).ok()?;
        let request = SharedRequest {
            registry: &self.registry,
            repository: &self.repository,
            digest: &digest,
        };
        let found = match self.auth.shared(request).await {
            Ok(found) => found?,
            Err(error) => {
                tracing::debug!(%error, "the shared cache is not read");
                return None;
            }
        };
        let life = found.not_after.duration_since(Timestamp::now());
        let life = Duration::try_from(life).unwrap_or_default();
        Some((self.open(found)?, life.saturating_sub(URL_MARGIN)))
    }

    fn open(&self, found: SharedLayer) -> Option<There> {
        let url = Url::parse(found.url.expose_secret()).ok()?;
        let host = url.host_str()?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        // The operator of the control plane has named it.
        let addresses = AddressPolicy::for_host(host).configured_by_user();
        let tls = TlsProfile {
            extra_ca_pem: found.ca_pem.into_iter().collect(),
            plain_http: found.plain_http,
        };
        Some(There {
            http: self.dialer.client(&tls, &addresses).ok()?,
            key: LayerKey::from_text(&found.key)?,
            url,
        })
    }
}

impl There {
    async fn read(
        &self,
        size: u64,
        range: Range<u64>,
        pieces: &mut (dyn FnMut(Bytes) + Send),
    ) -> Result<(), Failure> {
        let mut opening = Opening::new(&self.key, size, range).ok_or(Failure::Damaged)?;
        let sealed = opening.sealed_range();
        let stretch = format!("bytes={}-{}", sealed.start, sealed.end - 1);
        let stretch = HeaderValue::try_from(stretch).map_err(|_| Failure::Damaged)?;
        let request = Request::get(self.url.clone()).header(RANGE, stretch);
        let response = patiently(self.http.send(request)).await?;
        let response = response.map_err(|_| Failure::Store)?;
        match response.status {
            StatusCode::PARTIAL_CONTENT => {}
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => return Err(Failure::Absent),
            StatusCode::RANGE_NOT_SATISFIABLE => return Err(Failure::Damaged),
            _ => return Err(Failure::Store),
        }
        let mut coming = response.into_stream();
        while !opening.is_done() {
            let piece = patiently(coming.next()).await?;
            let piece = piece.ok_or(Failure::Damaged)?;
            let piece = piece.map_err(|_| Failure::Store)?;
            let opened = opening.push(&piece, pieces);
            opened.map_err(|_| Failure::Damaged)?;
        }
        Ok(())
    }
}

async fn patiently<T>(waiting: impl Future<Output = T>) -> Result<T, Failure> {
    timeout(PATIENCE, waiting).await.map_err(|_| Failure::Store)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers")]
mod tests;
