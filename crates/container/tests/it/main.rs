//! Containers that really run, on the machine that the tests run on.
//!
//! These tests need root, runc, iproute2, nftables, util-linux and busybox-static, and say so
//! loudly when one is missing. Tests of the network make a network of their own in new namespaces,
//! so that they neither see nor change the machine's.
#![allow(clippy::unwrap_used, reason = "a failed test is a panic")]

mod captured;
mod fixture;
mod hostile;
mod isolation;
mod lifetime;
mod network;
mod process;
mod terminal;
mod users;
