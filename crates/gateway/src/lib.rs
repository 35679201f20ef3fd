//! What users' programs talk to: operations on a workspace, behind thin faces.
//!
//! ```text
//!   HTTP/JSON ──▶ http ──┐
//!                        ├──▶ operations ──▶ broker, control-store, image, image-store
//!   gRPC ───────▶ beta9 ─┘        ▲
//!                        Caller: a token's workspace and scopes
//! ```
//!
//! Invariants: an operation takes a [`Caller`], which only a valid token makes, and reaches what
//! belongs to the caller's workspace; secrets and credentials come in and never go out; whatever a
//! client sent is bounded before it is read and refused when it is not understood; a panic is one
//! request's error. The API document in `docs/openapi.json` is made of the code and held against
//! it. Deliberately no policy over credentials (that is `broker`'s) and no SQL.

mod allowance;
mod beta9;
mod builds;
mod caller;
mod credential_health;
mod denials;
mod dispatch;
mod foreign;
mod gateway;
mod http;
mod issuer_keys;
mod listening;
mod lock;
mod metrics;
mod operations;
mod outage;
mod problem;
mod python;
mod service;
mod shared_cache;
mod token;
mod variables;
mod watch;

pub use caller::Caller;
pub use dispatch::{BoundWorkers, Reached};
pub use foreign::size;
pub use gateway::{Gateway, Parts};
pub use http::{WORKSPACE_HEADER, openapi_document};
pub use listening::ServeError;
pub use operations::images::{
    BuildEvent, BuildRequest, Building, BuiltImage, CredentialGiven, ImageCredential, OpenImage,
    PythonAsked, WarmEvent, WarmRequest, Warmed, Warming,
};
pub use operations::objects::ObjectNamed;
pub use operations::stubs::{ShownStub, StubRequest};
pub use operations::tokens::{MadeToken, TokenRequest};
pub use outage::{NoStand, PATIENCE, PinnedStart, Stand, ask as ask_of_pinned};
pub use problem::{Kind, Problem};
pub use python::PythonProbe;
pub use service::{BoundService, ServerTls, TlsError, TlsFiles};
pub use shared_cache::{
    Bucket, BucketError, BucketKeys, Keys, SharedCacheSettings, Style, check_prefix,
};
