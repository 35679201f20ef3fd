//! What a bench says: a table for people and one JSON document for scripts.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Which side of the target is good.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
    /// Measured to be known; nothing was promised.
    None,
}

impl Target {
    fn holds(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(limit) => ratio >= limit,
            Self::AtMost(limit) => ratio <= limit,
            Self::None => true,
        }
    }

    fn limit(self) -> Option<f64> {
        match self {
            Self::AtLeast(limit) | Self::AtMost(limit) => Some(limit),
            Self::None => None,
        }
    }

    fn show(self) -> String {
        match self {
            Self::AtLeast(limit) => format!(">= {limit}"),
            Self::AtMost(limit) => format!("<= {limit}"),
            Self::None => "-".to_owned(),
        }
    }
}

/// Several runs of one thing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut samples = Self::default();
        values.into_iter().for_each(|value| samples.push(value));
        samples
    }

    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    /// The middle one; the lower of two.
    pub(crate) fn median(&self) -> f64 {
        self.0
            .get(self.0.len().saturating_sub(1) / 2)
            .copied()
            .unwrap_or(f64::NAN)
    }

    /// The one below which so many of a hundred are.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let at = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(at).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn show(&self) -> String {
        let bounds = (self.0.first(), self.0.last());
        let (Some(least), Some(most)) = bounds else {
            return "-".to_owned();
        };
        format!(
            "{} ({}-{})",
            number(self.median()),
            number(*least),
            number(*most)
        )
    }
}

/// One comparison. `ratio` is ours divided by the peer's.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) ours: Samples,
    pub(crate) peer: Samples,
    pub(crate) peer_name: String,
    pub(crate) target: Target,
}

impl Row {
    fn ratio(&self) -> f64 {
        self.ours.median() / self.peer.median()
    }

    fn json(&self) -> Value {
        json!({
            "what": self.what,
            "unit": self.unit,
            "ours": self.ours.median(),
            "peer": self.peer.median(),
            "peer_name": self.peer_name,
            "ratio": self.ratio(),
            "target": self.target.limit(),
            "ok": self.target.holds(self.ratio()),
        })
    }

    fn cells(&self) -> [String; 7] {
        let ratio = match self.ratio() {
            // There is nothing beside it; the name says why.
            ratio if ratio.is_nan() => "-".to_owned(),
            ratio => format!("{ratio:.2}"),
        };
        let ok = match (self.target, self.target.holds(self.ratio())) {
            (Target::None, _) => "",
            (_, true) => "ok",
            (_, false) => "MISSED",
        };
        [
            format!("{} [{}]", self.what, self.unit),
            self.ours.show(),
            self.peer.show(),
            self.peer_name.clone(),
            ratio,
            self.target.show(),
            ok.to_owned(),
        ]
    }
}

/// Prints the table; medians with their range, ours and the peer's from interleaved runs.
pub(crate) fn print(rows: &[Row]) {
    let head = ["what", "ours", "peer", "peer's name", "ratio", "target", ""].map(str::to_owned);
    let table: Vec<[String; 7]> = std::iter::once(head)
        .chain(rows.iter().map(Row::cells))
        .collect();
    let width = |column: usize| {
        table
            .iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..7).map(width).collect();
    println!();
    for row in &table {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        println!("{}", cells.join("  ").trim_end());
    }
}

/// Writes `{"bench","machine","rows"}`.
pub(crate) fn write_json(path: &Path, bench: &str, rows: &[Row]) -> Result<()> {
    let rows: Vec<Value> = rows.iter().map(Row::json).collect();
    let document = json!({"bench": bench, "machine": machine(), "rows": rows});
    std::fs::write(path, format!("{document:#}\n"))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Processor, cores and kernel, for whoever compares two documents.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!(
        "{model}, {cores} cores, Linux {}",
        read("/proc/sys/kernel/osrelease").trim()
    )
}

/// Three significant digits are all that these measurements carry.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Row, Samples, Target};

    #[test]
    fn a_percentile_is_one_of_the_samples() {
        let shown = |samples: &Samples, percent| super::number(samples.percentile(percent));
        let samples = Samples::of((1..=300_u16).map(f64::from));
        assert_eq!(shown(&samples, 50), "150");
        assert_eq!(shown(&samples, 99), "297");
        assert_eq!(shown(&Samples::of([7.0]), 99), "7.00");
        assert!(Samples::of([]).percentile(99).is_nan());
    }

    #[test]
    fn a_row_is_judged_by_its_medians() {
        let row = |target| Row {
            what: "start".to_owned(),
            unit: "s",
            ours: Samples::of([3.0, 1.0, 2.0]),
            peer: Samples::of([4.0, 4.0]),
            peer_name: "peer".to_owned(),
            target,
        };
        for (target, ok) in [
            (Target::AtMost(0.5), true),
            (Target::AtMost(0.4), false),
            (Target::AtLeast(0.5), true),
            (Target::AtLeast(0.6), false),
            (Target::None, true),
        ] {
            let json = row(target).json();
            assert_eq!(json["ratio"], 0.5);
            assert_eq!(json["ok"], ok, "{target:?}");
        }
        assert_eq!(row(Target::None).cells()[1], "2.00 (1.00-3.00)");
        let alone = Row {
            peer: Samples::default(),
            ..row(Target::None)
        };
        assert_eq!(alone.cells()[2..5], ["-", "peer", "-"].map(str::to_owned));
        assert!(alone.json()["ratio"].is_null());
    }
}
