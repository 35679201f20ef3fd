//! The gateway over its socket, as a client has it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod beta9;
mod builds;
mod calling_off;
mod calls;
mod connections;
mod denials;
mod indexer;
mod issuer;
mod metrics;
mod objects;
mod open_images;
mod openapi;
mod operators;
mod probe;
mod remote_workers;
mod secrets;
mod stubs;
mod support;
mod tls;
mod tokens;
mod worker;
