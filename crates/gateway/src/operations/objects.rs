//! What workspaces upload: the code of their functions, as archives that are not looked into here.
//!
//! Bytes are a file, and what is known of them a row, which is written after the file. An object
//! whose file is gone or of another length is not there, so that it is uploaded again.

use std::fmt;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use control_store::{Object, TokenScope};
use futures::{Stream, StreamExt};
use ids::{ObjectId, WorkspaceId};
use image_store::{ImageStore, IncomingObject, ObjectKey, StoreError};
use reference::Digest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::caller::Caller;
use crate::gateway::Gateway;
use crate::problem::{Kind, Problem};

/// Largest object: what clients pack of a directory, which is code and not data.
pub(crate) const OBJECT_LIMIT_BYTES: u64 = 64 << 20;
/// Uploads at once: each may have as much of the disk as an object before it is refused.
const UPLOADS_LIMIT: usize = 16;
/// How long an upload may pause. A network that is down for longer begins again.
pub(crate) const PAUSE_LIMIT: Duration = Duration::from_secs(30);

/// What an object is called by whoever uploads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectNamed<'a> {
    /// By the digest of its bytes, which must be right.
    Digest(&'a Digest),
    /// By a name of the client's own, such as a hash over something else.
    Name(&'a str),
}

impl fmt::Display for ObjectNamed<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(digest) => digest.fmt(formatter),
            Self::Name(name) => formatter.write_str(name),
        }
    }
}

/// Uploads that are under way.
#[derive(Debug)]
pub(crate) struct Uploads(Arc<Semaphore>);

impl Default for Uploads {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(UPLOADS_LIMIT)))
    }
}

impl Uploads {
    fn begin(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let place = Arc::clone(&self.0).try_acquire_owned();
        place.map_err(|_| {
            let message = format!("{UPLOADS_LIMIT} objects are being uploaded");
            Problem::new(Kind::Busy, message)
        })
    }
}

impl Gateway {
    /// Keeps an object. The same bytes under the same workspace are one object.
    pub async fn put_object<S>(
        &self,
        caller: &Caller,
        named: ObjectNamed<'_>,
        bytes: S,
    ) -> Result<Object, Problem>
    where
        S: Stream<Item = Result<Bytes, Problem>> + Send + Unpin,
    {
        caller.must(TokenScope::Call)?;
        let (workspace, store) = (caller.workspace(), self.indexing().store.clone());
        if let ObjectNamed::Digest(digest) = named {
            check_algorithm(digest)?;
        }
        let _place = self.uploads().begin()?;
        let incoming = receive(&store, bytes).await?;
        let promised = match named {
            ObjectNamed::Digest(digest) => Some(digest.clone()),
            ObjectNamed::Name(_) => None,
        };
        let stored = on_disk(move || store.publish_object(workspace, incoming, promised.as_ref()));
        let stored = stored.await?;
        let records = self.store();
        let object = records.ensure_object(workspace, &stored.digest, stored.size_bytes);
        let object = object.await?;
        if let ObjectNamed::Name(name) = named {
            records.name_object(workspace, name, object.id).await?;
        }
        Ok(object)
    }

    /// An object of the caller's workspace whose bytes are here.
    pub async fn object(&self, caller: &Caller, named: ObjectNamed<'_>) -> Result<Object, Problem> {
        caller.must(TokenScope::Call)?;
        let found = self.find_object(caller.workspace(), named).await?;
        found.ok_or_else(|| no_object(named))
    }

    /// The same, by the id that it was given here.
    pub(crate) async fn object_of_id(
        &self,
        caller: &Caller,
        id: ObjectId,
    ) -> Result<Object, Problem> {
        caller.must(TokenScope::Call)?;
        let found = self.store().object(caller.workspace(), id).await?;
        self.whole(found)?.ok_or_else(|| no_object(id))
    }

    /// The bytes of an object of this workspace.
    pub(crate) async fn open_object(
        &self,
        workspace: WorkspaceId,
        id: ObjectId,
    ) -> Result<OpenObject, Problem> {
        let gone = || {
            Problem::not_found("the function's code is not here any more").hint("define it again")
        };
        let object = self.store().object(workspace, id).await?.ok_or_else(gone)?;
        let store = self.indexing().store.clone();
        let digest = object.digest;
        let opening = on_disk(move || {
            let key = ObjectKey {
                workspace,
                digest: &digest,
            };
            store.object(key)
        });
        Ok(OpenObject {
            file: opening.await?.ok_or_else(gone)?,
            size_bytes: object.size_bytes,
        })
    }

    pub(crate) async fn find_object(
        &self,
        workspace: WorkspaceId,
        named: ObjectNamed<'_>,
    ) -> Result<Option<Object>, Problem> {
        let records = self.store();
        let found = match named {
            ObjectNamed::Digest(digest) => records.object_of_digest(workspace, digest).await?,
            ObjectNamed::Name(name) => records.object_of_name(workspace, name).await?,
        };
        self.whole(found)
    }

    /// The object, if its bytes are here.
    fn whole(&self, found: Option<Object>) -> Result<Option<Object>, Problem> {
        let Some(object) = found else { return Ok(None) };
        let key = ObjectKey {
            workspace: object.workspace,
            digest: &object.digest,
        };
        let size_bytes = self.indexing().store.object_size(key)?;
        Ok((size_bytes == Some(object.size_bytes)).then_some(object))
    }
}

/// An object that is being read.
#[derive(Debug)]
pub(crate) struct OpenObject {
    pub(crate) file: File,
    pub(crate) size_bytes: u64,
}

fn no_object(named: impl fmt::Display) -> Problem {
    Problem::not_own(format!("no object {named} in this workspace")).hint("upload it first")
}

/// All bytes of an object, written and not yet published.
async fn receive<S>(store: &ImageStore, mut bytes: S) -> Result<IncomingObject, Problem>
where
    S: Stream<Item = Result<Bytes, Problem>> + Send + Unpin,
{
    let store = store.clone();
    let mut incoming = on_disk(move || store.new_object(OBJECT_LIMIT_BYTES)).await?;
    loop {
        let next = tokio::time::timeout(PAUSE_LIMIT, bytes.next()).await;
        let paused = |_| Problem::invalid("the upload paused for too long");
        let Some(piece) = next.map_err(paused)? else {
            return Ok(incoming);
        };
        let piece = piece?;
        incoming = on_disk(move || {
            incoming.write(&piece)?;
            Ok(incoming)
        })
        .await?;
    }
}

/// Waits for a disk on a thread that may wait.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| Problem::internal(&error))?;
    Ok(done?)
}

/// There are other algorithms, in which nothing is kept.
fn check_algorithm(digest: &Digest) -> Result<(), Problem> {
    match digest.algorithm() {
        "sha256" => Ok(()),
        _ => Err(Problem::invalid("an object is known by its SHA-256 digest")),
    }
}
