//! Two root keys: the one that a vault is sealed under, and the one that is to follow it.
//!
//! A source that we do not write has no room for a second key, so a rotation needs another source.
//! Each is asked about the keys that it has; which of them counts is the vault's affair.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Answer, HoldsRootKey};
use crate::error::VaultError;
use crate::keys::{Binding, Key, KeyId, Wrapped};
use crate::place::OpeningLock;

#[derive(Debug)]
pub(super) struct TwoHolders {
    current: Arc<dyn HoldsRootKey>,
    next: Arc<dyn HoldsRootKey>,
}

impl TwoHolders {
    pub(super) fn new(current: Arc<dyn HoldsRootKey>, next: Arc<dyn HoldsRootKey>) -> Self {
        Self { current, next }
    }

    /// The one that has the key. Where neither has it, what the first says is told: it is the one
    /// that the operator configured.
    async fn of(&self, root: KeyId) -> Result<&dyn HoldsRootKey, VaultError> {
        let Err(error) = self.current.require(root).await else {
            return Ok(&*self.current);
        };
        match self.next.require(root).await {
            Ok(()) => Ok(&*self.next),
            Err(_) => Err(error),
        }
    }
}

impl HoldsRootKey for TwoHolders {
    fn prepare(&self) {
        self.current.prepare();
        self.next.prepare();
    }

    fn key_time(&self) -> Option<Duration> {
        let times = [self.current.key_time(), self.next.key_time()];
        times.into_iter().flatten().min()
    }

    fn first<'a>(&'a self, data: &'a Path, lock: &'a OpeningLock) -> Answer<'a, KeyId> {
        self.current.first(data, lock)
    }

    fn require(&self, root: KeyId) -> Answer<'_, ()> {
        Box::pin(async move { self.of(root).await.map(drop) })
    }

    fn settle<'a>(&'a self, root: KeyId, lock: &'a OpeningLock) -> Answer<'a, ()> {
        Box::pin(async move { self.of(root).await?.settle(root, lock).await })
    }

    fn begin_rotation<'a>(
        &'a self,
        current: KeyId,
        keep_old: Option<&'a Path>,
        lock: &'a OpeningLock,
    ) -> Answer<'a, KeyId> {
        Box::pin(async move {
            if let Some(path) = keep_old {
                // The old key stays where it is; a copy is its owner's to make.
                let path = path.to_owned();
                return Err(VaultError::RootKeyNotOurs { path });
            }
            self.of(current).await?.settle(current, lock).await?;
            let next = self.next.first(lock.data(), lock).await?;
            if next == current {
                let path = PathBuf::from(next.to_string());
                return Err(VaultError::RootKeySame { path });
            }
            Ok(next)
        })
    }

    fn wrap<'a>(
        &'a self,
        root: KeyId,
        binding: Binding<'a>,
        inner: &'a Key,
    ) -> Answer<'a, Vec<u8>> {
        Box::pin(async move { self.of(root).await?.wrap(root, binding, inner).await })
    }

    fn unwrap<'a>(
        &'a self,
        root: KeyId,
        binding: Binding<'a>,
        wrapped: Wrapped<'a>,
    ) -> Answer<'a, Option<Key>> {
        Box::pin(async move { self.of(root).await?.unwrap(root, binding, wrapped).await })
    }
}
