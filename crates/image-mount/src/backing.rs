//! Backing files, over a socket of their own: a file that the kernel reads in place of asking the
//! mount process, which fills it; the parent makes it, and shows it to the kernel, which takes the
//! privilege.
//!
//! ```text
//! child to parent   "w" bytes                   wants a file of that length
//!                   "d" 0, with the FUSE device the file that came last is done
//! parent to child   "f" 0, with the file        it is all zeros
//!                   "i" id                      what the kernel calls it
//!                   "n" 0                       no
//! ```
//!
//! A letter and 8 bytes of a number, little endian, which the socket keeps together. Each question
//! has one answer, and one at a time is asked. The device comes with the question, so that nobody
//! but the mount process holds it for long: when that one ends, its readers fail at once.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::descriptors::{receive, send};

const MESSAGE_BYTES: usize = 9;

const WANTED: u8 = b'w';
const DONE: u8 = b'd';
const FILE: u8 = b'f';
const ID: u8 = b'i';
const NO: u8 = b'n';

/// What a mount process asks.
#[derive(Debug)]
pub(crate) enum Question {
    Wanted { bytes: u64 },
    Done { device: OwnedFd },
}

/// What it is told.
#[derive(Debug)]
pub(crate) enum Answer {
    File(OwnedFd),
    Id(u32),
    No,
}

/// The parent's end, which does not block, and the child's, which does.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (domain, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let (ours, theirs) = socketpair(domain, kind, SocketFlags::CLOEXEC, None)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((ours, theirs))
}

pub(crate) fn ask(socket: BorrowedFd<'_>, question: &Question) -> io::Result<Answer> {
    match question {
        Question::Wanted { bytes } => send_message(socket, WANTED, *bytes, None)?,
        Question::Done { device } => send_message(socket, DONE, 0, Some(device.as_fd()))?,
    }
    let closed = || io::Error::from(io::ErrorKind::UnexpectedEof);
    match receive_message(socket)?.ok_or_else(closed)? {
        (FILE, 0, Some(file)) => Ok(Answer::File(file)),
        (ID, id, None) => u32::try_from(id).map(Answer::Id).map_err(|_| nonsense()),
        (NO, 0, None) => Ok(Answer::No),
        _ => Err(nonsense()),
    }
}

/// The next question, or nothing when the child is gone.
pub(crate) fn hear(socket: BorrowedFd<'_>) -> io::Result<Option<Question>> {
    match receive_message(socket)? {
        Some((WANTED, bytes, None)) => Ok(Some(Question::Wanted { bytes })),
        Some((DONE, 0, Some(device))) => Ok(Some(Question::Done { device })),
        Some(_) => Err(nonsense()),
        None => Ok(None),
    }
}

pub(crate) fn answer(socket: BorrowedFd<'_>, answer: &Answer) -> io::Result<()> {
    match answer {
        Answer::File(file) => send_message(socket, FILE, 0, Some(file.as_fd())),
        Answer::Id(id) => send_message(socket, ID, u64::from(*id), None),
        Answer::No => send_message(socket, NO, 0, None),
    }
}

fn send_message(
    socket: BorrowedFd<'_>,
    kind: u8,
    number: u64,
    file: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut message = [kind; MESSAGE_BYTES];
    message[1..].copy_from_slice(&number.to_le_bytes());
    send(socket, &message, file.as_slice())
}

type Message = (u8, u64, Option<OwnedFd>);

fn receive_message(socket: BorrowedFd<'_>) -> io::Result<Option<Message>> {
    // Room for one byte more, which shows what is too long.
    let mut message = [0; MESSAGE_BYTES + 1];
    let (length, files) = receive(socket, &mut message)?;
    if length == 0 {
        return Ok(None);
    }
    let number = message[1..MESSAGE_BYTES].try_into();
    match (length, files.len(), number) {
        (MESSAGE_BYTES, 0 | 1, Ok(number)) => {
            let number = u64::from_le_bytes(number);
            Ok(Some((message[0], number, files.into_iter().next())))
        }
        _ => Err(nonsense()),
    }
}

fn nonsense() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_arrive_and_nonsense_is_refused() {
        let (ours, theirs) = pair().unwrap();
        let (ours, theirs) = (ours.as_fd(), theirs.as_fd());
        let file = || OwnedFd::from(tempfile::tempfile().unwrap());
        answer(ours, &Answer::File(file())).unwrap();
        answer(ours, &Answer::Id(7)).unwrap();
        answer(ours, &Answer::No).unwrap();
        let bytes = u64::MAX;
        let wanted = || ask(theirs, &Question::Wanted { bytes }).unwrap();
        assert!(matches!(wanted(), Answer::File(_)));
        assert!(matches!(wanted(), Answer::Id(7)));
        let done = ask(theirs, &Question::Done { device: file() }).unwrap();
        assert!(matches!(done, Answer::No));
        for _ in 0..2 {
            let heard = hear(ours).unwrap();
            assert!(matches!(heard, Some(Question::Wanted { bytes: u64::MAX })));
        }
        let heard = hear(ours).unwrap();
        assert!(matches!(heard, Some(Question::Done { .. })));
        assert_eq!(hear(ours).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let held = file();
        let held = held.as_fd();
        for (message, files) in [
            (&b"w\0\0\0\0\0\0\0"[..], 0),
            (b"w\0\0\0\0\0\0\0\0\0", 0),
            (b"w\0\0\0\0\0\0\0\0", 1),
            (b"d\0\0\0\0\0\0\0\0", 0),
            (b"d\0\0\0\0\0\0\0\0", 2),
            (b"d\x01\0\0\0\0\0\0\0", 1),
            (b"x\0\0\0\0\0\0\0\0", 0),
        ] {
            send(theirs, message, &[held; 2][..files]).unwrap();
            assert!(hear(ours).is_err(), "{message:?} and {files}");
        }
    }

    #[test]
    fn who_closes_is_gone() {
        let (ours, theirs) = pair().unwrap();
        drop(theirs);
        assert!(hear(ours.as_fd()).unwrap().is_none());
        let (ours, theirs) = pair().unwrap();
        drop(ours);
        assert!(ask(theirs.as_fd(), &Question::Wanted { bytes: 1 }).is_err());
    }
}
