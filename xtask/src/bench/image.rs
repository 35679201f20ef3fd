//! `cargo xtask bench image`: indexing, warm starts, reads, and cold starts over a narrow link.

mod cold;
mod index;
mod reads;
mod start;

use std::path::PathBuf;

use anyhow::Result;

use super::Options;
use super::ours::Ours;
use super::report::Row;
use crate::lab::{self, Login, PackedImage, Registry, Scratch};
use crate::tree;

/// What the parts of this bench share.
pub(super) struct Lab {
    runs: usize,
    scratch: Scratch,
    registry: Registry,
    login: Login,
    ours: Ours,
    demo: PackedImage,
}

impl Lab {
    fn new(runs: usize, binary: Option<PathBuf>) -> Result<Self> {
        let folder = tree::target().join("holdfast-demo");
        let demo = lab::packed_image(&folder)?;
        let scratch = Scratch::new(&folder, "bench")?;
        let login = Login::generate("alice")?;
        let registry = Registry::start(&scratch.path().join("registry"), &login)?;
        let ours = Ours::new(binary, scratch.path())?;
        Ok(Self {
            runs,
            scratch,
            registry,
            login,
            ours,
            demo,
        })
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }
}

/// A part of the bench by the name that `--only` takes.
type Part = (&'static str, fn(&Lab) -> Result<Vec<Row>>);

const PARTS: &[Part] = &[
    ("index", index::rows),
    ("start", start::rows),
    ("reads", reads::rows),
    ("cold", cold::rows),
];

pub(super) fn run(options: Options) -> Result<Vec<Row>> {
    let (runs, only) = (options.runs, options.only);
    let lab = Lab::new(runs, options.binary)?;
    let mut rows = Vec::new();
    for (name, part) in PARTS
        .iter()
        .filter(|(name, _)| only.as_deref().is_none_or(|only| only == *name))
    {
        println!("measuring {name} ({runs} runs each)");
        rows.extend(part(&lab)?);
    }
    Ok(rows)
}
