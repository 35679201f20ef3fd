//! Fuzz targets: the readers of what strangers send, each with the invariants that must hold.
//!
//! A target is a plain function of bytes that panics when an invariant is broken. Two things drive
//! it: `cargo test -p fuzz`, which replays `corpus/<target>` and mutates it for a moment, and
//! `cargo xtask fuzz`, which lets libFuzzer look for new coverage for hours. Both take the same
//! corpus and the same `dictionaries/<target>.dict`. Nothing here is shipped.

pub mod challenge;
pub mod credential;
pub mod docker_config;
pub mod elf;
pub mod index;
pub mod layer;
pub mod manifest;
pub mod reference;
pub mod resume;
pub mod shared_object;
pub mod token_reply;
pub mod zstd_blocks;

mod gzip_walk;
mod index_file;
mod text;
mod tree;

/// A reader under test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Names the corpus, the dictionary and the program `fuzz-<name>`.
    pub name: &'static str,
    pub check: fn(&[u8]),
}

/// Every target.
pub const TARGETS: [Target; 12] = [
    target("challenge", challenge::check),
    target("credential", credential::check),
    target("docker-config", docker_config::check),
    target("elf", elf::check),
    target("index", index::check),
    target("layer", layer::check),
    target("manifest", manifest::check),
    target("reference", reference::check),
    target("resume", resume::check),
    target("shared-object", shared_object::check),
    target("token-reply", token_reply::check),
    target("zstd-blocks", zstd_blocks::check),
];

const fn target(name: &'static str, check: fn(&[u8])) -> Target {
    Target { name, check }
}

#[cfg(test)]
mod tests;
