//! Terminals: ours put into raw mode and always given back, and the container's, which the runtime
//! sends through a socket.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::termios::{
    OptionalActions, Termios, Winsize, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};
use tokio::net::UnixStream;

/// What the runtime sends beside the descriptor: the terminal's name, which nobody needs.
const MAX_NAME_BYTES: usize = 4096;

/// Our terminal, passing every key on; restored when dropped.
#[derive(Debug)]
pub(crate) struct RawTerminal {
    terminal: BorrowedFd<'static>,
    before: Termios,
}

impl RawTerminal {
    /// `None` when it is no terminal.
    pub(crate) fn enter(terminal: BorrowedFd<'static>) -> io::Result<Option<Self>> {
        if !isatty(terminal) {
            return Ok(None);
        }
        let before = tcgetattr(terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(terminal, OptionalActions::Now, &raw)?;
        Ok(Some(Self { terminal, before }))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A terminal that is gone needs no settings.
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}

/// The size of a terminal.
pub(crate) fn size_of(terminal: BorrowedFd<'_>) -> Option<Winsize> {
    tcgetwinsize(terminal).ok()
}

/// Gives one terminal the size of another; the programs in it are told by the kernel.
pub(crate) fn resize(from: BorrowedFd<'_>, to: BorrowedFd<'_>) {
    if let Some(size) = size_of(from) {
        // It fails only when the container has ended.
        let _ = tcsetwinsize(to, size);
    }
}

/// The container's terminal, as the runtime sends it.
pub(crate) async fn receive_terminal(socket: &UnixStream) -> io::Result<OwnedFd> {
    loop {
        socket.readable().await?;
        match socket.try_io(tokio::io::Interest::READABLE, || receive_descriptor(socket)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
            Ok(Some(terminal)) if isatty(&terminal) => return Ok(terminal),
            Ok(_) => return Err(io::Error::other("the runtime sent no terminal")),
        }
    }
}

fn receive_descriptor(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut name = vec![0; MAX_NAME_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut name)];
    recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok(descriptors.flatten().next())
}
