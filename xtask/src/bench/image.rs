//! `cargo xtask bench image`: indexing, warm starts, reads, and cold starts over a narrow link.

mod cold;
mod index;
mod reads;
mod start;

use super::Part;
use super::lab::Lab;

pub(super) const PARTS: &[Part<Lab>] = &[
    ("index", index::rows),
    ("start", start::rows),
    ("reads", reads::rows),
    ("cold", cold::rows),
];
