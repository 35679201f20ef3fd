//! The reading of layers as lines: one when a layer begins and ends, and how far all of them are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use image::Progress;

use super::Site;
use crate::foreign::size;
use crate::lock::lock;

/// Often enough for somebody who looks on, seldom enough for a log.
const PERCENT_EVERY: Duration = Duration::from_secs(1);
/// `sha256:` and twelve digits, which tell layers apart.
const SHORT_DIGEST_BYTES: usize = 19;

/// Tells a site of its layers.
#[derive(Debug)]
pub(crate) struct LayerLines {
    site: Arc<Site>,
    /// Of all layers that are read.
    total_bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    layers: HashMap<String, u64>,
    read_bytes: u64,
    said_at: Instant,
}

impl LayerLines {
    pub(crate) fn new(site: Arc<Site>, total_bytes: u64) -> Self {
        Self {
            site,
            total_bytes,
            state: Mutex::new(State {
                layers: HashMap::new(),
                read_bytes: 0,
                said_at: Instant::now(),
            }),
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut lock(&self.state))
    }
}

impl Progress for LayerLines {
    /// The site was told of them before.
    fn begun(&self, _layers: usize, _compressed_bytes: u64) {}

    fn layer_started(&self, layer: &str, compressed_bytes: u64) {
        self.with(|state| state.layers.insert(layer.to_owned(), compressed_bytes));
        let line = format!(
            "reading layer {} ({})",
            short(layer),
            size(compressed_bytes)
        );
        self.site.say(&line);
    }

    fn layer_advanced(&self, _layer: &str, bytes: u64) {
        let line = self.with(|state| {
            state.read_bytes = state.read_bytes.saturating_add(bytes);
            if state.said_at.elapsed() < PERCENT_EVERY {
                return None;
            }
            state.said_at = Instant::now();
            Some(percent(state.read_bytes, self.total_bytes))
        });
        if let Some(line) = line {
            self.site.say(&line);
        }
    }

    fn layer_finished(&self, layer: &str) {
        let bytes = self.with(|state| state.layers.get(layer).copied().unwrap_or_default());
        let line = format!("indexed layer {} ({})", short(layer), size(bytes));
        self.site.say(&line);
    }
}

/// For layers that are read again without anybody looking on.
#[derive(Debug)]
pub(crate) struct Unwatched;

impl Progress for Unwatched {
    fn begun(&self, _layers: usize, _compressed_bytes: u64) {}

    fn layer_started(&self, _layer: &str, _compressed_bytes: u64) {}

    fn layer_advanced(&self, _layer: &str, _bytes: u64) {}

    fn layer_finished(&self, _layer: &str) {}
}

/// A layer may be read twice, and then more is read than there is.
fn percent(read_bytes: u64, total_bytes: u64) -> String {
    let percent = u128::from(read_bytes) * 100 / u128::from(total_bytes.max(1));
    format!("read {} % of {}", percent.min(100), size(total_bytes))
}

fn short(digest: &str) -> &str {
    digest.get(..SHORT_DIGEST_BYTES).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_between_nothing_and_all() {
        for (read, total, expected) in [
            (0, 2_000_000, "read 0 % of 2.0 MB"),
            (1_999_999, 2_000_000, "read 99 % of 2.0 MB"),
            (u64::MAX, 2_000_000, "read 100 % of 2.0 MB"),
            (0, 0, "read 0 % of 0 B"),
            (u64::MAX, u64::MAX, "read 100 % of 18446744.1 TB"),
        ] {
            assert_eq!(percent(read, total), expected);
        }
    }
}
