//! The root key's file, held by the process that reads it.
//!
//! A key that was read is kept until the file holds another one for good: a keeper is asked several
//! times within milliseconds. Its id is computed from its bytes, so that a kept key is never taken
//! for one that has replaced it.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::file::RootKeyFile;
use crate::error::VaultError;
use crate::keys::{Key, KeyId};

/// The key in place and the next one: there are never more at a time.
const HELD_MAX: usize = 2;

#[derive(Debug)]
pub(crate) struct FileHolder {
    file: RootKeyFile,
    held: Mutex<Vec<Key>>,
}

impl FileHolder {
    pub(super) fn new(file: &Path) -> Self {
        Self {
            file: RootKeyFile::new(file),
            held: Mutex::default(),
        }
    }

    pub(super) fn first(&self, data: &Path) -> Result<KeyId, VaultError> {
        self.file.refuse_inside(data)?;
        let key = match self.file.read()? {
            Some(key) => key,
            None => self.file.create(&Key::random())?,
        };
        Ok(self.hold(key))
    }

    pub(super) fn settle(&self, root: KeyId) -> Result<(), VaultError> {
        let key = self.file.settle(root)?;
        self.held().clear();
        self.hold(key);
        Ok(())
    }

    pub(super) fn begin_rotation(
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

    pub(super) fn key(&self, id: KeyId) -> Result<Key, VaultError> {
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
