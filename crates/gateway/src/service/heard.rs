//! How much a connection has said, so that one that says too little is not waited for.
//!
//! Which protocol it speaks takes up to 24 bytes to tell, for which whoever serves it would wait
//! without end; afterwards each protocol has times of its own.

use std::future::pending;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The preface of HTTP/2. The shortest request with a host in it has a byte more.
const OPENING_BYTES: usize = 24;

/// A stream, and what was heard from it.
#[derive(Debug)]
pub(super) struct Heard<S> {
    stream: S,
    bytes: Arc<AtomicUsize>,
}

/// The other half: what was heard of a stream that somebody else reads.
#[derive(Debug)]
pub(super) struct Hearing(Arc<AtomicUsize>);

impl<S> Heard<S> {
    pub(super) fn new(stream: S) -> (Self, Hearing) {
        let bytes = Arc::new(AtomicUsize::new(0));
        let hearing = Hearing(Arc::clone(&bytes));
        (Self { stream, bytes }, hearing)
    }
}

impl Hearing {
    /// Comes back when the stream has not said in time what it speaks, and else never.
    pub(super) async fn says_too_little(self, timeout: Duration) {
        tokio::time::sleep(timeout).await;
        if self.0.load(Ordering::Relaxed) >= OPENING_BYTES {
            pending::<()>().await;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let heard = buffer.filled().len() - before;
        self.bytes.fetch_add(heard, Ordering::Relaxed);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
