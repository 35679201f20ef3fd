//! The broker against real registries and one that misbehaves.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod binding;
mod canaries;
mod check;
mod grants;
mod handout;
mod health;
mod holders;
mod leases;
mod load;
mod login;
mod matrix;
mod outage;
mod rotate;
mod scopes;
mod support;
mod through;
