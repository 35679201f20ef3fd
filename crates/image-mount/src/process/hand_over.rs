//! Giving the mount process what it cannot get itself: the mounted device, its layers' files, and a
//! socket on which it asks for more.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;

use super::{InCache, MountError};
use crate::backing;
use crate::causes::in_one_line;
use crate::descriptors::{
    LayerDescriptors, MAX_LAYERS, send_backing, send_device, send_end, send_layer,
};
use crate::mount::{MountGuard, mount};
use crate::request::LayerRef;

/// Why the process has not got everything.
#[derive(Debug)]
pub(super) enum HandOverError {
    Refused(MountError),
    /// The process is gone.
    Socket,
}

impl From<MountError> for HandOverError {
    fn from(error: MountError) -> Self {
        Self::Refused(error)
    }
}

/// A mount that has been handed over.
#[derive(Debug)]
pub(super) struct HandedOver {
    pub(super) guard: MountGuard,
    /// Our end of the socket for backing files.
    pub(super) backing: OwnedFd,
}

/// Opens the layers' files and sends them, one layer at a time, so that many layers do not need as
/// many descriptors here; then mounts, where there is a mountpoint, and sends the device. The
/// socket is ready for the conversation afterwards.
pub(super) fn hand_over(
    socket: &StdUnixStream,
    mountpoint: Option<&Path>,
    layers: &InCache,
) -> Result<Option<HandedOver>, HandOverError> {
    let gone = |_: io::Error| HandOverError::Socket;
    if layers.layers.len() > MAX_LAYERS {
        let message = format!("{} layers are too many", layers.layers.len());
        return Err(MountError::Request { message }.into());
    }
    for layer in &layers.layers {
        send_layer(socket.as_fd(), &open(layers, layer)?).map_err(gone)?;
    }
    let mut handed_over = None;
    if let Some(mountpoint) = mountpoint {
        let (guard, device) = mount(mountpoint)?;
        let (backing, theirs) = backing::pair().map_err(gone)?;
        send_device(socket.as_fd(), device.as_fd()).map_err(gone)?;
        send_backing(socket.as_fd(), theirs.as_fd()).map_err(gone)?;
        handed_over = Some(HandedOver { guard, backing });
    }
    send_end(socket.as_fd()).map_err(gone)?;
    socket.set_nonblocking(true).map_err(gone)?;
    Ok(handed_over)
}

fn open(layers: &InCache, layer: &LayerRef) -> Result<LayerDescriptors, MountError> {
    let index = open_index(&layer.index_path).map_err(|error| MountError::Index {
        message: format!("{}: {error}", layer.index_path.display()),
    })?;
    let cache = layers.cache.layer_files(&layers.origin, &layer.index);
    let cache = cache.map_err(|error| MountError::Cache {
        message: in_one_line(&error),
    })?;
    Ok(LayerDescriptors { index, cache })
}

/// What is no file may make whoever opens it wait.
fn open_index(path: &Path) -> io::Result<File> {
    if path.symlink_metadata()?.is_file() {
        return File::open(path);
    }
    Err(io::Error::other("it is no file"))
}
