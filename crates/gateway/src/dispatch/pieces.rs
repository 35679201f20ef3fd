//! A file as its worker is sent it: piece by piece, wherever others read it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use futures::Stream;
use tonic::Status;

/// The file from its beginning.
pub(super) fn pieces(file: File) -> impl Stream<Item = Result<Bytes, Status>> + Send {
    futures::stream::unfold(Some((file, 0)), async |state| {
        let (file, offset) = state?;
        let reading = tokio::task::spawn_blocking(move || piece(file, offset)).await;
        match reading {
            Ok(Ok((_, data))) if data.is_empty() => None,
            Ok(Ok((file, data))) => {
                let next = offset + data.len() as u64;
                Some((Ok(data), Some((file, next))))
            }
            _ => Some((Err(unreadable()), None)),
        }
    })
}

fn piece(file: File, offset: u64) -> io::Result<(File, Bytes)> {
    let mut buffer = vec![0; worker_protocol::MAX_PIECE_BYTES];
    let length = file.read_at(&mut buffer, offset)?;
    buffer.truncate(length);
    Ok((file, buffer.into()))
}

pub(super) fn unreadable() -> Status {
    Status::internal("the file cannot be read")
}
