//! The root key's file, held by the process that reads it.
//!
//! A key that was read is kept until the file holds another one for good: a keeper is asked several
//! times within milliseconds. Its id is computed from its bytes, so that a kept key is never taken
//! for one that has replaced it.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::file::RootKeyFile;
use super::{Answer, HoldsRootKey};
use crate::database::OpeningLock;
use crate::error::VaultError;
use crate::keys::{Binding, Key, KeyId, Wrapped};

/// The key in place and the next one: there are never more at a time.
const HELD_MAX: usize = 2;

#[derive(Debug)]
pub(crate) struct FileHolder {
    file: RootKeyFile,
    held: Mutex<Vec<Key>>,
}

impl FileHolder {
    pub(crate) fn new(file: &Path) -> Self {
        Self {
            file: RootKeyFile::new(file),
            held: Mutex::default(),
        }
    }

    pub(crate) fn first(&self, data: &Path) -> Result<KeyId, VaultError> {
        self.file.refuse_inside(data)?;
        let key = match self.file.read()? {
            Some(key) => key,
            None => self.file.create(&Key::random())?,
        };
        Ok(self.hold(key))
    }

    pub(crate) fn require(&self, root: KeyId) -> Result<(), VaultError> {
        self.key(root).map(drop)
    }

    pub(crate) fn settle(&self, root: KeyId) -> Result<(), VaultError> {
        let key = self.file.settle(root)?;
        self.held().clear();
        self.hold(key);
        Ok(())
    }

    pub(crate) fn begin_rotation(
        &self,
        current: KeyId,
        keep_old: Option<&Path>,
    ) -> Result<KeyId, VaultError> {
        self.settle(current)?;
        let next = self.file.next().create(&Key::random())?;
        if let Some(path) = keep_old {
            self.file.link_to(path)?;
        }
        Ok(self.hold(next))
    }

    pub(crate) fn wrap(
        &self,
        root: KeyId,
        binding: Binding<'_>,
        inner: &Key,
    ) -> Result<Vec<u8>, VaultError> {
        Ok(self.key(root)?.wrap(binding, inner))
    }

    pub(crate) fn unwrap(
        &self,
        root: KeyId,
        binding: Binding<'_>,
        wrapped: Wrapped<'_>,
    ) -> Result<Option<Key>, VaultError> {
        Ok(self.key(root)?.unwrap_key(binding, wrapped).ok())
    }

    fn key(&self, id: KeyId) -> Result<Key, VaultError> {
        let held = self.held().iter().find(|key| key.id() == id).cloned();
        if let Some(key) = held {
            return Ok(key);
        }
        let key = self.file.matching(id)?;
        self.hold(key.clone());
        Ok(key)
    }

    fn hold(&self, key: Key) -> KeyId {
        let id = key.id();
        let mut held = self.held();
        held.retain(|other| other.id() != id);
        if held.len() == HELD_MAX {
            held.remove(0);
        }
        held.push(key);
        id
    }

    fn held(&self) -> MutexGuard<'_, Vec<Key>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file answers at once.
fn at_once<T: Send + 'static>(answer: Result<T, VaultError>) -> Answer<'static, T> {
    Box::pin(std::future::ready(answer))
}

impl HoldsRootKey for FileHolder {
    fn first<'a>(&'a self, data: &'a Path, _lock: &'a OpeningLock) -> Answer<'a, KeyId> {
        at_once(self.first(data))
    }

    fn require(&self, root: KeyId) -> Answer<'_, ()> {
        at_once(self.require(root))
    }

    fn settle<'a>(&'a self, root: KeyId, _lock: &'a OpeningLock) -> Answer<'a, ()> {
        at_once(self.settle(root))
    }

    fn begin_rotation<'a>(
        &'a self,
        current: KeyId,
        keep_old: Option<&'a Path>,
        _lock: &'a OpeningLock,
    ) -> Answer<'a, KeyId> {
        at_once(self.begin_rotation(current, keep_old))
    }

    fn wrap<'a>(
        &'a self,
        root: KeyId,
        binding: Binding<'a>,
        inner: &'a Key,
    ) -> Answer<'a, Vec<u8>> {
        at_once(self.wrap(root, binding, inner))
    }

    fn unwrap<'a>(
        &'a self,
        root: KeyId,
        binding: Binding<'a>,
        wrapped: Wrapped<'a>,
    ) -> Answer<'a, Option<Key>> {
        at_once(self.unwrap(root, binding, wrapped))
    }
}
