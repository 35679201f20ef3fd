//! Pins: images whose layers stay in the cache, whatever else needs room.
//!
//! ```text
//! pins/<hash of owner and name>     holdfast pin 1
//!                                   owner
//!                                   name
//!                                   manifest digest
//!                                   origin
//!                                   when, in seconds since 1970
//!                                   layer digest, one a line
//! ```
//!
//! A pin is one file that is there whole or not at all, and nothing else protects a layer: whoever
//! evicts reads the pins, and whatever process ends at whatever moment, no layer stays protected
//! that no pin names. A file that does not read as a pin is none. That a pin's layers are complete
//! is seen to by who makes it; it says nothing of who may read them.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::usage::Resident;
use super::{CacheError, SpanCache, clear_for_file, failed, is_file, layer_name, list, open_file};

/// The first line, with the version of the format.
const FIRST_LINE: &str = "holdfast pin 1";
/// Longest file that is read: more than the digests of as many layers as an image may have.
const MAX_PIN_BYTES: u64 = 128 * 1024;
/// Pins of one cache. Whoever evicts reads them all, which is to take milliseconds.
const MAX_PINS: usize = 1024;

/// An image that the cache keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Whose it is: the id of a workspace.
    pub owner: String,
    /// The image as its owner calls it. A name has one pin.
    pub name: String,
    /// What the name meant.
    pub manifest_digest: String,
    pub origin: String,
    pub layers: Vec<String>,
    pub pinned_at: SystemTime,
}

/// What is to be pinned, before it is in the cache.
#[derive(Clone, Copy, Debug)]
pub struct PinPlan<'a> {
    pub owner: &'a str,
    pub name: &'a str,
    pub origin: &'a str,
    /// Layers, and what each takes at least.
    pub layers: &'a [(&'a str, u64)],
}

impl SpanCache {
    /// Refuses what would not fit beside the other pins.
    pub fn check_room_for_pin(&self, plan: PinPlan<'_>) -> Result<(), CacheError> {
        let _lock = self.lock()?;
        let residents = self.residents()?;
        self.check_room(plan, &self.pins_but(plan.owner, plan.name)?, &residents)
    }

    /// Keeps an image from now on, in the place of what its owner had pinned by that name. Its
    /// layers are there, and in use until this returns.
    pub fn pin(&self, pin: &Pin) -> Result<(), CacheError> {
        let text = pin.to_text()?;
        let _lock = self.lock()?;
        let others = self.pins_but(&pin.owner, &pin.name)?;
        if others.len() >= MAX_PINS {
            return Err(CacheError::TooManyPins { limit: MAX_PINS });
        }
        let residents = self.residents()?;
        let mut layers = Vec::with_capacity(pin.layers.len());
        for layer in &pin.layers {
            let home = self.home_of(&pin.origin, layer)?;
            let resident = residents.iter().find(|resident| resident.home == home);
            let resident = resident.ok_or_else(|| CacheError::NotThere(layer.clone()))?;
            layers.push((layer.as_str(), resident.usage.bytes));
        }
        let plan = PinPlan {
            owner: &pin.owner,
            name: &pin.name,
            origin: &pin.origin,
            layers: &layers,
        };
        self.check_room(plan, &others, &residents)?;
        self.write(&self.pin_path(&pin.owner, &pin.name), &text)
    }

    /// Keeps it no longer; answers whether it was kept.
    pub fn unpin(&self, owner: &str, name: &str) -> Result<bool, CacheError> {
        let _lock = self.lock()?;
        let path = self.pin_path(owner, name);
        if !is_file(&path) {
            return Ok(false);
        }
        self.remove_pin(&path)?;
        Ok(true)
    }

    /// All pins, by owner and name.
    pub fn pins(&self) -> Result<Vec<Pin>, CacheError> {
        let found = list(&self.path("pins"))?;
        let mut pins: Vec<Pin> = found.iter().filter_map(|path| read(path)).collect();
        pins.sort_by(|a, b| (&a.owner, &a.name).cmp(&(&b.owner, &b.name)));
        Ok(pins)
    }

    /// The layers that some pin names.
    pub(super) fn pinned_homes(&self) -> Result<HashSet<PathBuf>, CacheError> {
        Ok(self.homes(&self.pins()?))
    }

    /// Ends the pins that name one of these layers. The caller holds the lock.
    pub(super) fn unpin_homes(&self, homes: &[PathBuf]) -> Result<(), CacheError> {
        for pin in self.pins()? {
            let pinned = self.homes(std::slice::from_ref(&pin));
            if homes.iter().any(|home| pinned.contains(home)) {
                self.remove_pin(&self.pin_path(&pin.owner, &pin.name))?;
            }
        }
        Ok(())
    }

    /// Layers of several pins count once. The caller holds the lock.
    fn check_room(
        &self,
        plan: PinPlan<'_>,
        others: &[Pin],
        residents: &[Resident],
    ) -> Result<(), CacheError> {
        let taken = self.homes(others);
        let is_taken = |resident: &&Resident| taken.contains(&resident.home);
        let pinned_bytes = residents.iter().filter(is_taken).map(|r| r.usage.bytes);
        let pinned_bytes = pinned_bytes.fold(0, u64::saturating_add);
        let mut seen = HashSet::new();
        let mut needs_bytes = 0_u64;
        for (layer, bytes) in plan.layers {
            let home = self.home_of(plan.origin, layer)?;
            if !taken.contains(&home) && seen.insert(home) {
                needs_bytes = needs_bytes.saturating_add(*bytes);
            }
        }
        let limit_bytes = self.limits().max_bytes;
        if pinned_bytes.saturating_add(needs_bytes) <= limit_bytes {
            return Ok(());
        }
        Err(CacheError::NoRoomForPin {
            name: plan.name.to_owned(),
            needs_bytes,
            pinned_bytes,
            limit_bytes,
        })
    }

    fn pins_but(&self, owner: &str, name: &str) -> Result<Vec<Pin>, CacheError> {
        let mut pins = self.pins()?;
        pins.retain(|pin| pin.owner != owner || pin.name != name);
        Ok(pins)
    }

    fn homes(&self, pins: &[Pin]) -> HashSet<PathBuf> {
        let of_pin = |pin: &Pin| {
            let homes = pin.layers.iter();
            let homes = homes.filter_map(|layer| self.home_of(&pin.origin, layer).ok());
            homes.collect::<Vec<_>>()
        };
        pins.iter().flat_map(of_pin).collect()
    }

    fn pin_path(&self, owner: &str, name: &str) -> PathBuf {
        let both = format!("{owner}\n{name}");
        let hash = blake3::hash(both.as_bytes());
        self.path("pins").join(&hash.to_hex()[..32])
    }

    /// Whole or not at all. The caller holds the lock, by which nobody sweeps the file away.
    fn write(&self, path: &Path, text: &str) -> Result<(), CacheError> {
        clear_for_file(path);
        let temporary = self.path("incoming").join(self.unique_name());
        let mut file = open_file(&temporary, OpenOptions::new().create_new(true))?;
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&temporary, path))
            .map_err(failed("cannot write", path))?;
        self.sync_pins()
    }

    fn remove_pin(&self, path: &Path) -> Result<(), CacheError> {
        fs::remove_file(path).map_err(failed("cannot remove", path))?;
        self.sync_pins()
    }

    fn sync_pins(&self) -> Result<(), CacheError> {
        let directory = self.path("pins");
        File::open(&directory)
            .and_then(|opened| opened.sync_all())
            .map_err(failed("cannot sync", &directory))
    }
}

impl Pin {
    fn to_text(&self) -> Result<String, CacheError> {
        let since_1970 = self.pinned_at.duration_since(SystemTime::UNIX_EPOCH);
        let seconds = since_1970.unwrap_or_default().as_secs().to_string();
        let fixed = [
            FIRST_LINE,
            &self.owner,
            &self.name,
            &self.manifest_digest,
            &self.origin,
            &seconds,
        ];
        let layers = self.layers.iter().map(String::as_str);
        let lines: Vec<&str> = fixed.into_iter().chain(layers).collect();
        for layer in &self.layers {
            layer_name(layer)?;
        }
        let text = lines.join("\n") + "\n";
        let is_line = |line: &&str| !line.is_empty() && !line.contains('\n');
        if lines.iter().all(is_line) && text.len() as u64 <= MAX_PIN_BYTES {
            return Ok(text);
        }
        Err(CacheError::Unpinnable(self.name.chars().take(80).collect()))
    }

    fn from_text(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != FIRST_LINE {
            return None;
        }
        let mut line = || lines.next().map(str::to_owned);
        let (owner, name, manifest_digest, origin) = (line()?, line()?, line()?, line()?);
        let seconds = Duration::from_secs(line()?.parse().ok()?);
        Some(Self {
            owner,
            name,
            manifest_digest,
            origin,
            pinned_at: SystemTime::UNIX_EPOCH.checked_add(seconds)?,
            layers: lines.map(str::to_owned).collect(),
        })
    }
}

fn read(path: &Path) -> Option<Pin> {
    let found = path.symlink_metadata().ok()?;
    let is_small = found.is_file() && found.len() <= MAX_PIN_BYTES;
    let text = is_small.then(|| fs::read_to_string(path).ok()).flatten();
    let pin = text.as_deref().and_then(Pin::from_text);
    if pin.is_none() {
        tracing::warn!(path = %path.display(), "not a pin: it keeps nothing");
    }
    pin
}
