//! What a program says of its pace: `{per_second, p99_micros}`, over several runs.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::bench::report::{Row, Samples, Target};

/// The runs of one contender at one thing.
#[derive(Default)]
pub(super) struct Paces {
    per_second: Samples,
    p99_micros: Samples,
}

impl Paces {
    pub(super) fn push(&mut self, pace: &Value) -> Result<()> {
        self.per_second.push(number(pace, "per_second")?);
        self.p99_micros.push(number(pace, "p99_micros")?);
        Ok(())
    }

    /// One run, by a caller that asked one question after the other.
    pub(super) fn push_times(&mut self, times: &[Duration]) {
        let micros = Samples::of(times.iter().map(|time| time.as_secs_f64() * 1e6));
        let seconds: f64 = times.iter().map(Duration::as_secs_f64).sum();
        self.per_second.push(rate(times.len(), seconds));
        self.p99_micros.push(micros.percentile(99));
    }

    /// Two rows, beside a peer or beside nothing.
    pub(super) fn rows(self, what: &str, peer: Self, peer_name: &str) -> [Row; 2] {
        let row = |what: String, unit, ours, peer| Row {
            what,
            unit,
            ours,
            peer,
            peer_name: peer_name.to_owned(),
            target: Target::None,
        };
        [
            row(what.to_owned(), "1/s", self.per_second, peer.per_second),
            row(
                format!("{what}, p99"),
                "µs",
                self.p99_micros,
                peer.p99_micros,
            ),
        ]
    }
}

pub(super) fn number(document: &Value, field: &str) -> Result<f64> {
    let value = document[field].as_f64();
    value.with_context(|| format!("no {field} was printed: {document}"))
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand questions")]
fn rate(count: usize, seconds: f64) -> f64 {
    count as f64 / seconds
}
