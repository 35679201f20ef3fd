//! What the parts of a bench share: a registry with the demo image, and our side with its state.

use std::path::PathBuf;

use anyhow::Result;

use super::Options;
use super::ours::Ours;
use crate::lab::{self, Login, PackedImage, Registry, Scratch};
use crate::tree;

pub(super) struct Lab {
    pub(super) runs: usize,
    pub(super) registry: Registry,
    pub(super) login: Login,
    pub(super) ours: Ours,
    pub(super) demo: PackedImage,
    scratch: Scratch,
}

impl Lab {
    pub(super) fn new(options: Options) -> Result<Self> {
        let folder = tree::target().join("holdfast-demo");
        let demo = lab::packed_image(&folder)?;
        let scratch = Scratch::new(&folder, "bench")?;
        let login = Login::generate("alice")?;
        let registry = Registry::start(&scratch.path().join("registry"), &login)?;
        let ours = Ours::new(options.binary, scratch.path())?;
        Ok(Self {
            runs: options.runs,
            registry,
            login,
            ours,
            demo,
            scratch,
        })
    }

    pub(super) fn folder(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }
}
