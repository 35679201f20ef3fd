//! How long work looks: a bar on a terminal, plain lines elsewhere, nothing with `--json`. It is
//! shown on standard error, since standard output is a command's own.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use image::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::{Output, bytes};

/// A line every few seconds tells a log that work goes on, without filling it.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// A rate over less than this is noise.
const RATE_AFTER: Duration = Duration::from_secs(1);

/// Shows the indexing of an image's layers as one amount.
#[derive(Debug)]
pub(crate) struct IndexProgress {
    look: Look,
    state: Mutex<State>,
}

#[derive(Debug)]
enum Look {
    Bar(ProgressBar),
    Lines,
    Quiet,
}

/// How far all of them are.
#[derive(Debug)]
struct State {
    /// Those that are under way, with their sizes.
    layers: HashMap<String, u64>,
    layers_done: usize,
    layers_total: usize,
    bytes_done: u64,
    bytes_total: u64,
    begun: Instant,
    last_line: Instant,
}

impl IndexProgress {
    pub(crate) fn new(output: Output) -> Self {
        let look = if output.json {
            Look::Quiet
        } else if output.progress_on_terminal() {
            Look::Bar(bar(ProgressDrawTarget::stderr()))
        } else {
            Look::Lines
        };
        Self::looking(look, Instant::now())
    }

    fn looking(look: Look, now: Instant) -> Self {
        let state = State {
            layers: HashMap::new(),
            layers_done: 0,
            layers_total: 0,
            bytes_done: 0,
            bytes_total: 0,
            begun: now,
            last_line: now,
        };
        Self {
            look,
            state: Mutex::new(state),
        }
    }

    /// Takes the bar off the screen before a command's own output begins.
    pub(crate) fn clear(&self) {
        if let Look::Bar(bar) = &self.look {
            bar.finish_and_clear();
        }
    }

    /// Changes the state, and says a line about it where lines are wanted.
    fn tell(&self, change: impl FnOnce(&mut State) -> Option<String>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let line = change(&mut state);
        match (&self.look, line) {
            (Look::Bar(bar), _) => {
                bar.set_length(state.bytes_total);
                bar.set_position(state.bytes_done);
                bar.set_message(state.layers());
            }
            (Look::Lines, Some(line)) => eprintln!("{line}"),
            (Look::Lines, None) | (Look::Quiet, _) => {}
        }
    }
}

fn bar(target: ProgressDrawTarget) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), target);
    let template = "indexing {bar:24} {bytes}/{total_bytes} {bytes_per_sec} {msg} {eta}";
    bar.set_style(ProgressStyle::with_template(template).expect("the template is constant"));
    bar
}

impl State {
    fn layers(&self) -> String {
        format!("{}/{} layers", self.layers_done, self.layers_total)
    }

    /// A layer that did not fit into the cache is read twice: then there is more of it.
    fn advance(&mut self, count: u64, now: Instant) -> Option<String> {
        self.bytes_done = self.bytes_done.saturating_add(count);
        self.bytes_total = self.bytes_total.max(self.bytes_done);
        if now.saturating_duration_since(self.last_line) < LINE_EVERY {
            return None;
        }
        self.last_line = now;
        let (done, total, layers) = (
            bytes(self.bytes_done),
            bytes(self.bytes_total),
            self.layers(),
        );
        let rate = self.rate(now);
        Some(format!("indexing: {done} of {total}, {layers}{rate}"))
    }

    fn rate(&self, now: Instant) -> String {
        let took = now.saturating_duration_since(self.begun);
        if took < RATE_AFTER {
            return String::new();
        }
        let per_second = u128::from(self.bytes_done) * 1000 / took.as_millis();
        let per_second = bytes(u64::try_from(per_second).unwrap_or(u64::MAX));
        format!(", {per_second}/s")
    }
}

impl Progress for IndexProgress {
    fn begun(&self, layers: usize, compressed_bytes: u64) {
        self.tell(|state| {
            state.layers_total += layers;
            state.bytes_total = state.bytes_total.saturating_add(compressed_bytes);
            let many = (layers > 1).then(|| bytes(compressed_bytes));
            many.map(|size| format!("indexing {layers} layers ({size})"))
        });
    }

    fn layer_started(&self, layer: &str, compressed_bytes: u64) {
        self.tell(|state| {
            state.layers.insert(layer.to_owned(), compressed_bytes);
            let size = bytes(compressed_bytes);
            Some(format!("indexing {} ({size})", short(layer)))
        });
    }

    fn layer_advanced(&self, _layer: &str, count: u64) {
        self.tell(|state| state.advance(count, Instant::now()));
    }

    fn layer_finished(&self, layer: &str) {
        self.tell(|state| {
            state.layers_done += 1;
            let size = bytes(state.layers.remove(layer).unwrap_or_default());
            Some(format!(
                "indexed {} ({size}), {}",
                short(layer),
                state.layers()
            ))
        });
    }
}

/// `sha256:0123456789ab`: enough to tell layers apart.
pub(crate) fn short(digest: &str) -> &str {
    digest.get(..19).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_layers_are_one_amount() {
        let begun = Instant::now();
        let progress = IndexProgress::looking(Look::Bar(bar(ProgressDrawTarget::hidden())), begun);
        progress.begun(2, 3_000_000);
        progress.layer_started("sha256:a", 1_000_000);
        progress.layer_started("sha256:b", 2_000_000);
        progress.layer_advanced("sha256:b", 1_500_000);
        progress.layer_advanced("sha256:a", 1_000_000);
        progress.layer_finished("sha256:a");
        let Look::Bar(bar) = &progress.look else {
            panic!("it has a bar")
        };
        let shown = (bar.position(), bar.length(), bar.message());
        assert_eq!(shown, (2_500_000, Some(3_000_000), "1/2 layers".to_owned()));
        let mut state = progress.state.into_inner().expect("not poisoned");
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(state.advance(0, at(4)), None);
        let line = state.advance(0, at(5));
        let expected = "indexing: 2.5 MB of 3.0 MB, 1/2 layers, 500.0 kB/s";
        assert_eq!(line.as_deref(), Some(expected));
        assert_eq!(state.advance(0, at(9)), None);
        // The second layer once more.
        let line = state.advance(1_000_000, at(10));
        let expected = "indexing: 3.5 MB of 3.5 MB, 1/2 layers, 350.0 kB/s";
        assert_eq!(line.as_deref(), Some(expected));
    }
}
