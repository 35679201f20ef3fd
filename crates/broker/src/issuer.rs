//! The installation as an issuer of identity tokens: its keys, sealed like any secret and nobody's
//! workspace's, opened for a moment to sign.
//!
//! All processes of an installation have the same keys: the first are made by whoever needs them
//! first, a rotation is one sealed version that follows another, and whoever signs opens the one
//! that is current. A token is made for one workspace, which its caller does not choose by a text,
//! and for an audience that comes from a provider's table.

mod age;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use credential::auth::AuthError;
use credential::{RegistryScope, SecretName, SecretString};
use identity_issuer::{IssuerUrl, KeyRow, KeySet, PublicKeys, configuration, external_id, subject};
use ids::WorkspaceId;
use jiff::Timestamp;
use serde_json::Value;
use token_exchange::{Clock, NodeFuture, OpenFuture, OpensCredential, TokenFuture};
use tokio::sync::Mutex as AsyncMutex;
use vault::{NewSecret, SealedVersion, Vault, VaultError, installation};

use crate::binding::Bound;
use crate::broker::{Broker, Inner};
use crate::error::{BrokerError, chain};
use crate::node_identity::{NodeIdentities, Wanting};

pub use age::{KeyLook, KeyReplacement, WhyLeft};

const NAME: &str = "issuer-keys";
const KIND: &str = "issuer-keys";
/// Who the audit log says it was that made the first keys.
const ACTOR: &str = "issuer";

/// For so long nobody looks whether another process has changed the keys. The next one is known a
/// day before it signs.
const KNOWN_FOR: Duration = Duration::from_secs(1);
/// For so long keys that could not be opened are not tried again for who reads the documents:
/// anybody may ask for them, and each try is a row in the audit log. Somebody has to mend them.
const FAILED_FOR: Duration = Duration::from_secs(30);
/// Another process can be first to make what follows a version; twice is a coincidence, and more
/// than this a loop.
const ATTEMPTS: usize = 4;

/// What clouds are told of the issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerDocuments {
    /// Where its keys are (OIDC discovery).
    pub configuration: Value,
    /// The keys (JSON Web Key Set).
    pub keys: Value,
}

/// What people are shown of the issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerReport {
    pub url: IssuerUrl,
    pub keys: Vec<KeyRow>,
    /// Since when the current key signs.
    pub signs_since: Timestamp,
    /// From when on it is old.
    pub is_old_from: Timestamp,
    /// When the documents were exported last, if somebody else hosts them since then.
    pub exported_at: Option<Timestamp>,
    /// From when on the next key may sign.
    pub next_signs_from: Option<Timestamp>,
    /// What tokens of the workspace say whose they are.
    pub subject: String,
    /// For roles that are taken on with keys.
    pub external_id: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Issuer {
    vault: Vault,
    clock: Arc<dyn Clock>,
    url: Arc<OnceLock<IssuerUrl>>,
    known: Arc<Mutex<Option<Known>>>,
    /// Whether anybody has asked this process for the documents since the last key was replaced.
    is_asked: Arc<AtomicBool>,
    /// Held by the one who looks for what is to be known.
    looking: Arc<AsyncMutex<()>>,
    /// Held by the one who makes the first keys.
    making: Arc<AsyncMutex<()>>,
}

/// What is known of the keys, and since when.
#[derive(Debug, Clone)]
struct Known {
    looked: Looked,
    at: Instant,
}

#[derive(Debug, Clone)]
enum Looked {
    /// The public halves of the version that was the current one.
    Keys(SealedVersion, Arc<PublicKeys>),
    /// Why they could not be opened.
    Failed(Arc<BrokerError>),
}

impl Known {
    /// What is answered without a look; nothing where it is time for one.
    fn answer(&self) -> Option<Result<Arc<PublicKeys>, BrokerError>> {
        let age = self.at.elapsed();
        match &self.looked {
            Looked::Keys(_, keys) if age < KNOWN_FOR => Some(Ok(Arc::clone(keys))),
            Looked::Failed(error) if age < FAILED_FOR => {
                Some(Err(BrokerError::IssuerFailed(Arc::clone(error))))
            }
            _ => None,
        }
    }
}

impl Broker {
    /// Issues identity tokens as this issuer from now on. Whoever has no URL issues none.
    pub fn issuing_as(self, url: IssuerUrl) -> Self {
        // Said once, where the broker is opened; a second word changes nothing.
        let _ = self.inner.issuer.url.set(url);
        self
    }

    /// What clouds ask for; nothing where the installation is no issuer. Whoever asks shows that
    /// this process publishes the keys.
    pub async fn issuer_documents(&self) -> Result<Option<IssuerDocuments>, BrokerError> {
        let issuer = &self.inner.issuer;
        let Some(url) = issuer.url.get() else {
            return Ok(None);
        };
        issuer.is_asked.store(true, Ordering::Relaxed);
        Ok(Some(IssuerDocuments {
            configuration: configuration(url),
            keys: issuer.public_keys().await?.to_jwks(issuer.clock.now()),
        }))
    }

    /// The issuer as this workspace needs to know it.
    pub async fn issuer(&self, workspace: WorkspaceId) -> Result<IssuerReport, BrokerError> {
        let issuer = &self.inner.issuer;
        let url = issuer.url.get().ok_or(BrokerError::NoIssuer)?;
        let keys = issuer.public_keys().await?;
        Ok(IssuerReport {
            url: url.clone(),
            keys: keys.rows(issuer.clock.now()),
            signs_since: keys.signs_since(),
            is_old_from: keys.is_old_from(),
            exported_at: issuer.exported_at().await?,
            next_signs_from: keys.next_signs_from(),
            subject: subject(workspace),
            external_id: external_id(workspace),
        })
    }

    /// Has the next key sign, and makes the one after it. Without a URL nobody knows the keys, and
    /// none are made.
    pub async fn rotate_issuer_keys(&self, actor: &str) -> Result<(), BrokerError> {
        self.inner.issuer.with_url()?.rotate(actor).await
    }

    /// Puts new keys in place of all there are, and publishes those no more: for keys that may be
    /// in wrong hands, or that nobody can read, which is why none are opened. Clouds refuse what
    /// the new ones sign until they look for keys again.
    pub async fn replace_issuer_keys(&self, actor: &str) -> Result<(), BrokerError> {
        let issuer = self.inner.issuer.with_url()?;
        for _ in 0..ATTEMPTS {
            let current = issuer.current().await?;
            let now = issuer.clock.now();
            let keys = make(move || KeySet::new(now)).await;
            match issuer.seal(current, &keys, actor).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(BrokerError::Vault(VaultError::Damaged { .. })) => {
                    return issuer.seal_anew(&keys, actor).await;
                }
                Err(error) => return Err(error),
            }
        }
        Err(BrokerError::IssuerBusy)
    }
}

impl Issuer {
    pub(crate) fn new(vault: Vault, clock: Arc<dyn Clock>) -> Self {
        Self {
            vault,
            clock,
            url: Arc::default(),
            known: Arc::default(),
            is_asked: Arc::default(),
            looking: Arc::default(),
            making: Arc::default(),
        }
    }

    /// Whether the installation has the URL of one.
    pub(crate) fn is_known(&self) -> bool {
        self.url.get().is_some()
    }

    async fn rotate(&self, actor: &str) -> Result<(), BrokerError> {
        for _ in 0..ATTEMPTS {
            let (opened, keys) = self.open("rotate").await?;
            self.note_keys(opened, &keys);
            let now = self.clock.now();
            let rotated = make(move || keys.rotated(now)).await?;
            if self.seal(Some(opened), &rotated, actor).await? {
                return Ok(());
            }
        }
        Err(BrokerError::IssuerBusy)
    }

    fn with_url(&self) -> Result<&Self, BrokerError> {
        self.url.get().map(|_| self).ok_or(BrokerError::NoIssuer)
    }

    /// A token that says to this audience that its bearer is the workspace.
    pub(crate) async fn identity_token(
        &self,
        workspace: WorkspaceId,
        audience: &str,
    ) -> Result<SecretString, AuthError> {
        let url = self.url.get().ok_or_else(no_issuer)?;
        let purpose = format!("sign for {workspace}");
        let (_, keys) = self.open(&purpose).await.map_err(of_keys)?;
        let (subject, now) = (subject(workspace), self.clock.now());
        let token = keys.identity_token(url, &subject, audience, now);
        token.map_err(|error| AuthError::Internal {
            message: format!("key of the issuer: {error}"),
        })
    }

    /// Of many who ask at once one looks, and the others have what it found.
    async fn public_keys(&self) -> Result<Arc<PublicKeys>, BrokerError> {
        if let Some(answer) = self.answer() {
            return answer;
        }
        let _turn = self.looking.lock().await;
        if let Some(answer) = self.answer() {
            return answer;
        }
        match self.look().await {
            Ok(keys) => Ok(keys),
            Err(error) => {
                let error = Arc::new(error);
                self.note(Looked::Failed(Arc::clone(&error)), Instant::now());
                Err(BrokerError::IssuerFailed(error))
            }
        }
    }

    async fn look(&self) -> Result<Arc<PublicKeys>, BrokerError> {
        let known = self.known().clone().map(|known| known.looked);
        if let Some(Looked::Keys(sealed, keys)) = known {
            let begun = Instant::now();
            if self.current().await? == Some(sealed) {
                self.note(Looked::Keys(sealed, Arc::clone(&keys)), begun);
                return Ok(keys);
            }
        }
        let (sealed, keys) = self.open("publish").await?;
        Ok(self.note_keys(sealed, &keys))
    }

    /// The current keys and their version, made where there are none.
    async fn open(&self, purpose: &str) -> Result<(SealedVersion, KeySet), BrokerError> {
        self.make_first().await?;
        let name = name();
        let opened = self.vault.open_secret(installation(), &name, None, purpose);
        let opened = opened.await.map_err(|error| match error {
            damaged @ VaultError::Damaged { .. } => BrokerError::IssuerDamaged(damaged),
            error => error.into(),
        })?;
        let sealed = SealedVersion {
            secret_id: opened.secret_id,
            version: opened.version,
        };
        Ok((sealed, KeySet::from_sealed(&opened.plaintext)?))
    }

    async fn make_first(&self) -> Result<(), BrokerError> {
        if self.current().await?.is_some() {
            return Ok(());
        }
        let _turn = self.making.lock().await;
        if self.current().await?.is_some() {
            return Ok(());
        }
        let now = self.clock.now();
        let first = make(move || KeySet::new(now)).await;
        match self.seal(None, &first, ACTOR).await {
            // Whoever was first, who opens next has what counts.
            Ok(_) => Ok(()),
            Err(BrokerError::Vault(damaged @ VaultError::Damaged { .. })) => {
                Err(BrokerError::IssuerDamaged(damaged))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether these keys follow that version now: another process may have been first.
    async fn seal(
        &self,
        after: Option<SealedVersion>,
        keys: &KeySet,
        actor: &str,
    ) -> Result<bool, BrokerError> {
        let (name, plaintext) = (name(), keys.to_sealed());
        let secret = new_secret(&name, &plaintext);
        let sealed = self.vault.put_after(installation(), after, secret, actor);
        let Some(sealed) = sealed.await? else {
            return Ok(false);
        };
        self.note_keys(sealed, keys);
        Ok(true)
    }

    /// Where what is there is so damaged that nothing can follow it.
    async fn seal_anew(&self, keys: &KeySet, actor: &str) -> Result<(), BrokerError> {
        let (name, plaintext) = (name(), keys.to_sealed());
        match self.vault.remove(installation(), &name, actor).await {
            Ok(_) | Err(VaultError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let secret = new_secret(&name, &plaintext);
        let sealed = self.vault.put(installation(), secret, actor).await?;
        self.note_keys(sealed, keys);
        Ok(())
    }

    async fn current(&self) -> Result<Option<SealedVersion>, BrokerError> {
        Ok(self.vault.current_version(installation(), &name()).await?)
    }

    fn note_keys(&self, sealed: SealedVersion, keys: &KeySet) -> Arc<PublicKeys> {
        let keys = Arc::new(keys.public());
        self.note(Looked::Keys(sealed, Arc::clone(&keys)), Instant::now());
        keys
    }

    fn note(&self, looked: Looked, at: Instant) {
        *self.known() = Some(Known { looked, at });
    }

    fn answer(&self) -> Option<Result<Arc<PublicKeys>, BrokerError>> {
        self.known().as_ref()?.answer()
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn new_secret<'a>(name: &'a SecretName, plaintext: &'a SecretString) -> NewSecret<'a> {
    NewSecret {
        name,
        kind: KIND,
        scope: "",
        plaintext,
        in_clear: None,
    }
}

/// Keys take a moment to make, in which others are to go on.
async fn make<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let made = tokio::task::spawn_blocking(work).await;
    made.expect("making a key does not panic")
}

/// A workspace's credential that is open already.
#[derive(Debug)]
struct OpenCredential {
    bound: Bound,
    workspace: WorkspaceId,
    scope: RegistryScope,
    issuer: Issuer,
    nodes: NodeIdentities,
}

impl OpensCredential for OpenCredential {
    fn open(&self) -> OpenFuture<'_> {
        Box::pin(async { Ok(self.bound.credential.clone()) })
    }

    fn identity_token<'a>(&'a self, audience: &'a str) -> TokenFuture<'a> {
        Box::pin(self.issuer.identity_token(self.workspace, audience))
    }

    fn external_id(&self) -> Option<String> {
        Some(external_id(self.workspace))
    }

    fn node_identity<'a>(&'a self, name: &'a str) -> NodeFuture<'a> {
        let wanting = Wanting {
            workspace: self.workspace,
            scope: &self.scope,
            settings: &self.bound.settings,
        };
        Box::pin(self.nodes.granted(name, wanting))
    }
}

impl Inner {
    /// An open credential, as this workspace shows it.
    pub(crate) fn identity(
        &self,
        workspace: WorkspaceId,
        scope: &RegistryScope,
        bound: Bound,
    ) -> Arc<dyn OpensCredential> {
        Arc::new(OpenCredential {
            bound,
            workspace,
            scope: scope.clone(),
            issuer: self.issuer.clone(),
            nodes: self.nodes.clone(),
        })
    }
}

fn name() -> SecretName {
    SecretName::parse(NAME).expect("it has the form of a name")
}

fn no_issuer() -> AuthError {
    AuthError::Refused {
        message: "it has no secret, and this installation issues no identity tokens; set `url` \
                  under `[issuer]` in the configuration, and see `holdfast issuer show`"
            .to_owned(),
    }
}

fn of_keys(error: BrokerError) -> AuthError {
    let message = format!("keys of the issuer: {}", chain(&error));
    match error {
        // It works again when there is room, as what cannot be reached may.
        error if error.is_disk_full() => AuthError::Unreachable { message },
        _ => AuthError::Internal { message },
    }
}

#[cfg(test)]
mod tests;
