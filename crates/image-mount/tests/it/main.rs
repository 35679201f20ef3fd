//! Images mounted by the kernel, each by a mount process of its own, from a registry in this
//! process. Needs root, `/dev/fuse` and the programs that build images by hand.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod archive;
mod archives;
mod backing;
mod compare;
mod containerd;
mod demo_image;
mod edge_image;
mod fill;
mod foretold;
mod generator;
mod locations;
mod oracle;
mod overlay;
mod patience;
mod process;
mod read_ahead;
mod read_through;
mod role;
mod shared;
mod stacks;
mod support;
mod through_the_kernel;
mod unasked;
