//! One layer in the cache: reading what is there, checking it, adding to it.
//!
//! What was checked is believed for as long as nobody writes to the file: its time of change is
//! looked at after every read, and where it is another one the bytes are hashed again before they
//! go out. So a file that is written to under a mount gives right bytes or none.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU8, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Release,
};

use layer_index::LayerIndex;
use rustix::fs::FlockOperation;

use super::allowance::Allowance;
use super::presence::PresenceMap;

/// The span is not there as far as this process knows.
const ABSENT: u8 = 0;
/// The map says that it is there; nobody has looked.
const CLAIMED: u8 = 1;
/// It matched its digest in this process, or was written by it.
const VERIFIED: u8 = 2;

/// No file has changed at this time: the span was not hashed as it lies on the disk.
const NEVER: u64 = u64::MAX;

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

/// The open files of one layer in the cache: all that is needed to use it, whoever opened them.
#[derive(Debug)]
pub struct LayerFiles {
    /// Decoded bytes at their own offsets, of the layer's full length.
    pub data: File,
    /// Which spans are there.
    pub map: File,
    /// Holds the shared lock that keeps the layer from being evicted.
    pub usage: File,
}

/// The cached part of one layer of one origin.
#[derive(Debug)]
pub struct LayerCache {
    index: LayerIndex,
    allowance: Arc<Allowance>,
    data: File,
    map: PresenceMap,
    states: Box<[AtomicU8]>,
    /// When the file had last changed as each span was hashed.
    hashed_at: Box<[AtomicU64]>,
    /// For its lock.
    _usage: File,
}

impl LayerCache {
    pub fn new(
        files: LayerFiles,
        index: LayerIndex,
        allowance: Arc<Allowance>,
    ) -> io::Result<Self> {
        let LayerFiles { data, map, usage } = files;
        let (map, claimed) = PresenceMap::new(map, &index.root(), index.spans().len())?;
        let hashed_at = claimed.iter().map(|_| AtomicU64::new(NEVER)).collect();
        let states = claimed
            .into_iter()
            .map(|claimed| AtomicU8::new(if claimed { CLAIMED } else { ABSENT }))
            .collect();
        Ok(Self {
            index,
            allowance,
            data,
            map,
            states,
            hashed_at,
            _usage: usage,
        })
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
        self.right_bytes(span).is_some()
    }

    /// The span as it lies on the disk, if it is right.
    fn right_bytes(&self, span: usize) -> Option<Vec<u8>> {
        let (entry, state) = (self.index.spans().get(span)?, self.states.get(span)?);
        // Looked at before the bytes are: a write that begins from here on makes another time.
        let changed_at = self.changed_at();
        let mut bytes = vec![0; entry.length as usize];
        let is_read = self
            .data
            .read_exact_at(&mut bytes, entry.uncompressed_offset);
        if is_read.is_err() || *blake3::hash(&bytes).as_bytes() != entry.digest {
            self.distrust(span);
            return None;
        }
        self.hashed_at.get(span)?.store(changed_at, Release);
        state.store(VERIFIED, Release);
        Some(bytes)
    }

    /// Reads decoded bytes that lie in verified spans. False when the file does not have them, or
    /// has others.
    pub fn read_at(&self, buffer: &mut [u8], layer_offset: u64) -> bool {
        self.read_unchanged(buffer, layer_offset) || self.read_hashed(buffer, layer_offset)
    }

    /// Reads what nobody has written to since its spans were hashed.
    fn read_unchanged(&self, buffer: &mut [u8], layer_offset: u64) -> bool {
        if self.data.read_exact_at(buffer, layer_offset).is_err() {
            return false;
        }
        let changed_at = self.changed_at();
        let is_hashed = |span: usize| {
            let hashed_at = self.hashed_at.get(span);
            hashed_at.is_some_and(|time| time.load(Acquire) == changed_at)
        };
        changed_at != NEVER && self.spans_of(buffer.len(), layer_offset).all(is_hashed)
    }

    /// Hashes every span that the read touches, and gives of the very bytes that were hashed.
    fn read_hashed(&self, buffer: &mut [u8], layer_offset: u64) -> bool {
        let end = layer_offset + buffer.len() as u64;
        for span in self.spans_of(buffer.len(), layer_offset) {
            let (Some(entry), Some(bytes)) = (self.index.spans().get(span), self.right_bytes(span))
            else {
                return false;
            };
            let start = entry.uncompressed_offset;
            let (from, to) = (start.max(layer_offset), entry.end().min(end));
            let index = |offset, base| usize::try_from(offset - base).unwrap_or(usize::MAX);
            let source = bytes.get(index(from, start)..index(to, start));
            let target = buffer.get_mut(index(from, layer_offset)..index(to, layer_offset));
            let (Some(source), Some(target)) = (source, target) else {
                return false;
            };
            target.copy_from_slice(source);
        }
        true
    }

    fn spans_of(&self, length: usize, layer_offset: u64) -> std::ops::RangeInclusive<usize> {
        let last = layer_offset.saturating_add((length as u64).saturating_sub(1));
        self.index.span_at(layer_offset)..=self.index.span_at(last)
    }

    /// When somebody last wrote to the data: no program sets this time.
    fn changed_at(&self) -> u64 {
        let time = |data: std::fs::Metadata| {
            let seconds = data.ctime().cast_unsigned();
            seconds
                .wrapping_mul(1_000_000_000)
                .wrapping_add(data.ctime_nsec().cast_unsigned())
        };
        self.data.metadata().map_or(NEVER, time)
    }

    /// Keeps a decoded span that matched its digest: the bytes first, then the claim.
    pub fn store(&self, span: usize, bytes: &[u8]) -> Result<(), StoreError> {
        self.store_by(span, bytes, |offset| {
            if !self.allowance.admit(bytes.len() as u64) {
                return Err(StoreError::Limit);
            }
            let write = || self.data.write_all_at(bytes, offset);
            Ok(self.allowance.write(bytes.len() as u64, write)?)
        })
    }

    /// The same in room that nobody needs: `has_spare` was asked, and nothing is evicted for it.
    pub(crate) fn store_beside(&self, span: usize, bytes: &[u8]) -> Result<(), StoreError> {
        self.store_by(span, bytes, |offset| {
            self.allowance.written(bytes.len() as u64);
            Ok(self.data.write_all_at(bytes, offset)?)
        })
    }

    /// Whether so many bytes fit beside everything that is there. May take long.
    pub(crate) fn has_spare(&self, bytes: u64) -> bool {
        self.allowance.has_spare(bytes)
    }

    /// True when no other process fills this layer: until `end_filling`, none does. By a lock of
    /// this process, which ends with it.
    pub(crate) fn begin_filling(&self) -> bool {
        self.map.lock(FlockOperation::NonBlockingLockExclusive)
    }

    pub(crate) fn end_filling(&self) {
        self.map.lock(FlockOperation::NonBlockingUnlock);
    }

    fn store_by(
        &self,
        span: usize,
        bytes: &[u8],
        write: impl FnOnce(u64) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
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
        write(entry.uncompressed_offset)?;
        state.store(VERIFIED, Release);
        // The claim only saves a later process from fetching: it is no reason to fail.
        let _ = self.map.set(span, true);
        Ok(())
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
}
