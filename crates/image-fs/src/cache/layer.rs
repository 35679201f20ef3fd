//! One layer in the cache: reading what is there, checking it once per process, adding to it.

use std::fs::{File, FileTimes, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};
use std::time::SystemTime;

use layer_index::LayerIndex;
use rustix::fs::{FlockOperation, flock};

use super::presence::PresenceMap;
use super::usage::is_full;
use super::{CacheError, SpanCache, failed, open_file};

/// The span is not there as far as this process knows.
const ABSENT: u8 = 0;
/// The map says that it is there; nobody has looked.
const CLAIMED: u8 = 1;
/// It matched its digest in this process, or was written by it.
const VERIFIED: u8 = 2;

/// A decoded span that could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the span cache has reached its limit and all of it is in use")]
    Limit,
    #[error("cannot write to the span cache")]
    Io(#[from] io::Error),
    #[error("span {span} has {found} bytes, its index says {expected}")]
    Length {
        span: usize,
        found: usize,
        expected: u32,
    },
}

/// The cached part of one layer of one origin.
#[derive(Debug)]
pub struct LayerCache {
    cache: SpanCache,
    index: LayerIndex,
    data: File,
    map: PresenceMap,
    states: Box<[AtomicU8]>,
    /// Holds the shared lock that keeps the layer from being evicted.
    usage: File,
}

impl LayerCache {
    /// Opens the files of a layer. The caller holds the cache's lock.
    pub(super) fn open(
        cache: SpanCache,
        home: &Path,
        index: &LayerIndex,
    ) -> Result<Self, CacheError> {
        let usage_path = home.join("use");
        let usage = open_file(&usage_path, &mut OpenOptions::new())?;
        flock(&usage, FlockOperation::LockShared)
            .map_err(|error| failed("cannot lock", &usage_path)(error.into()))?;
        let data_path = home.join("data");
        let data = open_file(&data_path, OpenOptions::new().create(true).truncate(false))?;
        let length = index.header().uncompressed_size;
        if data
            .metadata()
            .map_err(failed("cannot read", &data_path))?
            .len()
            != length
        {
            data.set_len(length)
                .map_err(failed("cannot size", &data_path))?;
        }
        let (map, claimed) = PresenceMap::open(home, index)?;
        let states = claimed
            .into_iter()
            .map(|claimed| AtomicU8::new(if claimed { CLAIMED } else { ABSENT }))
            .collect();
        let layer = Self {
            cache,
            index: index.clone(),
            data,
            map,
            states,
            usage,
        };
        layer.mark_used();
        Ok(layer)
    }

    pub fn index(&self) -> &LayerIndex {
        &self.index
    }

    /// Whether the span can be read now without looking at its digest.
    pub fn is_verified(&self, span: usize) -> bool {
        self.state(span) == VERIFIED
    }

    /// Whether the span is there as far as anybody claims: looking at it is then worthwhile, and
    /// fetching it is not.
    pub fn is_claimed(&self, span: usize) -> bool {
        self.state(span) != ABSENT || self.map.is_set(span)
    }

    fn state(&self, span: usize) -> u8 {
        self.states
            .get(span)
            .map_or(ABSENT, |state| state.load(Acquire))
    }

    /// Whether the span is there and right. Reads and hashes it the first time; what is found
    /// wrong counts as absent from then on.
    pub fn verify(&self, span: usize) -> bool {
        match self.state(span) {
            VERIFIED => true,
            ABSENT if !self.map.is_set(span) => false,
            _ => self.recheck(span),
        }
    }

    /// Reads and hashes the span whatever is known of it.
    fn recheck(&self, span: usize) -> bool {
        let (Some(entry), Some(state)) = (self.index.spans().get(span), self.states.get(span))
        else {
            return false;
        };
        let mut bytes = vec![0; entry.length as usize];
        let is_right = self
            .data
            .read_exact_at(&mut bytes, entry.uncompressed_offset)
            .is_ok()
            && *blake3::hash(&bytes).as_bytes() == entry.digest;
        if is_right {
            state.store(VERIFIED, Release);
        } else {
            self.distrust(span);
        }
        is_right
    }

    /// Reads decoded bytes that lie in verified spans. False when the file does not have them.
    pub fn read_at(&self, buffer: &mut [u8], layer_offset: u64) -> bool {
        self.data.read_exact_at(buffer, layer_offset).is_ok()
    }

    /// Keeps a decoded span that matched its digest: the bytes first, then the claim.
    pub fn store(&self, span: usize, bytes: &[u8]) -> Result<(), StoreError> {
        let (Some(entry), Some(state)) = (self.index.spans().get(span), self.states.get(span))
        else {
            return Err(StoreError::Length {
                span,
                found: bytes.len(),
                expected: 0,
            });
        };
        if bytes.len() != entry.length as usize {
            let (found, expected) = (bytes.len(), entry.length);
            return Err(StoreError::Length {
                span,
                found,
                expected,
            });
        }
        if state.load(Acquire) == VERIFIED {
            return Ok(());
        }
        if !self.cache.admit(u64::from(entry.length)) {
            return Err(StoreError::Limit);
        }
        self.write(bytes, entry.uncompressed_offset)?;
        state.store(VERIFIED, Release);
        // The claim only saves a later process from fetching: it is no reason to fail.
        let _ = self.map.set(span, true);
        Ok(())
    }

    /// Writes; on a full disk, again after other layers made room.
    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let write = || self.data.write_all_at(bytes, offset);
        match write() {
            Err(error) if is_full(&error) => self.cache.retry_with_room(bytes.len() as u64, write),
            result => result,
        }
    }

    /// Bytes turned out to be gone: every span is looked at again before it is used. A file that
    /// was cut off and has grown again would give zeros.
    pub fn doubt(&self) {
        for state in &self.states {
            let _ = state.compare_exchange(VERIFIED, CLAIMED, AcqRel, Acquire);
        }
    }

    /// The span turned out to be wrong or gone.
    pub fn distrust(&self, span: usize) {
        if let Some(state) = self.states.get(span)
            && state.swap(ABSENT, AcqRel) != ABSENT
        {
            let _ = self.map.set(span, false);
        }
    }

    /// Spans that are there, as far as the map says.
    pub fn present_spans(&self) -> usize {
        self.states
            .iter()
            .filter(|state| state.load(Acquire) != ABSENT)
            .count()
    }

    /// Layers are evicted in the order of their last use.
    fn mark_used(&self) {
        let _ = self
            .usage
            .set_times(FileTimes::new().set_modified(SystemTime::now()));
    }
}

impl Drop for LayerCache {
    fn drop(&mut self) {
        self.mark_used();
    }
}
