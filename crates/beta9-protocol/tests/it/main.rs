//! The crate as its users see it: calls between its two ends, and what the real clients say.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod calls;
mod client;
mod facts;
