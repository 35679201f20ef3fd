//! From a stored credential to what a registry takes: Basic as it is, or a token of the registry's
//! token service.
//!
//! ```text
//! source(endpoint, identity) -> AuthSource ... auth(repository)
//!      held token still good? ----------------------------------> it
//!      refused lately? -----------------------------------------> the same refusal, unasked
//!      somebody minting already? -------------------------------> wait for that
//!      opened, provider: credential -> pass, who asks
//!      GET /v2/ -> what it demands -> realm allowed? -> token ---> keep it, hand it out
//! ```
//!
//! Invariants: a token is kept under the identity that it was minted for, never under the host
//! alone; one minting at a time for each (identity, host, repository), which the caller who began
//! it cannot take down with itself; only `pull` is ever asked for; a credential goes to its own
//! registry's host, to the token service that belongs to it by the table in `realm`, or to the one
//! that the user allowed, and nowhere else; bodies of token services are never shown. No storage,
//! and no credential that was not handed in.

mod asker;
mod clock;
mod clouds;
mod demand;
mod exchange;
mod flight;
#[doc(hidden)]
pub mod fuzzing;
mod handout;
mod identity;
mod key_names;
mod life;
mod login;
mod mint;
mod node;
mod proof;
mod provider;
mod realm;
mod refused;
mod reply;
mod rung;
mod service;
mod wire;

pub use clock::{Clock, SystemClock};
pub use exchange::{Source, TokenExchange, Vended};
pub use handout::UserPassword;
pub use identity::{Identity, NodeFuture, OpenFuture, OpensCredential, TokenFuture};
pub use key_names::{KeyNamesError, from_key_names};
pub use node::NodeIdentity;
pub use proof::{Proof, Proven};
pub use rung::Rung;
