//! One node: it runs the containers of functions, and carries calls in and results out.
//!
//! ```text
//!   control plane ◀══ one connection ══▶ worker ── table of containers
//!                                          │
//!   start ─▶ plan ─▶ code, indexes ─▶ launch ─▶ conversation ◀── socket ──▶ runner
//!                                          │         ▲
//!                                          └─ outputs, notices, the end
//! ```
//!
//! The connection is given, not made, and who is at its ends is proven before. Invariants: what a
//! runner says counts for its own container and is held against what was asked of it; each
//! container is a task of its own, so that one that floods or stalls delays itself; everything that
//! was started is gone before [`run`] returns, however it returns; secrets are in memory only, and
//! in no log. This crate's closure holds no vault, no token exchange, no broker and no control
//! store.

mod attach;
mod auth;
mod config;
mod container;
mod files;
mod indexes;
mod join;
mod launching;
mod machine;
mod plan;
mod runner;
mod uplink;
mod warming;
mod worker;

#[cfg(test)]
mod tests;

pub use config::{Capacity, Ids, WorkerConfig};
pub use files::FilesError;
pub use join::{JoinError, JoinRequest, join};
pub use worker::{WorkerError, run};
