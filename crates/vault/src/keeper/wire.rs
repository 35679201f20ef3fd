//! The protocol between a command and its keeper.
//!
//! ```text
//! frame    4 bytes length, little endian, at most 64 KiB; then that many bytes of JSON
//! JSON     {"version":1,"message":…}
//!
//! command to keeper   {"file":"<path>"}, once, or {"credential":…}, or {"descriptor":…} with the
//!                     open file, which has no answer; then
//!                     {"<name>":{…}}: first, settle, begin-rotation, each of which carries the
//!                     opening lock's file (`SCM_RIGHTS`); require, wrap, unwrap
//! keeper to command   done, id, wrapped, key, unopened, failed: one for each question, in order
//! ```
//!
//! Ids and keys have one length each. Keys cross as hexadecimal, so that no JSON parser copies
//! them to undo an escape, in buffers that do not grow and are zeroed. What does not parse is an
//! error, never a panic; the keeper ends at the first.

mod failure;
mod hex;

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use frames::{LENGTH_BYTES, Protocol};
use ids::WorkspaceId;
use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWriteExt, Interest};

use crate::error::VaultError;
use crate::keys::{Binding, KEY_BYTES, KEY_ID_BYTES, KeyId, KeyPurpose, WRAPPED_BYTES};
use crate::place::parent;
use crate::root_key::KeySource;
use crate::vault::VAULT_ID_BYTES;

pub(super) use failure::WireFailure;
pub(super) use frames::{Frame, WireError};
pub(super) use hex::{Hex, HexPath};

pub(super) const PROTOCOL: Protocol = Protocol {
    version: 1,
    // Two paths and a sentence about one fit several times.
    max_bytes: 64 * 1024,
};

/// A frame with a key in it is much shorter, so that its buffer never grows and leaves no copy.
const KEY_FRAME: usize = 4 * 1024;

/// What a command says before it asks anything: where the root key comes from.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Opening {
    File(HexPath),
    Credential { directory: HexPath, name: String },
    Descriptor(u32),
}

impl Opening {
    pub(super) fn of(source: &KeySource) -> Result<Self, VaultError> {
        Ok(match source {
            KeySource::File(path) => Self::File(HexPath::absolute(path)?),
            KeySource::Credential { name, .. } => Self::Credential {
                directory: HexPath::absolute(parent(&source.path()))?,
                name: name.clone(),
            },
            KeySource::Descriptor(number) => Self::Descriptor(*number),
        })
    }

    pub(super) fn source(self) -> KeySource {
        match self {
            Self::File(path) => KeySource::File(path.path().to_owned()),
            Self::Credential { directory, name } => KeySource::Credential {
                directory: Some(directory.path().to_owned()),
                name,
            },
            Self::Descriptor(number) => KeySource::Descriptor(number),
        }
    }
}

/// What a command asks its keeper.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Request {
    First {
        data: HexPath,
    },
    Require {
        root: Hex<KEY_ID_BYTES>,
    },
    Settle {
        root: Hex<KEY_ID_BYTES>,
    },
    BeginRotation {
        current: Hex<KEY_ID_BYTES>,
        keep_old: Option<HexPath>,
    },
    Wrap {
        root: Hex<KEY_ID_BYTES>,
        binding: WireBinding,
        key: Hex<KEY_BYTES>,
    },
    Unwrap {
        root: Hex<KEY_ID_BYTES>,
        binding: WireBinding,
        key_id: Hex<KEY_ID_BYTES>,
        wrapped: Hex<WRAPPED_BYTES>,
    },
}

/// What the keeper answers.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Reply {
    Done,
    Id { id: Hex<KEY_ID_BYTES> },
    Wrapped { bytes: Hex<WRAPPED_BYTES> },
    Key { key: Hex<KEY_BYTES> },
    Unopened,
    Failed(WireFailure),
}

impl Request {
    /// Whether files are made, moved or removed for it, so that it has to carry the lock.
    pub(super) fn changes_files(&self) -> bool {
        match self {
            Self::First { .. } | Self::Settle { .. } | Self::BeginRotation { .. } => true,
            Self::Require { .. } | Self::Wrap { .. } | Self::Unwrap { .. } => false,
        }
    }
}

impl Reply {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Id { .. } => "id",
            Self::Wrapped { .. } => "wrapped",
            Self::Key { .. } => "key",
            Self::Unopened => "unopened",
            Self::Failed(_) => "failed",
        }
    }
}

/// What a wrapped key is bound to.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct WireBinding {
    vault_id: Hex<VAULT_ID_BYTES>,
    purpose: WirePurpose,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum WirePurpose {
    Workspace(WorkspaceId),
    Audit,
}

impl WireBinding {
    /// Nothing where the id is not that of a vault.
    pub(super) fn of(binding: Binding<'_>) -> Option<Self> {
        Some(Self {
            vault_id: Hex::of(binding.vault_id.try_into().ok()?),
            purpose: match binding.purpose {
                KeyPurpose::Workspace(workspace) => WirePurpose::Workspace(workspace),
                KeyPurpose::Audit => WirePurpose::Audit,
            },
        })
    }

    pub(super) fn binding(&self) -> Binding<'_> {
        Binding {
            vault_id: self.vault_id.0.as_slice(),
            purpose: match self.purpose {
                WirePurpose::Workspace(workspace) => KeyPurpose::Workspace(workspace),
                WirePurpose::Audit => KeyPurpose::Audit,
            },
        }
    }
}

impl From<KeyId> for Hex<KEY_ID_BYTES> {
    fn from(id: KeyId) -> Self {
        Self::of(&id.0)
    }
}

impl From<&Hex<KEY_ID_BYTES>> for KeyId {
    fn from(hex: &Hex<KEY_ID_BYTES>) -> Self {
        Self(*hex.0)
    }
}

/// A message as a frame.
pub(super) fn encode(message: &impl Serialize) -> Result<Frame, WireError> {
    PROTOCOL.encode(message, KEY_FRAME)
}

/// The keeper's side: the next message and the file that came with it, or nothing when the other
/// side has closed between two.
pub(super) fn read<Message: DeserializeOwned>(
    mut socket: &UnixStream,
) -> Result<Option<(Message, Option<OwnedFd>)>, WireError> {
    let mut length = [0; LENGTH_BYTES];
    let (got, file) = receive_with_file(socket.as_fd(), &mut length)?;
    if got == 0 {
        return Ok(None);
    }
    socket.read_exact(&mut length[got..])?;
    let mut json = PROTOCOL.body(length)?;
    socket.read_exact(&mut json)?;
    Ok(Some((PROTOCOL.decode(&json)?, file)))
}

/// The keeper's side.
pub(super) fn write(mut socket: &UnixStream, message: &impl Serialize) -> Result<(), WireError> {
    Ok(socket.write_all(&encode(message)?)?)
}

/// The command's side: a frame, and a file with it.
pub(super) async fn send(
    socket: &mut tokio::net::UnixStream,
    frame: &Frame,
    file: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut sent = 0;
    if let Some(file) = file {
        let send = || send_with_file(socket.as_fd(), frame, file);
        sent = socket.async_io(Interest::WRITABLE, send).await?;
    }
    socket.write_all(&frame[sent..]).await
}

pub(super) fn send_with_file(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    file: BorrowedFd<'_>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files = [file];
    if !control.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let bytes = &[IoSlice::new(bytes)];
    let sent = retry_on_intr(|| sendmsg(socket, bytes, &mut control, SendFlags::NOSIGNAL))?;
    Ok(sent)
}

fn receive_with_file(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = retry_on_intr(|| {
        let buffers = &mut [IoSliceMut::new(bytes)];
        recvmsg(socket, buffers, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut file = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(files) = message {
            file = files.last();
        }
    }
    Ok((received.bytes, file))
}

/// The command's side: the answer that is due.
pub(super) async fn receive<Message: DeserializeOwned>(
    socket: &mut (impl AsyncRead + Unpin),
) -> Result<Message, WireError> {
    let message = PROTOCOL.receive(socket).await?;
    message.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof).into())
}

impl fmt::Debug for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Request(redacted)")
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Reply({}, redacted)", self.name())
    }
}
