//! Open files on their way to the mount process, which may open none itself.
//!
//! ```text
//! "m"  with 1 file    the FUSE device of the mount
//! "b"  with 1 file    a socket of its own for backing files, see `backing`
//! "l"  with 4 files   a layer: its index; data, map and lock of its part of the cache
//! "e"  with none      the end
//! ```
//!
//! Each is one byte on the control socket and the files in its ancillary data (`SCM_RIGHTS`), so
//! that what arrives is owned and needs no number that both sides agree on.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use image_fs::LayerFiles;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

const DEVICE: u8 = b'm';
const BACKING: u8 = b'b';
const LAYER: u8 = b'l';
const END: u8 = b'e';

/// Files of one layer.
const PER_LAYER: usize = 4;

/// Layers whose files are taken: more than an image may have.
pub(crate) const MAX_LAYERS: usize = 1024;

/// A layer's files, to send or received.
#[derive(Debug)]
pub(crate) struct LayerDescriptors {
    pub(crate) index: File,
    pub(crate) cache: LayerFiles,
}

/// All that a mount process gets.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) device: Option<OwnedFd>,
    pub(crate) backing: Option<OwnedFd>,
    pub(crate) layers: Vec<LayerDescriptors>,
}

pub(crate) fn send_device(socket: BorrowedFd<'_>, device: BorrowedFd<'_>) -> io::Result<()> {
    send(socket, &[DEVICE], &[device])
}

pub(crate) fn send_backing(socket: BorrowedFd<'_>, backing: BorrowedFd<'_>) -> io::Result<()> {
    send(socket, &[BACKING], &[backing])
}

pub(crate) fn send_layer(socket: BorrowedFd<'_>, layer: &LayerDescriptors) -> io::Result<()> {
    let LayerDescriptors { index, cache } = layer;
    let files = [index, &cache.data, &cache.map, &cache.usage];
    send(socket, &[LAYER], &files.map(AsFd::as_fd))
}

pub(crate) fn send_end(socket: BorrowedFd<'_>) -> io::Result<()> {
    send(socket, &[END], &[])
}

/// All of the bytes at once, and at most four files.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    files: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PER_LAYER))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let sent = rustix::io::retry_on_intr(|| {
        sendmsg(
            socket,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
    })?;
    if sent == bytes.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

/// Everything up to the end. What is out of order is an error.
pub(crate) fn receive_all(socket: BorrowedFd<'_>) -> io::Result<Received> {
    let mut received = Received::default();
    loop {
        let mut kind = [0];
        let files = match receive(socket, &mut kind)? {
            (0, _) => return Err(io::ErrorKind::UnexpectedEof.into()),
            (_, files) => files,
        };
        match (kind[0], files.len()) {
            (DEVICE, 1) if received.device.is_none() => {
                received.device = files.into_iter().next();
            }
            (BACKING, 1) if received.backing.is_none() => {
                received.backing = files.into_iter().next();
            }
            (LAYER, PER_LAYER) if received.layers.len() < MAX_LAYERS => {
                received.layers.push(layer(files)?);
            }
            (END, 0) => return Ok(received),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

fn layer(files: Vec<OwnedFd>) -> io::Result<LayerDescriptors> {
    let files: [OwnedFd; PER_LAYER] = files
        .try_into()
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    let [index, data, map, usage] = files.map(File::from);
    let cache = LayerFiles { data, map, usage };
    Ok(LayerDescriptors { index, cache })
}

/// Bytes up to the length of the buffer, how many, and the files beside them, of which more than
/// four are closed. No bytes: the other side has closed.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PER_LAYER))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = rustix::io::retry_on_intr(|| {
        let buffers = &mut [IoSliceMut::new(&mut *bytes)];
        recvmsg(socket, buffers, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut files = Vec::new();
    for ancillary in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = ancillary {
            files.extend(rights);
        }
    }
    Ok((message.bytes, files))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn files_arrive_in_order_and_nonsense_is_refused() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let file = || tempfile::tempfile().expect("a file");
        let layer = LayerDescriptors {
            index: file(),
            cache: LayerFiles {
                data: file(),
                map: file(),
                usage: file(),
            },
        };
        send_device(ours.as_fd(), file().as_fd()).expect("sends");
        for _ in 0..3 {
            send_layer(ours.as_fd(), &layer).expect("sends");
        }
        send_end(ours.as_fd()).expect("sends");
        let received = receive_all(theirs.as_fd()).expect("receives");
        assert!(received.device.is_some());
        assert_eq!(received.layers.len(), 3);
        for (kind, files) in [(b'x', 0), (DEVICE, 2), (LAYER, 1), (END, 1)] {
            let held: Vec<_> = (0..files).map(|_| file()).collect();
            let held: Vec<_> = held.iter().map(AsFd::as_fd).collect();
            send(ours.as_fd(), &[kind], &held).expect("sends");
            assert!(receive_all(theirs.as_fd()).is_err(), "{kind}");
        }
        drop(ours);
        assert!(receive_all(theirs.as_fd()).is_err(), "closed");
    }
}
