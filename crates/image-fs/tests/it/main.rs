//! The lazy filesystem over layers that are made here, from a source in memory that can fail in
//! every way that a registry can.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod backing;
mod cache;
mod faults;
mod fill;
mod haste;
mod layers;
mod link;
mod pins;
mod prefetch;
mod reads;
mod rest;
mod scheduling;
mod source;
mod startup;
mod throughput;
