//! The root key as the vault sees it: something that wraps and unwraps keys.
//!
//! What holds the root key gives out ids and other keys, never its own bytes. In every command it
//! is a process of its own ([`crate::keeper`]) or a service ([`KeyService`]), which is asked over a
//! network and gives its key to nobody; in this process it is held by the keeper itself and by
//! tests. A keeper has it from a [`KeySource`]: a file of ours, which is made and replaced, or one
//! that was given, which is read. Whether a root key *may* be made is the vault's affair: it asks
//! for a first one only when nothing is sealed.

#[cfg(test)]
mod contract;
mod file;
mod file_holder;
mod given;
mod service;
mod source;
mod two;

use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::error::VaultError;
use crate::keeper::{Keeper, KeeperProgram};
use crate::keys::{Binding, Key, KeyId, Wrapped};
use crate::place::OpeningLock;

pub(crate) use given::open;
use service::ServiceHolder;
pub use service::{KeyService, KeyServiceError, ServiceAnswer, WrapContext};
pub(crate) use source::Holder;
pub use source::{KeySource, SourceError};
use two::TwoHolders;

/// What a holder says, to be awaited.
pub(crate) type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, VaultError>> + Send + 'a>>;

/// What holds the root key. A key is named by its id, since there are two during a rotation. What
/// makes, moves or removes keys is done under the opening lock, and by nobody who does not hold it
/// until it is done: a late removal could hit the key of a rotation that has come since.
pub(crate) trait HoldsRootKey: fmt::Debug + Send + Sync {
    /// Says that a question follows soon, for what takes time to start.
    fn prepare(&self) {}

    /// How long an unwrapped key may be used before it is asked for again; for ever where there is
    /// none.
    fn key_time(&self) -> Option<Duration> {
        None
    }

    /// The root key of a new vault: the one that is there, or else a new one, where the source is
    /// one of ours. A new one is not put inside `data`, the directory of the vault, whose copy must
    /// not hold the key to it.
    fn first<'a>(&'a self, data: &'a Path, lock: &'a OpeningLock) -> Answer<'a, KeyId>;

    /// Whether the key is there; if not, why.
    fn require(&self, root: KeyId) -> Answer<'_, ()>;

    /// Finishes or undoes what a killed rotation left: `root` is the key that counts.
    fn settle<'a>(&'a self, root: KeyId, lock: &'a OpeningLock) -> Answer<'a, ()>;

    /// Makes the key that follows `current`, and keeps a copy of `current` where asked. Both can be
    /// used until [`HoldsRootKey::settle`] is told which of them counts.
    fn begin_rotation<'a>(
        &'a self,
        current: KeyId,
        keep_old: Option<&'a Path>,
        lock: &'a OpeningLock,
    ) -> Answer<'a, KeyId>;

    fn wrap<'a>(&'a self, root: KeyId, binding: Binding<'a>, inner: &'a Key)
    -> Answer<'a, Vec<u8>>;

    /// The wrapped key, or nothing when it does not open.
    fn unwrap<'a>(
        &'a self,
        root: KeyId,
        binding: Binding<'a>,
        wrapped: Wrapped<'a>,
    ) -> Answer<'a, Option<Key>>;
}

/// What holds the root key of a vault. Clones ask the same holder.
#[derive(Clone, Debug)]
pub struct RootKey {
    pub(crate) holder: Arc<dyn HoldsRootKey>,
}

impl RootKey {
    /// The key of this source, which a process of `program` reads and no other. It is started when
    /// the vault is opened.
    pub fn kept_by(program: KeeperProgram, source: &KeySource) -> Self {
        Self {
            holder: Arc::new(Keeper::new(program, source)),
        }
    }

    /// The key that this service keeps.
    pub fn in_service(service: Arc<dyn KeyService>) -> Self {
        Self {
            holder: Arc::new(ServiceHolder::new(service)),
        }
    }

    /// This key, and the one that is to follow it: a rotation goes from the one to the other, and
    /// until both are told apart no more, whichever counts opens the vault.
    #[must_use]
    pub fn followed_by(self, next: Self) -> Self {
        Self {
            holder: Arc::new(TwoHolders::new(self.holder, next.holder)),
        }
    }

    /// The key in this file, read by this process: for tests of other things. The lints refuse it
    /// everywhere else.
    pub fn in_this_process(file: &Path) -> Self {
        Self {
            holder: Arc::new(Holder::new(&KeySource::File(file.to_owned()))),
        }
    }
}
