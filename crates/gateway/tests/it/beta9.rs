//! The beta9 face, as a client of it has it: gRPC over the gateway's socket.

mod calls;
mod client;
mod containers;
mod images;
mod objects;
mod refusals;
mod secrets;
mod stubs;
mod tasks;
mod tokens;

pub(crate) use calls::{Returning, Scene, announced, hanging, rest};
pub(crate) use client::Beta9;
