//! What the control plane and its workers say to each other, as gRPC made of our own `proto`.
//!
//! ```text
//!   worker                                   control plane
//!     Join   ── a token, once ───────────────▶   unless it is the control plane's own child
//!     Attach ── hello ───────────────────────▶
//!            ◀── start ───────────────────────   a container: image, limits, setup, forecast
//!            ── taken, ready ────────────────▶
//!     Auth   ── what do I read with? ────────▶   asked of the lease, never of a secret
//!     Shared ── where does a layer lie? ─────▶   in the shared cache, with the layer's key
//!     Read   ── bytes of a layer ────────────▶   where nothing less than a password reads them
//!     Code   ── the archive ─────────────────▶
//!     Index  ── how to read a layer ─────────▶   where it is not on the worker's disk
//!            ◀── call ────────────────────────   an attempt and its nonce
//!            ── output, result ──────────────▶
//!            ── touched ─────────────────────▶   what its start has read of the image
//!            ◀── warm ────────────────────────   an image into its cache, and nothing that runs
//!            ── taken, warming ──────────────▶
//!            ◀── stop ────────────────────────
//!            ── ended ───────────────────────▶   nothing of it is left
//! ```
//!
//! Invariants: a worker asks only about containers that were placed on it, by the number of their
//! delivery; what is said of an earlier delivery counts for nothing; each question about what is
//! read with has a number and bytes of its own, so that a second asker is noticed; no message
//! carries a stored registry credential. What carries secrets or users' data has a `Debug` that
//! leaves it out.
//!
//! Deliberately no transport, no identity of workers and no rules about values.

mod redacted;

pub use generated::*;

/// What both sides name first, and refuse when it is not theirs.
pub const VERSION: u32 = 6;

/// The longest message: a call's payload of 32 MiB, and room for all beside it.
pub const MAX_MESSAGE_BYTES: usize = 33 << 20;

/// The longest message of a machine that is no worker yet: a token and a name.
pub const MAX_JOIN_BYTES: usize = 4 << 10;

/// The longest name of a worker: that of a host.
pub const MAX_NAME_BYTES: usize = 253;

/// The longest piece of output, of code, of an index or of a layer in one message, so that others
/// get their turn.
pub const MAX_PIECE_BYTES: usize = 64 << 10;

/// Reads of one container that are under way at once: more than a mount has connections.
pub const MAX_READS_PER_CONTAINER: usize = 16;

/// Reads of one worker that are under way at once; more wait. Its connection has windows for them
/// all, so that those that are not listened to hold nobody up.
pub const MAX_READS_PER_WORKER: u32 = 64;

/// The longest payload of a call, and of its result.
pub const MAX_PAYLOAD_BYTES: usize = 32 << 20;

#[allow(
    clippy::pedantic,
    clippy::large_enum_variant,
    missing_debug_implementations,
    reason = "generated, and not by a reader of our lints"
)]
mod generated {
    tonic::include_proto!("holdfast.worker.v1");
}
