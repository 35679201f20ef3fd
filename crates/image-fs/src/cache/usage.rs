//! What the cache holds, and taking from it: whole layers that nobody uses, oldest use first.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use super::budget::Admission;
use super::{CacheError, SpanCache, delete, failed, is_locked, list};

/// After an eviction the cache is this share of its limit, so that the next one is not at once.
const EVICT_TO_PERCENT: u64 = 90;
/// What a full disk is relieved of beyond what is needed now.
const ROOM_STEP: u64 = 64 * 1024 * 1024;
/// Longest `about` file that is read: two lines, each shorter than a URL.
const MAX_ABOUT: u64 = 8 * 1024;

/// One layer in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerUsage {
    pub origin: String,
    pub layer: String,
    /// Disk space taken.
    pub bytes: u64,
    pub in_use: bool,
    pub last_used: SystemTime,
}

/// What was taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    pub layers: usize,
    pub bytes: u64,
}

struct Resident {
    home: PathBuf,
    usage: LayerUsage,
}

impl SpanCache {
    /// Every layer, the longest unused first.
    pub fn du(&self) -> Result<Vec<LayerUsage>, CacheError> {
        let _lock = self.lock()?;
        Ok(self
            .residents()?
            .into_iter()
            .map(|resident| resident.usage)
            .collect())
    }

    /// Evicts layers that nobody uses, the longest unused first, until no more than `keep_bytes`
    /// are left.
    pub fn prune(&self, keep_bytes: u64) -> Result<PruneReport, CacheError> {
        let lock = self.lock()?;
        let residents = self.residents()?;
        let mut total: u64 = residents.iter().map(|resident| resident.usage.bytes).sum();
        let mut report = PruneReport::default();
        let mut trash = Vec::new();
        for resident in residents.iter().filter(|resident| !resident.usage.in_use) {
            if total <= keep_bytes {
                break;
            }
            trash.push(self.discard(&resident.home)?);
            total -= resident.usage.bytes;
            report.layers += 1;
            report.bytes += resident.usage.bytes;
        }
        // Freeing blocks takes time; opening layers need not wait for it.
        drop(lock);
        for path in &trash {
            delete(path);
        }
        Ok(report)
    }

    /// Makes the layer unreachable at once; its bytes go later.
    fn discard(&self, home: &Path) -> Result<PathBuf, CacheError> {
        let trash = self.path("trash").join(self.unique_name());
        fs::rename(home, &trash).map_err(failed("cannot remove", home))?;
        if let Some(origin) = home.parent() {
            // Goes when it is empty, and stays otherwise.
            let _ = fs::remove_dir(origin);
        }
        Ok(trash)
    }

    /// Whether bytes may be written; measures and evicts when it is time to.
    pub(super) fn admit(&self, bytes: u64) -> bool {
        match self.inner.budget.admit(bytes) {
            Admission::Write => true,
            Admission::Full => false,
            Admission::Measure => self.check_budget(),
        }
    }

    /// Brings the cache within its limit if it can; false when it cannot.
    pub(super) fn check_budget(&self) -> bool {
        let limit = self.inner.budget.max_bytes;
        if limit == u64::MAX {
            return true;
        }
        let fits = self.measure_and_evict(limit).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot measure the span cache");
            false
        });
        self.inner.budget.measured(!fits);
        fits
    }

    fn measure_and_evict(&self, limit: u64) -> Result<bool, CacheError> {
        let total = self.total()?;
        if total <= limit {
            return Ok(true);
        }
        let report = self.prune(limit / 100 * EVICT_TO_PERCENT)?;
        Ok(total - report.bytes.min(total) <= limit)
    }

    fn total(&self) -> Result<u64, CacheError> {
        Ok(self.du()?.iter().map(|usage| usage.bytes).sum())
    }

    /// Repeats a write of `bytes` that found the disk full, evicting if it is full still. One at a
    /// time: what another evicts meanwhile is gone from the layers before its blocks are free.
    pub(super) fn retry_with_room(
        &self,
        bytes: u64,
        write: impl Fn() -> io::Result<()>,
    ) -> io::Result<()> {
        let room = &self.inner.making_room;
        let _one_at_a_time = room.lock().unwrap_or_else(PoisonError::into_inner);
        match write() {
            Err(error) if is_full(&error) && self.make_room(bytes) => write(),
            result => result,
        }
    }

    /// Evicts because the disk is full. True when something went.
    fn make_room(&self, bytes: u64) -> bool {
        let evict = || {
            let keep = self
                .total()?
                .saturating_sub(bytes.saturating_add(ROOM_STEP));
            self.prune(keep)
        };
        evict().is_ok_and(|report| report.bytes > 0)
    }

    /// Layers by last use. The caller holds the lock.
    fn residents(&self) -> Result<Vec<Resident>, CacheError> {
        let mut residents = Vec::new();
        for origin in list(&self.path("layers"))? {
            for home in list(&origin).unwrap_or_default() {
                residents.extend(resident(home));
            }
        }
        residents.sort_by_key(|resident| resident.usage.last_used);
        Ok(residents)
    }
}

fn resident(home: PathBuf) -> Option<Resident> {
    let files = list(&home).ok()?;
    let blocks: u64 = files
        .iter()
        .filter_map(|path| path.symlink_metadata().ok())
        .map(|m| m.blocks())
        .sum();
    let usage = home.join("use");
    let last_used = usage.metadata().and_then(|metadata| metadata.modified());
    let (origin, layer) = about(&home.join("about"));
    let usage = LayerUsage {
        origin,
        layer,
        bytes: blocks * 512,
        in_use: is_locked(&usage),
        last_used: last_used.unwrap_or(SystemTime::UNIX_EPOCH + Duration::ZERO),
    };
    Some(Resident { home, usage })
}

fn about(path: &Path) -> (String, String) {
    let is_small = path
        .metadata()
        .is_ok_and(|metadata| metadata.len() <= MAX_ABOUT);
    let text = if is_small {
        fs::read_to_string(path).unwrap_or_default()
    } else {
        String::new()
    };
    let mut lines = text.lines().map(str::to_owned);
    (
        lines.next().unwrap_or_default(),
        lines.next().unwrap_or_default(),
    )
}

pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}
