//! The gateway over its socket, as a client has it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod connections;
mod openapi;
mod secrets;
mod support;
mod tokens;
