//! A certificate and its private key, read from two files that somebody else renews.
//!
//! Either both are read, belong together and can be used, or nothing is. What a certificate says of
//! times and names decides what is told to people, and not whether it is shown: callers judge it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustix::fs::OFlags;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, InconsistentKeys, RootCertStore};
use sha2::{Digest, Sha256};
use webpki::EndEntityCert;
use zeroize::Zeroizing;

/// A chain of a few certificates with large keys has some ten kilobytes.
const FILE_LIMIT_BYTES: u64 = 256 << 10;
/// A leaf and what leads to a root. Each handshake sends them all.
const CHAIN_LIMIT: usize = 16;
/// Bits of a mode by which others than the owner reach a file.
const OTHERS: u32 = 0o077;

/// Where they are, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and after it those that lead to a root.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Why there is no certificate to show.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {path:?}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path:?} is no file")]
    NoFile { path: PathBuf },
    #[error("{path:?} is longer than {FILE_LIMIT_BYTES} bytes")]
    TooLong { path: PathBuf },
    /// Somebody else could have read or written it.
    #[error("the key in {path:?} can be reached by others than its owner: chmod 600")]
    Open { path: PathBuf },
    #[error("{path:?} holds no certificate in PEM")]
    NoCertificate { path: PathBuf },
    #[error("{path:?} holds more than {CHAIN_LIMIT} certificates")]
    LongChain { path: PathBuf },
    #[error("{path:?} holds no private key in PEM: PKCS#8, PKCS#1 or SEC1, and not encrypted")]
    NoKey { path: PathBuf },
    #[error("the key in {key:?} is not that of the first certificate in {certificate:?}")]
    Apart { certificate: PathBuf, key: PathBuf },
    #[error("the key in {key:?} or the certificate in {certificate:?} cannot be used")]
    Unusable {
        certificate: PathBuf,
        key: PathBuf,
        source: Error,
    },
}

/// Both, ready to be shown.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) certified: Arc<CertifiedKey>,
    /// By which a renewed pair is told from this one.
    pub(super) digest: [u8; 32],
}

/// Whether a certificate counts at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Counts,
    Over { since: Timestamp },
    NotYet { until: Timestamp },
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Identity {
    /// What is in the files now. Blocks.
    pub(super) fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let certificates = read(&files.certificate, Readers::Anybody)?;
        let key = read(&files.key, Readers::OwnerAlone)?;
        let digest = Sha256::new()
            .chain_update(Sha256::digest(&certificates))
            .chain_update(Sha256::digest(&key));
        Ok(Self {
            certified: Arc::new(certified(files, &certificates, &key)?),
            digest: digest.finalize().into(),
        })
    }

    pub(super) fn standing(&self, now: Timestamp) -> Standing {
        let seconds = u64::try_from(now.as_second()).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let provider = aws_lc_rs::default_provider();
        let algorithms = provider.signature_verification_algorithms.all;
        let parsed = ParsedCertificate::try_from(self.leaf());
        // Nobody is trusted here: whose times are right is refused for that, which is no matter.
        let roots = RootCertStore::empty();
        let judged = parsed.and_then(|leaf| {
            verify_server_cert_signed_by_trust_anchor(&leaf, &roots, &[], now, algorithms)
        });
        match judged {
            Err(Error::InvalidCertificate(CertificateError::ExpiredContext {
                not_after, ..
            })) => Standing::Over {
                since: timestamp(not_after),
            },
            Err(Error::InvalidCertificate(CertificateError::NotValidYetContext {
                not_before,
                ..
            })) => Standing::NotYet {
                until: timestamp(not_before),
            },
            _ => Standing::Counts,
        }
    }

    /// By which name of the certificate this address is best called, as it stands in a URL.
    pub(super) fn host(&self, address: IpAddr) -> Option<String> {
        let leaf = EndEntityCert::try_from(self.leaf()).ok()?;
        let is_named = |name: &ServerName<'_>| leaf.verify_is_valid_for_subject_name(name).is_ok();
        if is_named(&ServerName::IpAddress(address.into())) {
            return Some(match address {
                IpAddr::V4(address) => address.to_string(),
                IpAddr::V6(address) => format!("[{address}]"),
            });
        }
        let local = ServerName::try_from("localhost").expect("a name");
        if address.is_loopback() && is_named(&local) {
            return Some("localhost".to_owned());
        }
        let mut names = leaf.valid_dns_names().filter(|name| !name.contains('*'));
        names.next().map(str::to_owned)
    }

    fn leaf(&self) -> &CertificateDer<'static> {
        let leaf = self.certified.cert.first();
        leaf.expect("no identity is made without a certificate")
    }
}

/// Whom a file may be open to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Readers {
    Anybody,
    OwnerAlone,
}

fn read(path: &Path, readers: Readers) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let owned = || path.to_owned();
    let failed = |source| TlsError::Io {
        path: owned(),
        source,
    };
    // A pipe would make its opener wait.
    let not_waiting = OFlags::NONBLOCK.bits().cast_signed();
    let mut options = File::options();
    let file = options.read(true).custom_flags(not_waiting).open(path);
    let file = file.map_err(failed)?;
    let status = file.metadata().map_err(failed)?;
    if !status.is_file() {
        return Err(TlsError::NoFile { path: owned() });
    }
    if readers == Readers::OwnerAlone && status.mode() & OTHERS != 0 {
        return Err(TlsError::Open { path: owned() });
    }
    // With room for all of it, so that no copy of a key stays behind.
    let room = status.len().min(FILE_LIMIT_BYTES) + 1;
    let room = usize::try_from(room).expect("a few hundred kilobytes");
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    let mut bounded = file.take(FILE_LIMIT_BYTES + 1);
    bounded.read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_LIMIT_BYTES {
        return Err(TlsError::TooLong { path: owned() });
    }
    Ok(bytes)
}

/// Pure: what two texts say together.
fn certified(files: &TlsFiles, certificates: &[u8], key: &[u8]) -> Result<CertifiedKey, TlsError> {
    let TlsFiles {
        certificate: certificate_path,
        key: key_path,
    } = files.clone();
    let found = CertificateDer::pem_slice_iter(certificates).take(CHAIN_LIMIT + 1);
    let Ok(chain) = found.collect::<Result<Vec<_>, _>>() else {
        let path = certificate_path;
        return Err(TlsError::NoCertificate { path });
    };
    match chain.len() {
        0 => {
            let path = certificate_path;
            return Err(TlsError::NoCertificate { path });
        }
        length if length > CHAIN_LIMIT => {
            let path = certificate_path;
            return Err(TlsError::LongChain { path });
        }
        _ => {}
    }
    let Ok(key) = PrivateKeyDer::from_pem_slice(key) else {
        return Err(TlsError::NoKey { path: key_path });
    };
    let provider = aws_lc_rs::default_provider();
    CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::Apart {
            certificate: certificate_path,
            key: key_path,
        },
        source => TlsError::Unusable {
            certificate: certificate_path,
            key: key_path,
            source,
        },
    })
}

fn timestamp(time: UnixTime) -> Timestamp {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
