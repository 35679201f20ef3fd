//! Having a confined process look at everything of an image that is on this machine.

use std::path::Path;

use image_fs::SpanCache;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::child::Server;
use super::hand_over::{HandOverError, hand_over};
use super::{InCache, MountError, blocking, died};
use crate::request::LayerRef;
use crate::wire::{self, ToChild, ToParent, WireVerdict};

/// What was found of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerVerdict {
    /// Why the index cannot be used, if it cannot.
    pub index_problem: Option<String>,
    pub spans_sound: u64,
    /// Forgotten now, so that they will be fetched again.
    pub spans_damaged: u64,
}

impl From<WireVerdict> for LayerVerdict {
    fn from(wire: WireVerdict) -> Self {
        let problem = wire.index_problem.map(|text| wire::bounded(&text));
        Self {
            index_problem: problem.map(|text| text.escape_debug().to_string()),
            spans_sound: wire.spans_sound,
            spans_damaged: wire.spans_damaged,
        }
    }
}

/// Opens the layer's index and hashes what the cache has of it under `origin`.
pub async fn verify(
    program: &Path,
    layer: LayerRef,
    origin: String,
    cache: SpanCache,
) -> Result<LayerVerdict, MountError> {
    let (mut server, ours) = Server::start(program)?;
    let question = ToChild::Verify {
        layer: (&layer.index).into(),
    };
    let layers = InCache {
        cache,
        origin,
        layers: vec![layer],
    };
    let handed = blocking(move || hand_over(&ours, None, &layers).map(|_| ours)).await?;
    let socket = match handed {
        Ok(socket) => UnixStream::from_std(socket).map_err(died)?,
        Err(HandOverError::Refused(error)) => return Err(error),
        Err(HandOverError::Socket) => return Err(server.death().await),
    };
    match ask(socket, &question).await {
        Some(verdict) => Ok(verdict),
        None => Err(server.death().await),
    }
}

/// The verdict, unless the process ends before it has given one.
async fn ask(mut socket: UnixStream, question: &ToChild) -> Option<LayerVerdict> {
    let frame = wire::encode(question).ok()?;
    socket.write_all(&frame).await.ok()?;
    match wire::receive(&mut socket).await {
        Ok(Some(ToParent::Verified(verdict))) => Some(verdict.into()),
        _ => None,
    }
}
