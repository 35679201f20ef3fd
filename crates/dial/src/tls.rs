//! TLS for one registry: system roots, the registry's own CA, one provider.

use std::sync::{Arc, LazyLock};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::error::DialError;

/// How connections for one registry (and its token service) are secured.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct TlsProfile {
    /// CA certificates to trust besides the system's, each a PEM bundle.
    pub extra_ca_pem: Vec<Vec<u8>>,
    /// The user said that this registry speaks plain http.
    pub plain_http: bool,
}

/// Certificates in the PEM of one registry: a chain and a few roots, not another system store.
const MAX_EXTRA_CERTIFICATES: usize = 64;

/// The system's roots, read once, from hundreds of files. A machine without any still reaches
/// registries with their own CA.
static SYSTEM_ROOTS: LazyLock<Vec<CertificateDer<'static>>> = LazyLock::new(|| {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "some system root certificates cannot be read");
    }
    found.certs
});

/// The configuration that a profile asks for: the system's roots and its own.
pub(crate) fn client_config(profile: &TlsProfile) -> Result<ClientConfig, DialError> {
    let mut roots = RootCertStore::empty();
    if !profile.plain_http {
        // Odd certificates in a system's store are that system's business.
        roots.add_parsable_certificates(SYSTEM_ROOTS.iter().cloned());
    }
    with_own_roots(roots, profile)
}

/// A configuration for connections without TLS: the profile is checked, and no file is read.
pub(crate) fn plain_config(profile: &TlsProfile) -> Result<ClientConfig, DialError> {
    with_own_roots(RootCertStore::empty(), profile)
}

/// HTTP/2 where the server has it, else HTTP/1.1.
fn with_own_roots(
    mut roots: RootCertStore,
    profile: &TlsProfile,
) -> Result<ClientConfig, DialError> {
    for certificate in extra_certificates(profile)? {
        roots
            .add(certificate)
            .map_err(|error| unusable(&error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn extra_certificates(profile: &TlsProfile) -> Result<Vec<CertificateDer<'static>>, DialError> {
    let mut found = Vec::new();
    for pem in &profile.extra_ca_pem {
        let before = found.len();
        for certificate in CertificateDer::pem_slice_iter(pem).take(MAX_EXTRA_CERTIFICATES) {
            found.push(certificate.map_err(|error| unusable(&error.to_string()))?);
        }
        if found.len() == before {
            return Err(unusable("no PEM certificate in it"));
        }
    }
    Ok(found)
}

fn unusable(message: &str) -> DialError {
    DialError::Configuration {
        subject: "CA certificate of the registry".to_owned(),
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_without_certificates_is_refused() {
        for pem in [
            &b""[..],
            b"junk",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
        ] {
            let profile = TlsProfile {
                extra_ca_pem: vec![pem.to_vec()],
                plain_http: false,
            };
            let error = plain_config(&profile).unwrap_err();
            assert!(matches!(error, DialError::Configuration { .. }), "{error}");
        }
    }
}
