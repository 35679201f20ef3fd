//! What the cache holds, and taking from it: whole layers that nobody uses, oldest use first.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{CacheError, Room, SpanCache, delete, failed, is_locked, list};

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

    /// Brings the cache within its limit if it can; false when it cannot.
    pub(super) fn check_limit(&self) -> bool {
        let limit = self.inner.limits.max_bytes;
        limit == u64::MAX
            || self.measure_and_evict(limit).unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot measure the span cache");
                false
            })
    }

    fn measure_and_evict(&self, limit: u64) -> Result<bool, CacheError> {
        let total = self.total()?;
        if total <= limit {
            return Ok(true);
        }
        let keep = limit / 100 * EVICT_TO_PERCENT;
        let report = self.prune(keep.saturating_sub(self.backing_bytes()))?;
        Ok(total - report.bytes.min(total) <= limit)
    }

    /// Layers, and files for the kernel to read, which go with their mounts only.
    pub(super) fn total(&self) -> Result<u64, CacheError> {
        Ok(self.of_layers()? + self.backing_bytes())
    }

    fn of_layers(&self) -> Result<u64, CacheError> {
        Ok(self.du()?.iter().map(|usage| usage.bytes).sum())
    }

    /// Evicts because the disk is full. True when something went.
    fn evict(&self, bytes: u64) -> Result<bool, CacheError> {
        let keep = self.of_layers()?.saturating_sub(bytes);
        Ok(self.prune(keep)?.bytes > 0)
    }

    /// What the disk still takes.
    pub(super) fn free_bytes(&self) -> Result<u64, CacheError> {
        let directory = &self.inner.directory;
        let disk = rustix::fs::statvfs(directory)
            .map_err(|error| failed("cannot look at the disk of", directory)(error.into()))?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
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

impl Room for SpanCache {
    fn is_within_limit(&self) -> bool {
        self.check_limit()
    }

    /// Looks at the disk itself: who asks may be mistaken, or lie in order to have layers evicted.
    fn make(&self, bytes: u64) -> bool {
        let wanted = bytes.saturating_add(ROOM_STEP);
        let is_there = self.free_bytes().is_ok_and(|free| free >= wanted);
        is_there || self.evict(wanted).unwrap_or(false)
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
        .symlink_metadata()
        .is_ok_and(|found| found.is_file() && found.len() <= MAX_ABOUT);
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
