//! A root key that a service keeps, which wraps and unwraps with it and does not give it out.
//!
//! ```text
//!   2 | what the service made of:  a key (32 bytes) | SHA-256 of its context (32 bytes)
//! ```
//!
//! The service is told the context too, and binds it where it can; what it seals has it in any
//! case, so that one which forgets it cannot have a row stand in the place of another. What is
//! wrapped is opened again before it is believed: a service that may wrap and not unwrap would be
//! found out when the key before it is gone. This crate speaks to no network: a [`KeyService`] is
//! handed in, and its answers are judged here.

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use zeroize::Zeroizing;

use super::{Answer, HoldsRootKey};
use crate::error::VaultError;
use crate::keys::{Binding, Fields, KEY_BYTES, Key, KeyId, KeyPurpose, Wrapped};
use crate::place::OpeningLock;
use crate::vault::VAULT_ID_BYTES;

/// First byte of a key that a service wrapped. A key of ours puts another there.
const WRAP_FORMAT: u8 = 2;
/// Longest answer to a wrapping: as much as AWS KMS ever gives. Of 64 bytes it makes some 220.
const SEALED_MAX_BYTES: usize = 6144;
const PLAIN_BYTES: usize = KEY_BYTES + SHA256_OUTPUT_LEN;
/// Versions of one key that are known apart: one a day for years.
const VERSION_LIMIT: u32 = 1024;
/// How long a workspace's key is used before the service is asked again, so that no start waits for
/// it but a few in an hour. As long as that, what the service refuses from now on goes on.
const KEY_TIME: Duration = Duration::from_mins(5);

const CONTEXT_DOMAIN: &str = "holdfast/vault/service-wrap/v1";

/// What a service says, to be awaited.
pub type ServiceAnswer<'a, T> =
    Pin<Box<dyn Future<Output = Result<T, KeyServiceError>> + Send + 'a>>;

/// A key in a service. Implementations bound what they read and how long they wait; what they
/// answer is checked here.
pub trait KeyService: fmt::Debug + Send + Sync {
    /// As an operator types it.
    fn source(&self) -> String;

    /// Which key this is, from wherever it is reached. Two keys never share it.
    fn identity(&self) -> String;

    /// The version that is to wrap from now on. 1 where all versions of a key are one to its users.
    fn newest(&self) -> ServiceAnswer<'_, u32>;

    fn seal<'a>(
        &'a self,
        version: u32,
        context: &'a WrapContext,
        plain: &'a [u8],
    ) -> ServiceAnswer<'a, Vec<u8>>;

    /// Nothing when it does not open: it was sealed under another key, version or context, or was
    /// changed.
    fn open<'a>(
        &'a self,
        version: u32,
        context: &'a WrapContext,
        sealed: &'a [u8],
    ) -> ServiceAnswer<'a, Option<Zeroizing<Vec<u8>>>>;
}

/// What a wrapped key is bound to. Nothing of it is secret: services write it into their logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrapContext {
    vault: String,
    root: KeyId,
    purpose: &'static str,
    workspace: String,
    key: String,
}

/// Why a service did not wrap or unwrap, by what its operator would do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyServiceError {
    /// It has no such key, or not this version any more.
    #[error("{message}")]
    Missing { message: String },
    /// The key is switched off, or about to be deleted.
    #[error("{message}")]
    Disabled { message: String },
    /// The credential is good, and not for this.
    #[error("{message}")]
    Denied { message: String },
    /// There is no usable credential, or the service does not know it.
    #[error("{message}")]
    BadCredential { message: String },
    #[error("{message}")]
    RateLimited { message: String },
    /// It has to be unsealed first.
    #[error("{message}")]
    Sealed { message: String },
    /// No connection, or no answer in time.
    #[error("{message}")]
    Unreachable { message: String },
    /// Whoever answers is not known to be the service.
    #[error("{message}")]
    Untrusted { message: String },
    /// It refuses the request as such, or its answer is none.
    #[error("{message}")]
    Unusable { message: String },
}

impl KeyServiceError {
    /// Whether the same question may be answered later, although nobody did anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::RateLimited { .. } | Self::Unreachable { .. })
    }

    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Missing { .. } => {
                "name the key that the vault was sealed under; without it the sealed secrets are \
                 lost, and nothing makes another one in its place"
            }
            Self::Disabled { .. } => {
                "enable the key or cancel its deletion, before it is gone for good: without it \
                 the sealed secrets are lost"
            }
            Self::Denied { .. } => {
                "let the credential of the key service wrap and unwrap with this key; README.md \
                 has the policy"
            }
            Self::BadCredential { .. } => {
                "renew the credential of the key service, in the file or the credential of systemd \
                 that the configuration names; it is read at each question"
            }
            Self::RateLimited { .. } => "run the command again, or raise the limit of the service",
            Self::Sealed { .. } => "unseal it, and run the command again",
            Self::Unreachable { .. } => {
                "see whether the key service runs and can be reached from here; nothing was \
                 changed, and the command can be run again"
            }
            Self::Untrusted { .. } => {
                "if the key service has an authority of its own, name it as `ca_file` beside its \
                 credential in the configuration"
            }
            Self::Unusable { .. } => {
                "see the log of the key service, and whether what the configuration names is one"
            }
        }
    }
}

impl WrapContext {
    fn new(binding: Binding<'_>, root: KeyId, inner: KeyId) -> Self {
        let (purpose, workspace) = match binding.purpose {
            KeyPurpose::Workspace(workspace) => ("workspace", workspace.to_string()),
            KeyPurpose::Audit => ("audit", String::new()),
        };
        let vault = binding.vault_id.iter().map(|byte| format!("{byte:02x}"));
        Self {
            vault: vault.collect(),
            root,
            purpose,
            workspace,
            key: inner.to_string(),
        }
    }

    /// As pairs of words, none of them empty, for a service that binds such.
    pub fn pairs(&self) -> Vec<(&'static str, &str)> {
        let mut pairs = vec![
            ("holdfast-vault", self.vault.as_str()),
            ("holdfast-purpose", self.purpose),
            ("holdfast-key", self.key.as_str()),
        ];
        if !self.workspace.is_empty() {
            pairs.push(("holdfast-workspace", self.workspace.as_str()));
        }
        pairs
    }

    /// As bytes, of which no two contexts have the same, for a service that binds such.
    pub fn bytes(&self) -> Vec<u8> {
        Fields::new(CONTEXT_DOMAIN)
            .bytes(&[WRAP_FORMAT])
            .text(&self.vault)
            .bytes(&self.root.0)
            .text(self.purpose)
            .text(&self.workspace)
            .text(&self.key)
            .finish()
    }

    /// The key, and this context: what the service seals.
    fn packed(&self, inner: &Key) -> Zeroizing<[u8; PLAIN_BYTES]> {
        let mut plain = Zeroizing::new([0; PLAIN_BYTES]);
        plain[..KEY_BYTES].copy_from_slice(inner.bytes());
        plain[KEY_BYTES..].copy_from_slice(digest(&SHA256, &self.bytes()).as_ref());
        plain
    }

    /// The key in what a service opened, where it is the one that it should be, for this.
    fn unpacked(&self, plain: &[u8], inner: KeyId) -> Option<Key> {
        let (key, bound) = plain.split_at_checked(KEY_BYTES)?;
        verify_slices_are_equal(digest(&SHA256, &self.bytes()).as_ref(), bound).ok()?;
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        bytes.copy_from_slice(key);
        let key = Key::from_bytes(bytes);
        (key.id() == inner).then_some(key)
    }
}

/// The root key in a service. A version of it is a root key of its own.
#[derive(Debug)]
pub(super) struct ServiceHolder {
    service: Arc<dyn KeyService>,
}

impl ServiceHolder {
    pub(super) fn new(service: Arc<dyn KeyService>) -> Self {
        Self { service }
    }

    async fn newest(&self) -> Result<KeyId, VaultError> {
        let newest = self.service.newest().await;
        let newest = newest.map_err(|error| self.failed(error))?;
        if (1..=VERSION_LIMIT).contains(&newest) {
            return Ok(self.id(newest));
        }
        Err(self.failed(KeyServiceError::Unusable {
            message: format!("its newest version is {newest}, which is not within {VERSION_LIMIT}"),
        }))
    }

    fn id(&self, version: u32) -> KeyId {
        KeyId::of_service(&self.service.identity(), version)
    }

    /// Which version of the key this is.
    fn version(&self, root: KeyId) -> Result<u32, VaultError> {
        let identity = self.service.identity();
        let found = (1..=VERSION_LIMIT).find(|v| KeyId::of_service(&identity, *v) == root);
        found.ok_or_else(|| VaultError::RootKeyWrong {
            path: self.path(),
            found: self.id(1).to_string(),
            expected: root.to_string(),
        })
    }

    async fn wrap_now(
        &self,
        root: KeyId,
        binding: Binding<'_>,
        inner: &Key,
    ) -> Result<Vec<u8>, VaultError> {
        let version = self.version(root)?;
        let context = WrapContext::new(binding, root, inner.id());
        let plain = context.packed(inner);
        let sealed = self.service.seal(version, &context, plain.as_slice()).await;
        let sealed = sealed.map_err(|error| self.failed(error))?;
        let mut wrapped = vec![WRAP_FORMAT];
        wrapped.extend_from_slice(&sealed);
        let key_id = inner.id();
        let bytes = wrapped.as_slice();
        let opened = self.unwrap_now(root, binding, Wrapped { key_id, bytes });
        if opened.await?.is_some() {
            return Ok(wrapped);
        }
        Err(self.failed(KeyServiceError::Unusable {
            message: "it does not open what it has wrapped".to_owned(),
        }))
    }

    async fn unwrap_now(
        &self,
        root: KeyId,
        binding: Binding<'_>,
        wrapped: Wrapped<'_>,
    ) -> Result<Option<Key>, VaultError> {
        let version = self.version(root)?;
        // What cannot have come from a service is damage, which it is not bothered with.
        let Some((&WRAP_FORMAT, sealed)) = wrapped.bytes.split_first() else {
            return Ok(None);
        };
        let is_vault = binding.vault_id.len() == VAULT_ID_BYTES;
        if sealed.is_empty() || sealed.len() > SEALED_MAX_BYTES || !is_vault {
            return Ok(None);
        }
        let context = WrapContext::new(binding, root, wrapped.key_id);
        let opened = self.service.open(version, &context, sealed).await;
        let opened = opened.map_err(|error| self.failed(error))?;
        Ok(opened.and_then(|plain| context.unpacked(&plain, wrapped.key_id)))
    }

    async fn next_of(&self, current: KeyId, keep_old: Option<&Path>) -> Result<KeyId, VaultError> {
        let path = self.path();
        let current_version = self.version(current)?;
        if keep_old.is_some() {
            return Err(VaultError::RootKeyNotOurs { path });
        }
        let next = self.newest().await?;
        if next == current {
            return Err(VaultError::RootKeySame { path });
        }
        // A replica that lags would have a key that was replaced come back.
        let next_version = self.version(next)?;
        if next_version < current_version {
            return Err(self.failed(KeyServiceError::Unusable {
                message: format!(
                    "its newest version is {next_version}, and {current_version} is in use"
                ),
            }));
        }
        Ok(next)
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(self.service.source())
    }

    fn failed(&self, source: KeyServiceError) -> VaultError {
        VaultError::KeyService {
            key: self.service.source(),
            source,
        }
    }
}

impl HoldsRootKey for ServiceHolder {
    fn key_time(&self) -> Option<Duration> {
        Some(KEY_TIME)
    }

    fn first<'a>(&'a self, _data: &'a Path, _lock: &'a OpeningLock) -> Answer<'a, KeyId> {
        Box::pin(self.newest())
    }

    fn require(&self, root: KeyId) -> Answer<'_, ()> {
        Box::pin(std::future::ready(self.version(root).map(drop)))
    }

    fn settle<'a>(&'a self, root: KeyId, _lock: &'a OpeningLock) -> Answer<'a, ()> {
        self.require(root)
    }

    fn begin_rotation<'a>(
        &'a self,
        current: KeyId,
        keep_old: Option<&'a Path>,
        _lock: &'a OpeningLock,
    ) -> Answer<'a, KeyId> {
        Box::pin(self.next_of(current, keep_old))
    }

    fn wrap<'a>(
        &'a self,
        root: KeyId,
        binding: Binding<'a>,
        inner: &'a Key,
    ) -> Answer<'a, Vec<u8>> {
        Box::pin(self.wrap_now(root, binding, inner))
    }

    fn unwrap<'a>(
        &'a self,
        root: KeyId,
        binding: Binding<'a>,
        wrapped: Wrapped<'a>,
    ) -> Answer<'a, Option<Key>> {
        Box::pin(self.unwrap_now(root, binding, wrapped))
    }
}
