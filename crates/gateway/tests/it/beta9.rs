//! The beta9 face, as a client of it has it: gRPC over the gateway's socket.

mod client;
mod images;
mod objects;
mod refusals;
mod secrets;
mod stubs;
mod tokens;
