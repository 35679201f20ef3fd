//! Sealed, versioned secrets per workspace, the leases on them and the audit log of both.
//!
//! ```text
//!   root key            32 random bytes outside the data directory, in a file or given by a
//!      |                service manager; read by a process of its own, the keeper, which gives
//!      |                out other keys alone. Or a key in a service, which wraps with it
//!      |  wraps (HKDF, AES-256-GCM-SIV; bound to vault, purpose, workspace, both key ids)
//!      +-----------------------------+
//!      v                             v
//!   workspace key                 audit key
//!      |  one per workspace          |  HMAC-SHA-256: the chain of audit rows and its head,
//!      |                             |  and the head of every secret (which version is current)
//!      |  derives (HKDF-SHA-256, 32 bytes of fresh salt, bound to the context)
//!      v
//!   version key         one per sealed version; seals once
//!      |  AES-256-GCM-SIV, bound to format, vault, workspace, secret, name, kind, scope,
//!      v                   version, key id
//!   sealed bytes        in the row of the version (format: the doc of `seal`)
//! ```
//!
//! Invariants: a root key is made for an empty vault only; a secret has its old or its new
//! version at every moment, never neither; what was swapped, renamed, cut, rolled back or sealed
//! under another key is refused by name ([`Damage`]); an opened secret has its audit row on disk
//! before the caller has it. Plaintext is in [`secrecy::SecretString`] and wiped buffers only.
//!
//! Does not know what a credential is, speaks to no network, decides no policy. It cannot see
//! that the whole database was put back to an older copy of itself: for that, note
//! [`AuditHead`]s elsewhere and give them to [`Vault::verify`]. States of versions and the leases
//! themselves are not sealed: they inform people and retire versions, and open nothing.

mod audit;
mod backup;
mod clock;
mod error;
mod exposure;
mod group_commit;
mod keeper;
mod keys;
mod leases;
mod listing;
#[doc(hidden)]
pub mod measuring;
mod place;
mod process;
mod root_key;
mod rotation;
mod seal;
mod secrets;
mod shred;
mod state;
mod vault;
mod verify;
mod workspace_keys;

pub use audit::{AuditAction, AuditHead, AuditRow, NoAuditHead};
pub use backup::BackupReport;
pub use clock::Clock;
pub use error::{Damage, VaultError};
pub use exposure::{EXPOSURES_LIMIT, Exposure, ExposureOf};
pub use keeper::{KeeperError, KeeperProgram, keep_root_key};
pub use leases::{
    CalledOff, Given, HandedOutTo, LEASE_TIME, LeaseReader, LeaseRequest, LeaseRow, Renewal, Stamp,
    Standing,
};
pub use listing::{SecretRow, VersionRow};
pub use place::VaultPlace;
pub use root_key::{
    KeyService, KeyServiceError, KeySource, RootKey, ServiceAnswer, SourceError, WrapContext,
};
pub use rotation::RootRotation;
pub use secrets::{AfterRemoval, NewSecret, OpenedSecret, Put, SealedVersion};
pub use state::{CheckedState, SecretState, VersionState};
pub use vault::{Noted, Vault, installation};
pub use verify::{AuditReport, Finding};
