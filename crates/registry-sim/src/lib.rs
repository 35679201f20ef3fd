//! Registries for tests: one that misbehaves on command, and the real one of Debian.
//!
//! [`RegistrySim`] runs in the test's process, on loopback ports, and does what a real registry
//! will not do when asked: expire tokens at once, send blobs to signed URLs on another host, answer
//! 429, break off in mid-body. Each of its hosts counts the requests and every byte of credential
//! that arrives. An [`EcrApi`] gives out ECR's tokens for AWS keys, an [`StsApi`] the keys of a
//! role, a [`GoogleApi`] Google's for keys of service accounts and for tokens of other issuers, an
//! [`AzureApi`] those of a directory of Azure, all three also for tokens of a [`TrustedIssuer`],
//! whose keys they fetch; a [`TransitApi`] wraps keys; a [`Switchboard`] is the proxy by which
//! these are reached under the names of the real ones. A [`RawHost`] writes any bytes at all, where
//! even that is too well-behaved. The module [`debian`] starts the `docker-registry` of Debian in
//! its two login modes, with its blobs in a directory or in a [`Bucket`] of [`Moto`].
//!
//! For tests and demonstrations only: it panics where a program would return errors.

mod answer;
mod authority;
mod aws_signature;
mod azure;
mod cloud_fault;
mod counters;
pub mod debian;
mod ecr;
mod faults;
mod gate;
mod google;
mod host;
mod image;
mod issuer_trust;
mod listener;
mod metadata;
mod moto;
mod raw;
mod realm;
mod registry;
mod sim;
mod storage;
mod store;
mod sts;
mod switchboard;
mod tokens;
mod transit;

pub use authority::{Authority, ServerPem};
pub use azure::{AzureApi, AzureExchange, AzurePrincipal, unsigned_token};
pub use cloud_fault::CloudFault;
pub use counters::{Counts, HostCounter};
pub use ecr::{EcrApi, EcrFault};
pub use faults::Faults;
pub use google::GoogleApi;
pub use image::{Blob, Entry, Image, ImageBuilder, Layer};
pub use issuer_trust::{TrustedIssuer, signed_claims};
pub use metadata::MetadataApi;
pub use moto::{Bucket, Moto};
pub use raw::{RawHost, RawRequest, Step};
pub use sim::{Login, Options, Realm, RegistrySim};
pub use sts::{Assumed, StsApi};
pub use switchboard::Switchboard;
pub use transit::{TransitApi, TransitFault};
