//! `cargo xtask bench image`: indexing, warm starts and reads. Cold starts are `bench coldstart`.

mod index;
mod layers;
mod reads;
mod start;

use super::Part;
use super::lab::Lab;

pub(super) const PARTS: &[Part<Lab>] = &[
    ("index", index::rows),
    ("layers", layers::rows),
    ("start", start::rows),
    ("reads", reads::rows),
];
