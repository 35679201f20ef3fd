//! Policy over sealed credentials: which one is for an image, who may use it, what goes out.
//!
//! ```text
//!   login    check against the registry -> seal -> note what was proven
//!   lease    image -> scope -> secret       (nothing opened yet)
//!   auth     current version? -> held token? -> open, mint, drop -> token for one repository
//!                 |                                  |
//!                 removed: revoked at once           bound settings changed: refused
//! ```
//!
//! The only path from a sealed secret to the wire. Invariants: nothing is sealed that a registry
//! has not taken; a secret is opened to mint, or for a program that somebody shares it with, and
//! for nothing else, with its audit row first; the keys by which the installation says who a
//! workspace is are opened to sign, and the secret of the shared cache to share layers; a
//! lease answers for one repository of one registry, by the newest committed version, and by none
//! once the credential is removed; the settings that a credential was sealed with are those that
//! it is sent with. Does not dial itself, and does not wait or retry: what is transient is said to
//! be, and waiting belongs to the reader.

mod binding;
mod blast;
mod broker;
mod check;
mod denial;
mod error;
mod explain;
mod handout;
mod health;
mod issuer;
mod lease;
mod login;
mod named_secret;
mod node_identity;
mod outage;
mod rotate;
mod shared_cache;
mod shred;
mod worker_events;
mod workspace;

pub use binding::BindingError;
pub use blast::{Blast, BlastOf, Exposed};
pub use broker::{Broker, BrokerPaths};
pub use check::CheckReport;
pub use denial::Denial;
pub use error::BrokerError;
pub use explain::{Chosen, Explanation, LostScope};
pub use handout::{Asked, HandedOut};
pub use health::{Health, HealthChange};
pub use issuer::{IssuerDocuments, IssuerReport, KeyLook, KeyReplacement, WhyLeft};
pub use lease::{CredentialChoice, Lease, LeaseReader};
pub use login::{CredentialRow, LoginReport, LoginRequest, LogoutReport, Proven};
pub use named_secret::NamedSecret;
pub use node_identity::NodeGrant;
pub use outage::{NoStanding, OFFLINE_MAX, Standing, is_outage, offline_for};
pub use rotate::{Rotation, Trial};
pub use shred::ShredReport;
pub use token_exchange::{NodeIdentity, Rung};
pub use worker_events::WorkerEvent;
pub use workspace::after_removal_of;

pub use control_store::{ControlStore, GrantOutcome, GrantProof, Recipient, RegistrySettings};
pub use identity_issuer::{
    CONFIGURATION_PATH, IssuerUrl, KEYS_PATH, KeyRow, KeyState, MAX_AGE, ParseIssuerUrlError,
};
pub use vault::{AfterRemoval, SecretState, Stamp, VersionRow};
