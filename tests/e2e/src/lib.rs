//! What the end-to-end tests share: the real binary in a home of its own, images to run, and a
//! registry to keep them in.
//!
//! Everything here fails loudly: a missing tool, server or privilege is a failed test whose
//! message names `cargo xtask setup`.

pub mod home;
pub mod image;
pub mod memory;

pub use home::{Finished, Home};
