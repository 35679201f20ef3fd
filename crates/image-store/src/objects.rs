//! Uploaded objects, by the workspace that uploaded them.
//!
//! Two workspaces that upload the same bytes have two files: knowing a digest finds nothing. The
//! digest is computed while the bytes arrive; under a name that they do not have they are never
//! there. What is no file counts as absent, so that it is uploaded again.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use ids::WorkspaceId;
use reference::Digest;
use sha2::{Digest as _, Sha256};

use crate::temporary::Temporary;
use crate::{ImageStore, StoreError, hex_of, io_error, is_absent, make_directory, remove_whatever};

/// Which object of whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectKey<'a> {
    pub workspace: WorkspaceId,
    pub digest: &'a Digest,
}

/// An object that is being written. Dropping it leaves nothing.
#[derive(Debug)]
pub struct IncomingObject {
    file: Temporary,
    hash: Sha256,
    size_bytes: u64,
    limit_bytes: u64,
}

/// An object that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredObject {
    pub digest: Digest,
    pub size_bytes: u64,
}

impl IncomingObject {
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let limit_bytes = self.limit_bytes;
        let size_bytes = self.size_bytes.saturating_add(bytes.len() as u64);
        if size_bytes > limit_bytes {
            return Err(StoreError::TooLarge { limit_bytes });
        }
        let written = self.file.write_all(bytes);
        written.map_err(|error| io_error(self.file.path(), error))?;
        self.hash.update(bytes);
        self.size_bytes = size_bytes;
        Ok(())
    }
}

impl ImageStore {
    /// An object to be written, of no more than so many bytes.
    pub fn new_object(&self, limit_bytes: u64) -> Result<IncomingObject, StoreError> {
        Ok(IncomingObject {
            file: self.new_file()?,
            hash: Sha256::new(),
            size_bytes: 0,
            limit_bytes,
        })
    }

    /// Publishes an object that has been written, if it is what was promised, where anything was.
    pub fn publish_object(
        &self,
        workspace: WorkspaceId,
        object: IncomingObject,
        promised: Option<&Digest>,
    ) -> Result<StoredObject, StoreError> {
        let digest = Digest::sha256(object.hash.finalize().into());
        if let Some(expected) = promised
            && *expected != digest
        {
            return Err(StoreError::OtherObject {
                expected: expected.clone(),
                found: digest,
            });
        }
        let key = ObjectKey {
            workspace,
            digest: &digest,
        };
        let path = self.object_path(key)?;
        make_directory(path.parent().expect("an object has a directory"))?;
        if path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
            remove_whatever(&path).map_err(|error| io_error(&path, error))?;
        }
        let published = object.file.publish(&path);
        published.map_err(|error| io_error(&path, error))?;
        Ok(StoredObject {
            digest,
            size_bytes: object.size_bytes,
        })
    }

    /// An object's bytes, if they are here.
    pub fn object(&self, key: ObjectKey<'_>) -> Result<Option<File>, StoreError> {
        let path = self.object_path(key)?;
        let failed = |error| io_error(&path, error);
        match path.symlink_metadata() {
            Ok(found) if found.is_file() => File::open(&path).map(Some).map_err(failed),
            Ok(_) => Ok(None),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// How many bytes of an object are here, if any.
    pub fn object_size(&self, key: ObjectKey<'_>) -> Result<Option<u64>, StoreError> {
        let path = self.object_path(key)?;
        match path.symlink_metadata() {
            Ok(found) => Ok(found.is_file().then_some(found.len())),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(io_error(&path, error)),
        }
    }

    fn object_path(&self, key: ObjectKey<'_>) -> Result<PathBuf, StoreError> {
        Ok(self
            .directory
            .join("objects")
            .join(key.workspace.to_string())
            .join("sha256")
            .join(hex_of(key.digest.as_str())?))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    fn digest_of(bytes: &[u8]) -> Digest {
        Digest::sha256(Sha256::digest(bytes).into())
    }

    fn upload(
        store: &ImageStore,
        workspace: WorkspaceId,
        promised: Option<&Digest>,
    ) -> Result<StoredObject, StoreError> {
        let mut object = store.new_object(8)?;
        object.write(b"one")?;
        object.write(b" two")?;
        store.publish_object(workspace, object, promised)
    }

    fn temporary_files(store: &Path) -> usize {
        fs::read_dir(store.join("tmp")).unwrap().count()
    }

    #[test]
    fn an_object_is_there_for_its_workspace_once_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let store = ImageStore::open(directory.path()).unwrap();
        let (ours, theirs) = (WorkspaceId::new(), WorkspaceId::new());
        let digest = digest_of(b"one two");
        let key = |workspace| ObjectKey {
            workspace,
            digest: &digest,
        };
        assert_eq!(store.object_size(key(ours)).unwrap(), None);
        assert!(store.object(key(ours)).unwrap().is_none());
        for promised in [None, Some(&digest)] {
            let stored = upload(&store, ours, promised).unwrap();
            assert_eq!((&stored.digest, stored.size_bytes), (&digest, 7));
            let mut text = String::new();
            let mut file = store.object(key(ours)).unwrap().unwrap();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "one two");
            let mode = file.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            assert_eq!(store.object_size(key(ours)).unwrap(), Some(7));
            assert_eq!(store.object_size(key(theirs)).unwrap(), None);
            assert_eq!(temporary_files(directory.path()), 0);
        }
        let objects = directory.path().join("objects");
        let mode = fs::metadata(objects).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn what_is_not_what_was_promised_is_nowhere() {
        let directory = tempfile::tempdir().unwrap();
        let store = ImageStore::open(directory.path()).unwrap();
        let (ours, other) = (WorkspaceId::new(), digest_of(b"other"));
        let error = upload(&store, ours, Some(&other)).unwrap_err();
        assert!(matches!(error, StoreError::OtherObject { .. }), "{error}");
        for digest in [&other, &digest_of(b"one two")] {
            let key = ObjectKey {
                workspace: ours,
                digest,
            };
            assert_eq!(store.object_size(key).unwrap(), None);
        }
        let mut long = store.new_object(8).unwrap();
        long.write(b"12345678").unwrap();
        let error = long.write(b"9").unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { limit_bytes: 8 }));
        drop(long);
        assert_eq!(temporary_files(directory.path()), 0);
    }

    #[test]
    fn what_is_no_file_is_absent_and_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let store = ImageStore::open(directory.path()).unwrap();
        let (ours, digest) = (WorkspaceId::new(), digest_of(b"one two"));
        let key = ObjectKey {
            workspace: ours,
            digest: &digest,
        };
        let path = store.object_path(key).unwrap();
        fs::create_dir_all(path.join("sub")).unwrap();
        assert_eq!(store.object_size(key).unwrap(), None);
        assert!(store.object(key).unwrap().is_none());
        upload(&store, ours, None).unwrap();
        assert_eq!(store.object_size(key).unwrap(), Some(7));
    }
}
