//! TLS between two machines of ours, each of which proves that it holds its key.
//!
//! A connector accepts one key, that of its pin. An acceptor takes any, and says which it was: what
//! a key may is decided by whoever asked.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::key::{Fingerprint, KeyPair};

/// A stream that was accepted.
pub type PeerStream<Stream> = tokio_rustls::server::TlsStream<Stream>;
/// A stream that was connected.
pub type ConnectedStream<Stream> = tokio_rustls::client::TlsStream<Stream>;

/// Two round trips over the worst of links, and two signatures. Who is slower holds a place for
/// nothing.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// HTTP/2, as ALPN names it: another protocol of ours on the same key would be another name.
const PROTOCOL: &[u8] = b"h2";
/// TLS wants a name, which is neither sent nor looked at.
const NO_NAME: &str = "holdfast.invalid";

/// Why two machines do not speak.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error("the handshake took too long")]
    Timeout,
    /// The other end holds another key than the one that was expected.
    #[error("the other end is not the machine that this one was told to trust")]
    OtherKey,
    #[error("the handshake failed")]
    Failed(#[source] io::Error),
}

/// The side that is called.
#[derive(Clone)]
pub struct Acceptor {
    tls: TlsAcceptor,
}

/// The side that calls, and whom.
#[derive(Clone)]
pub struct Connector {
    tls: TlsConnector,
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl Acceptor {
    pub fn new(own: &KeyPair) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = AnyKey(Signatures(Arc::clone(&provider)));
        let resolver = AlwaysResolvesServerRawPublicKeys::new(own.certified());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has TLS 1.3")
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        // Each connection is a handshake: a ticket would outlive the key's welcome.
        config.send_tls13_tickets = 0;
        let tls = TlsAcceptor::from(Arc::new(config));
        Self { tls }
    }

    /// Takes a connection from whoever holds a key; answers which.
    pub async fn accept<Stream>(
        &self,
        stream: Stream,
    ) -> Result<(PeerStream<Stream>, Fingerprint), HandshakeError>
    where
        Stream: AsyncRead + AsyncWrite + Unpin,
    {
        let accepting = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.tls.accept(stream)).await;
        let stream = accepting.map_err(|_| HandshakeError::Timeout)?;
        let stream = stream.map_err(HandshakeError::Failed)?;
        let (_, connection) = stream.get_ref();
        // Without the protocol's name some clients go on all the same.
        if connection.alpn_protocol() != Some(PROTOCOL) {
            return Err(failed("the other end does not name the protocol"));
        }
        let keys = connection.peer_certificates().unwrap_or_default();
        let key = keys.first().ok_or_else(|| failed("no key came"))?;
        let fingerprint = Fingerprint::of(key);
        Ok((stream, fingerprint))
    }
}

impl Connector {
    /// Connects to the machine that holds the key of the pin, and to no other.
    pub fn new(own: &KeyPair, pin: Fingerprint) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = PinnedKey {
            pin,
            signatures: Signatures(Arc::clone(&provider)),
        };
        let resolver = AlwaysResolvesClientRawPublicKeys::new(own.certified());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config.enable_sni = false;
        config.resumption = Resumption::disabled();
        let tls = TlsConnector::from(Arc::new(config));
        Self { tls }
    }

    pub async fn connect<Stream>(
        &self,
        stream: Stream,
    ) -> Result<ConnectedStream<Stream>, HandshakeError>
    where
        Stream: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(NO_NAME).expect("it has the form of a name");
        let connecting = self.tls.connect(name, stream);
        let connected = tokio::time::timeout(HANDSHAKE_TIMEOUT, connecting).await;
        let connected = connected.map_err(|_| HandshakeError::Timeout)?;
        connected.map_err(handshake_error)
    }
}

fn failed(reason: &str) -> HandshakeError {
    HandshakeError::Failed(io::Error::other(reason))
}

fn handshake_error(error: io::Error) -> HandshakeError {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        Some(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)) => {
            HandshakeError::OtherKey
        }
        _ => HandshakeError::Failed(error),
    }
}

/// What both sides do with a signature: it must be the key's, and an Ed25519 one.
#[derive(Debug)]
struct Signatures(Arc<CryptoProvider>);

impl Signatures {
    fn verify(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if signature.scheme != SignatureScheme::ED25519 {
            return Err(Error::InvalidCertificate(CertificateError::BadSignature));
        }
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &key, signature, algorithms)
    }

    fn schemes() -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// TLS 1.2 is not offered.
fn no_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
}

/// Takes any key.
#[derive(Debug)]
struct AnyKey(Signatures);

impl ClientCertVerifier for AnyKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _key: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify(message, key, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Signatures::schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Takes one key.
#[derive(Debug)]
struct PinnedKey {
    pin: Fingerprint,
    signatures: Signatures,
}

impl ServerCertVerifier for PinnedKey {
    fn verify_server_cert(
        &self,
        key: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if Fingerprint::of(key) == self.pin {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::InvalidCertificate(
            CertificateError::ApplicationVerificationFailure,
        ))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.verify(message, key, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Signatures::schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
