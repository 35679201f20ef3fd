//! Root keys that a service keeps: AWS KMS, and the transit engine of `HashiCorp` Vault and
//! `OpenBao`.
//!
//! ```text
//!   vault                      key-service                        the service
//!   a workspace's key  ----->  wrap, unwrap, bound to   ----->    the root key, which
//!   (in memory)        <-----  its context              <-----    never comes here
//! ```
//!
//! Owns how a source of a root key is written, how each service is asked, and where the credential
//! for it is read. Invariants: a credential comes from the file or the credential of systemd that
//! the operator named, is read anew for each question and shown nowhere; no key is made in a
//! service, and none in place of one that is missing; hosts are the operator's or come from a
//! table; answers are bounded, and asking ends in a stated time. What an answer may be taken for is
//! judged by `vault`.

mod answer;
mod asking;
mod aws;
mod given;
mod source;
mod transit;

pub use aws::{KmsKey, KmsSettings};
pub use given::{Given, GivenError};
pub use source::{RootKeySource, ServiceSettings, SourceError};
pub use transit::{TransitKey, TransitSettings};
