//! The indexes of a container's layers: asked of the control plane where this disk has none, and
//! kept for the containers that come after.
//!
//! What comes is held against the root digest that the container was started with before it is
//! kept; the mount process verifies the rest of it against that root, as it does with any other.

use std::io;

use image_store::{ImageStore, IndexKey, StoreError, Temporary};
use layer_index::{IndexError, IndexSummary};
use tokio::io::AsyncWriteExt;
use tokio::task::spawn_blocking;
use tonic::Status;
use worker_protocol::{Delivery, IndexPiece};

use crate::attach::ControlPlane;
use crate::plan::{Image, Layer};

/// The index of a layer of a hundred gigabytes.
const MAX_INDEX_BYTES: u64 = 4 << 30;

/// Why an index is not here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("the control plane does not give it: {}", .0.code())]
    Refused(#[from] Status),
    #[error("it is longer than any index")]
    TooLong,
    #[error("it is another one")]
    OtherRoot,
    #[error("it cannot be read: {0}")]
    Damaged(#[from] IndexError),
    #[error("cannot keep it: {0}")]
    Io(#[from] io::Error),
    #[error("cannot keep it: {0}")]
    Store(#[from] StoreError),
}

/// Has every index of the image in the store; answers the layer that it failed at.
pub(crate) async fn complete(
    store: &ImageStore,
    image: &Image,
    control_plane: &ControlPlane,
    delivery: &Delivery,
) -> Result<(), (String, FetchError)> {
    for layer in &image.layers {
        let completing = complete_one(store, &image.origin, layer, control_plane, delivery);
        let completed = completing.await;
        completed.map_err(|error| (layer.digest.to_string(), error))?;
    }
    Ok(())
}

async fn complete_one(
    store: &ImageStore,
    origin: &str,
    layer: &Layer,
    control_plane: &ControlPlane,
    delivery: &Delivery,
) -> Result<(), FetchError> {
    let wanted = Wanted {
        store: store.clone(),
        origin: origin.to_owned(),
        digest: layer.digest.to_string(),
        root: layer.index_root,
    };
    let (wanted, file) = blocking(move || wanted.begin()).await?;
    let Some(file) = file else {
        return Ok(());
    };
    let mut writer = tokio::fs::File::from_std(file.file().try_clone()?);
    let mut pieces = control_plane
        .index(delivery.clone(), wanted.digest.clone())
        .await?;
    let mut room_bytes = MAX_INDEX_BYTES;
    while let Some(IndexPiece { data }) = pieces.message().await? {
        let rest = room_bytes.checked_sub(data.len() as u64);
        room_bytes = rest.ok_or(FetchError::TooLong)?;
        writer.write_all(&data).await?;
    }
    writer.flush().await?;
    blocking(move || wanted.keep(file)).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FetchError> + Send + 'static,
) -> Result<T, FetchError> {
    spawn_blocking(work).await.expect("a store does not panic")
}

/// An index that a container needs.
#[derive(Debug)]
struct Wanted {
    store: ImageStore,
    origin: String,
    digest: String,
    root: [u8; 32],
}

impl Wanted {
    /// A file to write it to, where it is not here.
    fn begin(self) -> Result<(Self, Option<Temporary>), FetchError> {
        let found = self.store.index(self.key())?;
        if found.is_some_and(|found| found.root == self.root) {
            return Ok((self, None));
        }
        let file = self.store.new_file()?;
        Ok((self, Some(file)))
    }

    fn keep(self, file: Temporary) -> Result<(), FetchError> {
        if IndexSummary::read(file.file())?.root != self.root {
            return Err(FetchError::OtherRoot);
        }
        self.store.publish_index(self.key(), file)?;
        Ok(())
    }

    fn key(&self) -> IndexKey<'_> {
        IndexKey {
            origin: &self.origin,
            layer: &self.digest,
        }
    }
}
