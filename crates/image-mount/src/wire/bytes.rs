//! The bytes of reads, as they are written: not as JSON, which would make two of each.

use bytes::Bytes;
use frames::{Frame, LENGTH_BYTES, WireError};
use tokio::io::{AsyncRead, AsyncReadExt};
use zeroize::Zeroizing;

use super::PROTOCOL;
use super::messages::ToChild;

/// Bytes of one frame, so that others get their turn.
pub(crate) const MAX_BYTES: usize = 64 * 1024;

/// Says in a length that bytes follow.
const IS_BYTES: u32 = 1 << 31;

/// The number of the read.
const NUMBER_BYTES: usize = 8;

/// What comes over the socket from the parent.
#[derive(Debug)]
pub(crate) enum FromParent {
    Message(ToChild),
    Bytes { id: u64, bytes: Bytes },
}

/// A frame of some of the bytes of a read.
pub(crate) fn encode_bytes(id: u64, bytes: &[u8]) -> Result<Frame, WireError> {
    let too_long = || WireError::TooLong(bytes.len());
    let length = u32::try_from(bytes.len()).map_err(|_| too_long())?;
    if bytes.len() > MAX_BYTES {
        return Err(too_long());
    }
    let mut frame = Zeroizing::new(Vec::with_capacity(
        LENGTH_BYTES + NUMBER_BYTES + bytes.len(),
    ));
    frame.extend((length | IS_BYTES).to_le_bytes());
    frame.extend(id.to_le_bytes());
    frame.extend(bytes);
    Ok(frame)
}

/// The next message or piece, or nothing when the parent has closed between two.
pub(crate) async fn receive_from_parent(
    socket: &mut (impl AsyncRead + Unpin),
) -> Result<Option<FromParent>, WireError> {
    let mut length = [0; LENGTH_BYTES];
    match socket.read(&mut length).await? {
        0 => return Ok(None),
        got => socket.read_exact(&mut length[got..]).await?,
    };
    if u32::from_le_bytes(length) & IS_BYTES != 0 {
        return receive_bytes(socket, length).await.map(Some);
    }
    let mut json = PROTOCOL.body(length)?;
    socket.read_exact(&mut json).await?;
    PROTOCOL
        .decode(&json)
        .map(|message| Some(FromParent::Message(message)))
}

async fn receive_bytes(
    socket: &mut (impl AsyncRead + Unpin),
    length: [u8; LENGTH_BYTES],
) -> Result<FromParent, WireError> {
    let length = (u32::from_le_bytes(length) & !IS_BYTES) as usize;
    match length {
        0 => return Err(WireError::Malformed("no bytes".to_owned())),
        1..=MAX_BYTES => {}
        _ => return Err(WireError::TooLong(length)),
    }
    let mut number = [0; NUMBER_BYTES];
    socket.read_exact(&mut number).await?;
    let mut bytes = vec![0; length];
    socket.read_exact(&mut bytes).await?;
    Ok(FromParent::Bytes {
        id: u64::from_le_bytes(number),
        bytes: bytes.into(),
    })
}
