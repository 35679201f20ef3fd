//! What a container's program writes to its standard output and error, as the pipes give it.
//!
//! Nothing is read ahead: what is not asked for stays in the pipe, and its writer waits.

use std::io;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use rustix::io::{Errno, ioctl_fionread, retry_on_intr};
use tokio::net::unix::pipe::Receiver;
use worker_protocol::MAX_PIECE_BYTES;
use worker_protocol::output::Stream;

/// One pipe, until its end has been read.
#[derive(Debug)]
pub(crate) struct Pipe {
    stream: Stream,
    receiver: Option<Receiver>,
    buffer: Vec<u8>,
}

impl Pipe {
    /// Takes a reading end that does not block.
    pub(crate) fn new(stream: Stream, end: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            stream,
            receiver: Some(Receiver::from_owned_fd(end)?),
            buffer: vec![0; MAX_PIECE_BYTES],
        })
    }

    pub(crate) fn stream(&self) -> Stream {
        self.stream
    }

    /// The next piece; waits for ever once there is none. May be dropped and called again.
    pub(crate) async fn read(&mut self) -> Bytes {
        while let Some(receiver) = &self.receiver {
            let read = match receiver.readable().await {
                Ok(()) => receiver.try_read(&mut self.buffer),
                Err(error) => Err(error),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => self.receiver = None,
                Ok(length) => return Bytes::copy_from_slice(&self.buffer[..length]),
            }
        }
        std::future::pending().await
    }

    /// What is in the pipe now, without waiting, and no more than that: a program may be writing
    /// all the while. Asks the kernel, since the runtime hears later that there is something.
    pub(crate) fn pending_bytes(&self) -> usize {
        let pending = self.receiver.as_ref().map(ioctl_fionread);
        pending.map_or(0, |pending| {
            usize::try_from(pending.unwrap_or(0)).unwrap_or(usize::MAX)
        })
    }

    /// At most so many bytes that are there already; none when there are none.
    pub(crate) fn take(&mut self, limit_bytes: usize) -> Bytes {
        let Some(receiver) = &self.receiver else {
            return Bytes::new();
        };
        let buffer = &mut self.buffer[..limit_bytes.min(MAX_PIECE_BYTES)];
        match retry_on_intr(|| rustix::io::read(receiver, &mut *buffer)) {
            Ok(length) => Bytes::copy_from_slice(&buffer[..length]),
            Err(Errno::AGAIN) => Bytes::new(),
            Err(_) => {
                self.receiver = None;
                Bytes::new()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn what_is_there_is_taken_without_waiting() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let reader = OwnedFd::from(reader);
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        let mut pipe = Pipe::new(Stream::Stdout, reader).unwrap();
        assert_eq!((pipe.pending_bytes(), &*pipe.take(9)), (0, &b""[..]));
        writer.write_all(b"first second").unwrap();
        assert_eq!(pipe.pending_bytes(), 12);
        assert_eq!(&*pipe.take(6), b"first ");
        assert_eq!(&*pipe.read().await, b"second");
        writer.write_all(b"last").unwrap();
        drop(writer);
        assert_eq!(&*pipe.read().await, b"last");
        let more = tokio::time::timeout(std::time::Duration::ZERO, pipe.read());
        assert!(more.await.is_err());
        assert_eq!(pipe.pending_bytes(), 0);
    }
}
