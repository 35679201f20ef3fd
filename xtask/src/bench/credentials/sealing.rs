//! Sealing and opening: the cipher by itself, and the vault on a disk.

use anyhow::Result;

use super::Lab;
use super::helper::{self, Helper};
use super::pace::{Paces, number};
use crate::bench::report::{Row, Samples, Target};

/// What sealing and opening a credential may take beside the disk.
const CIPHER_MICROS: f64 = 20.0;

pub(super) fn cipher(lab: &Lab) -> Result<Vec<Row>> {
    let mut ours = Samples::default();
    for _ in 0..lab.runs {
        ours.push(number(&lab.program.cipher()?, "micros")?);
    }
    Ok(vec![Row {
        what: "cipher of a seal and an open, 1 KiB".to_owned(),
        unit: "µs",
        ours,
        peer: Samples::of([CIPHER_MICROS]),
        peer_name: "20 µs".to_owned(),
        target: Target::AtMost(1.0),
    }])
}

pub(super) fn vault(lab: &Lab) -> Result<Vec<Row>> {
    let helper = Helper::new()?;
    let [mut seal_one, mut seal_many] = [Paces::default(), Paces::default()];
    let [mut open_one, mut open_many] = [Paces::default(), Paces::default()];
    let mut theirs = Paces::default();
    for _ in 0..lab.runs {
        let ours = lab.program.run("vault", &lab.folder("vault"), &[])?;
        seal_one.push(&ours["seal_1"])?;
        seal_many.push(&ours["seal_64"])?;
        open_one.push(&ours["open_1"])?;
        open_many.push(&ours["open_64"])?;
        theirs.push_times(&helper.times()?);
    }
    let none = Paces::default;
    Ok([
        seal_one.rows("seal, on disk with its audit row", none(), "-"),
        seal_many.rows("seal, 64 callers", none(), "-"),
        open_one.rows("open, its audit row on disk", theirs, helper::NAME),
        open_many.rows("open, 64 callers", none(), "-"),
    ]
    .into_iter()
    .flatten()
    .collect())
}
