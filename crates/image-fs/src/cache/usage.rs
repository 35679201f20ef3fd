//! What the cache holds, and taking from it: whole layers that nobody uses and no pin keeps, oldest
//! use first.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{CacheError, Room, SpanCache, delete, failed, is_locked, list};

/// After an eviction the cache is this share of its limit, so that the next one is not at once.
const EVICT_TO_PERCENT: u64 = 90;
/// What a full disk is relieved of beyond what is needed now.
const ROOM_STEP: u64 = 64 * 1024 * 1024;
/// What is left of the disk by what nobody has asked for: containers write there too.
const FILL_LEAVES: u64 = 1024 * 1024 * 1024;
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
    pub pinned: bool,
    pub last_used: SystemTime,
}

/// What was taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    pub layers: usize,
    pub bytes: u64,
}

pub(super) struct Resident {
    pub(super) home: PathBuf,
    pub(super) usage: LayerUsage,
}

/// Which layers may be evicted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Evicting {
    Unpinned,
    /// Pinned ones too, whose pins end with them.
    All,
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

    /// Evicts layers that nobody uses and no pin keeps, the longest unused first, until no more
    /// than `keep_bytes` are left.
    pub fn prune(&self, keep_bytes: u64) -> Result<PruneReport, CacheError> {
        self.prune_of(Evicting::Unpinned, keep_bytes)
    }

    /// The same with pinned layers among the others. A pin ends when one of its layers goes.
    pub fn prune_pinned_too(&self, keep_bytes: u64) -> Result<PruneReport, CacheError> {
        self.prune_of(Evicting::All, keep_bytes)
    }

    fn prune_of(&self, evicting: Evicting, keep_bytes: u64) -> Result<PruneReport, CacheError> {
        let lock = self.lock()?;
        let residents = self.residents()?;
        let mut total: u64 = residents.iter().map(|resident| resident.usage.bytes).sum();
        let mut report = PruneReport::default();
        let mut chosen = Vec::new();
        for Resident { home, usage } in residents {
            if total <= keep_bytes {
                break;
            }
            if usage.in_use || (usage.pinned && evicting == Evicting::Unpinned) {
                continue;
            }
            total -= usage.bytes;
            report.layers += 1;
            report.bytes += usage.bytes;
            chosen.push(home);
        }
        if evicting == Evicting::All {
            // Pins first, so that at no moment there is one whose layers are gone.
            self.unpin_homes(&chosen)?;
        }
        let trash = chosen.iter().map(|home| self.discard(home));
        let trash = trash.collect::<Result<Vec<_>, _>>()?;
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
    pub(super) fn residents(&self) -> Result<Vec<Resident>, CacheError> {
        let (pinned, mut residents) = (self.pinned_homes()?, Vec::new());
        for origin in list(&self.path("layers"))? {
            for home in list(&origin).unwrap_or_default() {
                residents.extend(resident(home, &pinned));
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

    fn has_spare(&self, bytes: u64) -> bool {
        let most = self.inner.limits.max_bytes / 100 * EVICT_TO_PERCENT;
        let fits = |total: u64| total.saturating_add(bytes) <= most;
        let is_disk_free = |free: u64| free >= bytes.saturating_add(FILL_LEAVES);
        self.total().is_ok_and(fits) && self.free_bytes().is_ok_and(is_disk_free)
    }
}

fn resident(home: PathBuf, pinned: &HashSet<PathBuf>) -> Option<Resident> {
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
        pinned: pinned.contains(&home),
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
