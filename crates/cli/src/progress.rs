//! How long work looks: a bar on a terminal, plain lines elsewhere, nothing with `--json`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use image::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::{Output, bytes};

/// A line every few seconds tells a log that work goes on, without filling it.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows the indexing of an image's layers as one amount.
#[derive(Debug)]
pub(crate) enum IndexProgress {
    Bar(ProgressBar),
    Lines(Mutex<Lines>),
    Quiet,
}

#[derive(Debug)]
pub(crate) struct Lines {
    layers: HashMap<String, u64>,
    total: u64,
    done: u64,
    last: Instant,
}

impl IndexProgress {
    pub(crate) fn new(output: Output) -> Self {
        if output.json {
            return Self::Quiet;
        }
        if !output.progress_on_terminal() {
            let now = Instant::now();
            let lines = Lines {
                layers: HashMap::new(),
                total: 0,
                done: 0,
                last: now,
            };
            return Self::Lines(Mutex::new(lines));
        }
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        let template = "indexing {bar:32} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        bar.set_style(ProgressStyle::with_template(template).expect("the template is constant"));
        Self::Bar(bar)
    }

    /// Takes the bar off the screen before a command's own output begins.
    pub(crate) fn clear(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

impl Progress for IndexProgress {
    fn layer_started(&self, layer: &str, compressed_bytes: u64) {
        match self {
            Self::Bar(bar) => bar.inc_length(compressed_bytes),
            Self::Lines(lines) => {
                let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                lines.layers.insert(layer.to_owned(), compressed_bytes);
                lines.total = lines.total.saturating_add(compressed_bytes);
                eprintln!("indexing {} ({})", short(layer), bytes(compressed_bytes));
            }
            Self::Quiet => {}
        }
    }

    fn layer_advanced(&self, _layer: &str, count: u64) {
        match self {
            Self::Bar(bar) => bar.inc(count),
            Self::Lines(lines) => {
                let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                lines.done += count;
                if lines.last.elapsed() >= LINE_EVERY {
                    lines.last = Instant::now();
                    eprintln!("indexing: {} of {}", bytes(lines.done), bytes(lines.total));
                }
            }
            Self::Quiet => {}
        }
    }

    fn layer_finished(&self, layer: &str) {
        if let Self::Lines(lines) = self {
            let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            let size = lines.layers.get(layer).copied().unwrap_or_default();
            eprintln!("indexed {} ({})", short(layer), bytes(size));
        }
    }
}

/// `sha256:0123456789ab`: enough to tell layers apart.
pub(crate) fn short(digest: &str) -> &str {
    digest.get(..19).unwrap_or(digest)
}
