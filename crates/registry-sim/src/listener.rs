//! A listener whose connections can be broken by whoever answers on them.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A client that never finishes its handshake holds up the others for no longer than this.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// Breaks its connection from the moment it is pulled: no further byte goes out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ripcord(Arc<AtomicBool>);

impl Ripcord {
    pub(crate) fn pull(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn is_pulled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

pub(crate) struct SimListener {
    pub(crate) tcp: TcpListener,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) outage: Arc<AtomicBool>,
}

pub(crate) struct SimStream {
    io: Io,
    ripcord: Ripcord,
}

enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl SimListener {
    async fn secure(&self, stream: TcpStream) -> Option<Io> {
        let Some(acceptor) = &self.tls else {
            return Some(Io::Plain(stream));
        };
        let handshake = tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await;
        Some(Io::Tls(Box::new(handshake.ok()?.ok()?)))
    }
}

impl Listener for SimListener {
    type Io = SimStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (SimStream, SocketAddr) {
        loop {
            let Ok((stream, address)) = self.tcp.accept().await else {
                continue;
            };
            // Small replies in several writes must not wait for each other's acknowledgement.
            let _ = stream.set_nodelay(true);
            if self.outage.load(Ordering::SeqCst) {
                let _ = stream.set_zero_linger();
                continue;
            }
            if let Some(io) = self.secure(stream).await {
                return (
                    SimStream {
                        io,
                        ripcord: Ripcord::default(),
                    },
                    address,
                );
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

impl Connected<IncomingStream<'_, SimListener>> for Ripcord {
    fn connect_info(stream: IncomingStream<'_, SimListener>) -> Self {
        stream.io().ripcord.clone()
    }
}

impl SimStream {
    fn check(&self) -> io::Result<()> {
        if self.ripcord.is_pulled() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }

    fn tcp(&self) -> &TcpStream {
        match &self.io {
            Io::Plain(stream) => stream,
            Io::Tls(stream) => stream.get_ref().0,
        }
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        if self.ripcord.is_pulled() {
            // Closing with zero linger sends a reset instead of an orderly end.
            let _ = self.tcp().set_zero_linger();
        }
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_flush(context),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
        }
    }
}
