//! What came of the turns: a table of contenders, rows that compare ours with each, and a plot.

use std::path::Path;

use anyhow::{Context, Result};

use super::plot::{Bar, Phase, Plot};
use super::turn::Measured;
use super::{Kind, Task};
use crate::bench::report::{Row, Samples, Target};

/// One of those that take turns.
pub(super) struct Contender {
    pub(super) kind: Kind,
    pub(super) name: &'static str,
    pub(super) task: Task,
    /// Why it takes none.
    pub(super) missing: Option<String>,
    pub(super) turns: Vec<Measured>,
}

/// What was measured, if it was.
type Of = fn(&Measured) -> Option<f64>;

type Column = (&'static str, &'static str, Of);

const SECONDS: Of = |turn| Some(turn.seconds);

const COLUMNS: &[Column] = &[
    ("first output", "s", SECONDS),
    ("came down", "MB", |turn| Some(turn.megabytes)),
    ("requests", "count", |turn| Some(turn.requests)),
    ("connections", "count", |turn| Some(turn.connections)),
    ("processor", "s", |turn| Some(turn.cpu_seconds)),
    ("peak memory", "MB", |turn| Some(turn.peak_megabytes)),
    ("p99 read stall", "ms", |turn| turn.stall_p99_ms),
];

impl Contender {
    pub(super) fn new(kind: Kind, name: &'static str, task: Task) -> Self {
        Self {
            kind,
            name,
            task,
            missing: None,
            turns: Vec::new(),
        }
    }

    pub(super) fn void_all(&mut self, why: &str) {
        for turn in &mut self.turns {
            turn.void.get_or_insert_with(|| why.to_owned());
        }
    }

    /// The turns that count: those that are not void, or all when none is left.
    fn counting(&self) -> impl Iterator<Item = &Measured> {
        let all = self.void().is_some();
        self.turns
            .iter()
            .filter(move |turn| all || turn.void.is_none())
    }

    /// Why nothing of it counts.
    fn void(&self) -> Option<&str> {
        let all = self.turns.iter().all(|turn| turn.void.is_some());
        let last = self.turns.last().filter(|_| all)?;
        last.void.as_deref()
    }

    fn samples(&self, of: Of) -> Samples {
        Samples::of(self.counting().filter_map(of))
    }

    /// The phases of the turn in the middle.
    fn phases(&self) -> &[Phase] {
        let median = self.samples(SECONDS).median();
        let near = |turn: &&Measured| (turn.seconds - median).abs();
        let turn = self.counting().min_by(|a, b| near(a).total_cmp(&near(b)));
        turn.map_or(&[], |turn| &turn.phases)
    }

    fn remark(&self) -> String {
        let void = self.turns.iter().filter(|turn| turn.void.is_some()).count();
        match (&self.missing, self.void()) {
            (Some(why), _) => format!("not measured: {why}"),
            (None, Some(why)) => format!("VOID: {why}"),
            (None, None) if void > 0 => format!("{void} of {} turns void", self.turns.len()),
            (None, None) => String::new(),
        }
    }
}

/// One turn for somebody who watches.
pub(super) fn line(turn: &Measured) -> String {
    let void = turn.void.as_ref().map(|why| format!(" (void: {why})"));
    format!(
        "{:.2} s, {:.1} MB, {:.2} s of processors{}",
        turn.seconds,
        turn.megabytes,
        turn.cpu_seconds,
        void.unwrap_or_default()
    )
}

/// Prints a line for each contender; medians with their range.
pub(super) fn print(contenders: &[Contender]) {
    let mut table = vec![vec![String::new()]];
    table[0].extend(
        COLUMNS
            .iter()
            .map(|(name, unit, _)| format!("{name} {unit}")),
    );
    for contender in contenders {
        let mut cells = vec![contender.name.to_owned()];
        cells.extend(
            COLUMNS
                .iter()
                .map(|(_, _, of)| contender.samples(*of).show()),
        );
        cells.push(contender.remark());
        table.push(cells);
    }
    let width = |column: usize| {
        let cells = table.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..=COLUMNS.len()).map(width).collect();
    println!();
    for row in &table {
        let padded = row.iter().enumerate().map(|(column, cell)| {
            let width = widths.get(column).copied().unwrap_or_default();
            format!("{cell:width$}")
        });
        println!("{}", padded.collect::<Vec<_>>().join("  ").trim_end());
    }
}

/// Ours beside each peer. What was promised is about seconds; the rest is to be known.
pub(super) fn compare(contenders: &[Contender], link: &str) -> Vec<Row> {
    let of = |kind: Kind| contenders.iter().find(|contender| contender.kind == kind);
    let pairs = [
        (Kind::Cold, Kind::Stargz, 1.0),
        (Kind::Cold, Kind::Containerd, 1.0),
        (Kind::Cold, Kind::Skopeo, 1.0),
        (Kind::Traced, Kind::Cold, 1.0),
        (Kind::Traced, Kind::Stargz, 1.0),
        (Kind::Traced, Kind::Containerd, 0.2),
        (Kind::Traced, Kind::Skopeo, 0.2),
        (Kind::First, Kind::Containerd, 0.8),
        (Kind::First, Kind::Skopeo, 0.8),
        (Kind::Warm, Kind::Cold, 1.0),
        (Kind::Whole, Kind::Containerd, 1.1),
        (Kind::Whole, Kind::Skopeo, 1.1),
    ];
    let mut rows = Vec::new();
    for (ours, peer, limit) in pairs {
        let (Some(ours), Some(peer)) = (of(ours), of(peer)) else {
            continue;
        };
        for (number, column) in COLUMNS.iter().enumerate() {
            let target = match number {
                0 => Target::AtMost(limit),
                _ => Target::None,
            };
            rows.push(row(ours, peer, link, column, target));
        }
    }
    rows
}

fn row(ours: &Contender, peer: &Contender, link: &str, column: &Column, target: Target) -> Row {
    let (name, unit, of) = column;
    // Why is in the table of contenders.
    let remarks = [ours, peer].map(|one| one.void().map_or("", |_| ", VOID"));
    let missing = peer.missing.as_ref();
    Row {
        what: format!("{}, {link}: {name}{}", ours.name, remarks[0]),
        unit,
        ours: ours.samples(*of),
        peer: peer.samples(*of),
        peer_name: match missing {
            Some(why) => format!("{}, not measured: {why}", peer.name),
            None => format!("{}{}", peer.name, remarks[1]),
        },
        // What is void or missing neither holds nor breaks a promise.
        target: match (ours.void(), peer.void(), missing) {
            (None, None, None) => target,
            _ => Target::None,
        },
    }
}

/// Writes bars of all contenders and the waterfall of our cold start.
pub(super) fn plot(contenders: &[Contender], title: &str, path: &Path) -> Result<()> {
    let bars = contenders.iter().filter(|one| !one.turns.is_empty());
    let bars = bars.map(|one| {
        let samples = one.samples(SECONDS);
        Bar {
            name: one.name.to_owned(),
            median: samples.median(),
            range: (samples.percentile(0), samples.percentile(100)),
            remark: one.remark(),
        }
    });
    let cold = contenders.iter().find(|one| one.kind == Kind::Cold);
    let plot = Plot {
        title: format!("Seconds to first output: {title}"),
        bars: bars.collect(),
        phases: cold.map_or_else(Vec::new, |one| one.phases().to_vec()),
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, plot.svg()).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::super::IMPORT;
    use super::{Contender, Kind, Measured, SECONDS, compare};

    fn contender(kind: Kind, turns: &[(f64, Option<&str>)]) -> Contender {
        let mut contender = Contender::new(kind, "somebody", IMPORT);
        contender.turns = turns
            .iter()
            .map(|(seconds, void)| Measured {
                seconds: *seconds,
                void: void.map(str::to_owned),
                ..Measured::default()
            })
            .collect();
        contender
    }

    #[test]
    fn void_turns_do_not_count_while_others_are_left() {
        let some = contender(Kind::Cold, &[(1.0, None), (9.0, Some("late")), (1.0, None)]);
        assert_eq!(some.samples(SECONDS).show(), "1.00 (1.00-1.00)");
        assert_eq!(some.remark(), "1 of 3 turns void");
        let all = contender(Kind::Cold, &[(2.0, Some("late")), (4.0, Some("late"))]);
        assert_eq!(all.samples(SECONDS).show(), "2.00 (2.00-4.00)");
        assert_eq!(all.remark(), "VOID: late");
        assert_eq!(contender(Kind::Cold, &[]).remark(), "");
    }

    #[test]
    fn a_void_row_says_so_and_holds_no_promise() {
        let ours = || contender(Kind::Cold, &[(1.0, None)]);
        let rows = compare(
            &[ours(), contender(Kind::Containerd, &[(0.5, None)])],
            "link",
        );
        assert!(
            format!("{:?}", rows[0].target).contains("AtMost"),
            "{rows:?}"
        );
        let late = contender(Kind::Containerd, &[(0.5, Some("late"))]);
        let rows = compare(&[ours(), late], "link");
        assert!(rows[0].peer_name.ends_with(", VOID"), "{rows:?}");
        assert!(format!("{:?}", rows[0].target).contains("None"), "{rows:?}");
    }
}
