//! Bringing all of an image into the cache, without mounting it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use image_fs::{ImageFs, ReadError, WholeError};
use tokio::sync::mpsc;

use super::auth::RemoteAuth;
use super::open;
use super::{Event, Parent, Remote, ServeError, refuse, surroundings};
use crate::descriptors::Received;
use crate::request::{MountStats, ServerRequest};
use crate::wire::{ToParent, WireFilled, bounded};

/// Works until it is done, or the parent has enough of it.
pub(super) async fn fill(
    request: ServerRequest,
    files: Received,
    parent: &Parent,
    remote: Remote,
    mut messages: mpsc::Receiver<Event>,
) -> Result<(), ServeError> {
    let auth = Arc::clone(&remote.auth);
    let surroundings = surroundings(parent, remote);
    let bytes_shared = Arc::clone(&surroundings.bytes_shared);
    let filesystem = match open::open(request, files.layers, surroundings).await {
        Ok(filesystem) => filesystem,
        Err(refusal) => return Err(refuse(parent, refusal).await),
    };
    let mut filling = std::pin::pin!(filesystem.bring_whole());
    let filled = loop {
        tokio::select! {
            filled = &mut filling => break filled,
            event = messages.recv() => match event {
                Some(Event::Stats(id)) => {
                    let stats = stats(&filesystem, &auth, &bytes_shared).into();
                    parent.tell(&ToParent::Stats { id, stats }).await;
                }
                Some(Event::Trace(_)) => {}
                Some(Event::Stop | Event::ParentGone) | None => return Ok(()),
            }
        }
    };
    let filled = match filled {
        Ok(()) => WireFilled::Whole,
        Err(WholeError::NoRoom) => WireFilled::NoRoom,
        Err(error) => failed(&error),
    };
    let stats = stats(&filesystem, &auth, &bytes_shared).into();
    parent.tell(&ToParent::Filled { filled, stats }).await;
    Ok(())
}

fn failed(error: &WholeError) -> WireFilled {
    let message = bounded(&error.to_string());
    match error {
        WholeError::Read(ReadError::Corrupt { .. } | ReadError::Internal { .. }) => {
            WireFilled::Damaged { message }
        }
        _ => WireFilled::Unread { message },
    }
}

fn stats(filesystem: &ImageFs, auth: &RemoteAuth, bytes_shared: &AtomicU64) -> MountStats {
    let (spans, present) = filesystem.spans_present();
    MountStats {
        fs: filesystem.stats(),
        spans: spans as u64,
        spans_present: present as u64,
        auth_requests: auth.requests(),
        files_backed: 0,
        bytes_shared: bytes_shared.load(Ordering::Relaxed),
    }
}
