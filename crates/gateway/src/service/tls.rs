//! TLS for callers: a certificate of the operator's, renewed while it is served.
//!
//! Clients judge the certificate; nothing is asked of theirs, since a token says who they are. The
//! files are looked at again every minute: a pair that is right takes the place of the one that is
//! shown, anything else changes nothing and is said once. A handshake has a time to be done in, and
//! its place among the connections.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::identity::{Identity, Standing, TlsError, TlsFiles};
use crate::lock::lock;
use crate::problem::chain;

/// Two round trips over the worst of links, and a signature.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Certificates are renewed days before they are over.
const RENEWAL_INTERVAL: Duration = Duration::from_mins(1);
/// Both faces speak both.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// For who sends HTTP in the clear, in the form of any refusal.
const NO_TLS: &str = r#"{"error":{"kind":"invalid","message":"this port speaks TLS",
"hint":"name the gateway by https://"}}"#;
/// What is read of such a request, so that its answer arrives.
const UNREAD_LIMIT_BYTES: u64 = 64 << 10;

/// What callers are shown. Clones share it.
#[derive(Clone)]
pub struct ServerTls {
    shown: Arc<Shown>,
    acceptor: TlsAcceptor,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = &self.shown.files;
        formatter
            .debug_struct("ServerTls")
            .field("files", files)
            .finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Shows what is in the files, which must be right now. Blocks.
    pub fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let now = Now {
            identity: Identity::read(&files)?,
            standing: Standing::Counts,
            refusal: None,
        };
        let shown = Arc::new(Shown {
            files,
            now: Mutex::new(now),
        });
        lock(&shown.now).note_standing();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&shown) as _);
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(Self { shown, acceptor })
    }

    /// By which name of the certificate this address is best called, as it stands in a URL; none
    /// where it has no name for it.
    pub fn host(&self, address: IpAddr) -> Option<String> {
        lock(&self.shown.now).identity.host(address)
    }

    /// Shows what is in the files from now on, if it is another pair and right. Blocks.
    pub fn renew(&self) {
        let read = Identity::read(&self.shown.files);
        let mut now = lock(&self.shown.now);
        match read {
            Ok(identity) => {
                now.refusal = None;
                if identity.digest != now.identity.digest {
                    now.identity = identity;
                    tracing::info!("the certificate was renewed");
                }
            }
            Err(error) => now.note_refusal(chain(&error)),
        }
        now.note_standing();
    }

    /// Looks at the files again and again.
    pub(super) async fn keep_renewed(self) {
        self.renew_every(RENEWAL_INTERVAL).await;
    }

    async fn renew_every(self, interval: Duration) {
        loop {
            tokio::time::sleep(interval).await;
            let tls = self.clone();
            let renewing = tokio::task::spawn_blocking(move || tls.renew());
            if renewing.await.is_err() {
                tracing::error!("looking for a renewed certificate failed");
            }
        }
    }

    /// The stream within TLS, if a caller comes to speak it in time.
    pub(super) async fn accept(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, self.shake_hands(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a handshake failed");
                None
            }
            Err(_) => {
                tracing::debug!("a handshake took too long");
                None
            }
        }
    }

    async fn shake_hands(&self, mut stream: TcpStream) -> io::Result<Option<TlsStream<TcpStream>>> {
        if speaks_http(&stream).await? {
            tracing::debug!("a connection without TLS was refused");
            refuse(&mut stream).await?;
            return Ok(None);
        }
        self.acceptor.accept(stream).await.map(Some)
    }
}

/// Whether a connection begins as a request in the clear: with a letter, which no handshake does.
async fn speaks_http(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    let length = stream.peek(&mut first).await?;
    Ok(length == 1 && first[0].is_ascii_uppercase())
}

/// Says that this is TLS, to who has sent a request in the clear.
async fn refuse(stream: &mut TcpStream) -> io::Result<()> {
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{NO_TLS}",
        NO_TLS.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // What nobody has read would have the answer taken back.
    tokio::io::copy(&mut stream.take(UNREAD_LIMIT_BYTES), &mut tokio::io::sink()).await?;
    Ok(())
}

/// What is shown, and where it is from.
#[derive(Debug)]
struct Shown {
    files: TlsFiles,
    now: Mutex<Now>,
}

#[derive(Debug)]
struct Now {
    identity: Identity,
    /// As it was last told.
    standing: Standing,
    /// Why the files are not shown as they are, as it was last told.
    refusal: Option<String>,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&lock(&self.now).identity.certified))
    }
}

impl Now {
    fn note_refusal(&mut self, refusal: String) {
        if self.refusal.as_ref() != Some(&refusal) {
            tracing::warn!(
                error = refusal,
                "the certificate is shown as it was: the files cannot be used"
            );
            self.refusal = Some(refusal);
        }
    }

    fn note_standing(&mut self) {
        let standing = self.identity.standing(Timestamp::now());
        if standing == self.standing {
            return;
        }
        self.standing = standing;
        match standing {
            Standing::Counts => {}
            Standing::Over { since } => {
                tracing::warn!("the certificate is over since {since}: clients refuse it");
            }
            Standing::NotYet { until } => {
                tracing::warn!("the certificate counts from {until} on: clients refuse it");
            }
        }
    }
}

#[cfg(test)]
mod tests;
