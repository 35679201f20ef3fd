//! `cargo xtask bench credentials`: sealing, opening and vending, beside a credential helper of
//! Docker and the library that most Go programs pull images with.
//!
//! Ours is measured by `credential_speed`, an example of `broker`, since xtask depends on none of
//! our crates. What is a count and no time ends the bench when it is wrong.

mod helper;
mod keychain;
mod pace;
mod program;
mod sealing;
mod vending;

use std::path::PathBuf;

use anyhow::{Result, bail};

use self::program::Program;
use super::{Options, Part};
use crate::lab::Scratch;
use crate::tree;

pub(super) const PARTS: &[Part<Lab>] = &[
    ("cipher", sealing::cipher),
    ("vault", sealing::vault),
    ("vend", vending::alone),
    ("crowd", vending::crowd),
    ("rotating", vending::rotating),
];

pub(super) struct Lab {
    runs: usize,
    program: Program,
    scratch: Scratch,
}

impl Lab {
    pub(super) fn new(options: &Options) -> Result<Self> {
        if options.binary.is_some() {
            bail!("this bench measures a program of its own: leave --binary out");
        }
        Ok(Self {
            runs: options.runs,
            program: Program::build()?,
            scratch: Scratch::new(&tree::target().join("holdfast-credentials"), "bench")?,
        })
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }
}
