//! A lease: what one reader of one image asks for its auth, for as long as it reads.
//!
//! Every question begins with the current version of the secret, one indexed read of a table that
//! other processes write: a rotation is followed at the next question and a removal ends the lease
//! there, whatever token is still held. Tokens are held until shortly before their end, and all
//! leases on one version share them, so that the secret is opened to mint and not to answer. What
//! is given to its reader is on record before it is given, and is no more than a worker may hold;
//! what this process reads with itself stays here. Two that hold one lease lose it both: which of
//! them is the copy cannot be told, and the first to ask may well be that. What a registry refuses
//! is minted anew once; a refusal of the newest version is the caller's to wait out.

mod blobs;
mod following;
mod held;
mod least;
mod own;
mod reader;
mod row;
mod sealed;
mod stamps;

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use control_store::{GrantOutcome, GrantProof, NewGrant, ProvenVersion, RegistrySettings};
use credential::auth::{
    AuthError, AuthFuture, AuthRequest, AuthSource, LocationFuture, LocationRequest, ReadFuture,
    ReadRequest, RegistryAuth, Rejection,
};
use credential::{Credential, RegistryScope, SecretName};
use ids::{LeaseId, SecretId, WorkspaceId};
use jiff::Timestamp;
use reference::{Digest, Reference, Registry};
use registry_client::Endpoint;
use token_exchange::{Identity, Rung, Source, Vended};
use vault::{AfterRemoval, SealedVersion};

use crate::broker::{Broker, Holders, Inner, endpoint, identity_key_of};
use crate::error::{BrokerError, about};
use crate::explain::choose;
use held::Held;
use row::{Gift, Row};
use sealed::SealedCredential;
use stamps::Stamps;

pub use reader::LeaseReader;

/// Which credential a reader wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CredentialChoice {
    /// The most specific that covers the image; anonymous where there is none.
    #[default]
    Auto,
    /// This one, which must cover the image.
    Scope(RegistryScope),
    /// Anonymous, whatever is stored.
    None,
}

/// What one reader of one image reads with.
pub struct Lease {
    pub(crate) broker: Arc<Inner>,
    pub(crate) workspace: WorkspaceId,
    image: Reference,
    reader: LeaseReader,
    stamps: Mutex<Stamps>,
    /// Two have held it.
    is_copied: AtomicBool,
    /// Whether the audit log has that.
    is_alarm_noted: tokio::sync::Mutex<bool>,
    endpoint: Endpoint,
    holder: Holder,
    shown: Mutex<Shown>,
}

/// Whose auth it is.
enum Holder {
    Anonymous(Arc<Source>),
    Secret(Box<SecretHolder>),
}

struct SecretHolder {
    scope: RegistryScope,
    name: SecretName,
    secret_id: SecretId,
    settings: Mutex<Settings>,
    state: tokio::sync::Mutex<State>,
}

/// What the registry is spoken to with, which the lease keeps, and whether workers may hold the
/// credential, which is as the version has it.
struct Settings {
    /// The version that this was looked up for; none where it is to be looked up anew.
    version: Option<u32>,
    registry: RegistrySettings,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asker {
    /// This process, which could open the secret: nothing leaves it.
    Own,
    /// The lease's reader, which is another process, perhaps on another machine.
    Reader,
}

/// What changes as questions are answered.
struct State {
    row: Row,
    held: Held,
    /// Its reader is gone: who asks for it still gets nothing.
    is_over: bool,
}

/// What people may see of a lease.
#[derive(Debug, Clone, Copy, Default)]
struct Shown {
    lease: Option<LeaseId>,
    version: Option<u32>,
    rung: Option<Rung>,
    not_after: Option<Timestamp>,
}

impl Broker {
    /// A lease on an image for this process.
    pub async fn lease(
        &self,
        workspace: WorkspaceId,
        image: &Reference,
        choice: CredentialChoice,
    ) -> Result<Lease, BrokerError> {
        let reader = LeaseReader::own();
        self.lease_for(reader, workspace, image, choice).await
    }

    /// A lease on an image. Nothing is opened and nobody asked until the first question.
    pub async fn lease_for(
        &self,
        reader: LeaseReader,
        workspace: WorkspaceId,
        image: &Reference,
        choice: CredentialChoice,
    ) -> Result<Lease, BrokerError> {
        let broker = &self.inner;
        let rows = match choice {
            CredentialChoice::None => Vec::new(),
            _ => broker.credentials(workspace).await?,
        };
        let row = match &choice {
            CredentialChoice::None => None,
            CredentialChoice::Auto => choose(&rows, image),
            CredentialChoice::Scope(scope) => {
                check_covers(scope, image)?;
                let row = rows.iter().find(|row| row.scope == *scope);
                Some(row.ok_or_else(|| BrokerError::NoCredential {
                    scope: scope.clone(),
                })?)
            }
        };
        let Some(row) = row else {
            return anonymous(broker, reader, workspace, image).await;
        };
        let settings = broker.settings_of(workspace, &row.scope).await?;
        let holder = SecretHolder {
            scope: row.scope.clone(),
            name: row.scope.secret_name(),
            secret_id: row.secret_id,
            settings: Mutex::new(Settings {
                version: Some(row.version),
                registry: settings.clone(),
            }),
            state: tokio::sync::Mutex::new(State {
                row: Row::of_version(row.version),
                held: Held::default(),
                is_over: false,
            }),
        };
        let lease = Lease {
            broker: Arc::clone(broker),
            workspace,
            image: image.clone(),
            reader,
            stamps: Mutex::default(),
            is_copied: AtomicBool::new(false),
            is_alarm_noted: tokio::sync::Mutex::default(),
            endpoint: endpoint(image.registry(), &settings),
            holder: Holder::Secret(Box::new(holder)),
            shown: Mutex::default(),
        };
        lease.begin().await?;
        Ok(lease)
    }

    /// Records that a workspace may run an image, after the registry has answered for it with
    /// what this lease gave. A proof by a version that is no longer current proves nothing.
    pub async fn record_proof(
        &self,
        lease: &Lease,
        image_id: &Digest,
    ) -> Result<GrantOutcome, BrokerError> {
        let Some(proof) = lease.proof().await? else {
            return Ok(GrantOutcome::Superseded);
        };
        let grant = NewGrant {
            image_id: image_id.clone(),
            origin: lease.origin(),
            proof,
        };
        let store = &self.inner.store;
        Ok(store.record_grant(lease.workspace, &grant).await?)
    }
}

impl Lease {
    /// How to reach the registry that this lease is for.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub fn image(&self) -> &Reference {
        &self.image
    }

    /// Registry, how it is trusted, and repository.
    pub fn origin(&self) -> String {
        self.endpoint.origin(self.image.repository())
    }

    /// Who alone may read with it.
    pub fn reader(&self) -> &LeaseReader {
        &self.reader
    }

    /// The secret that is read with; absent where the pull is anonymous.
    pub fn secret_id(&self) -> Option<SecretId> {
        match &self.holder {
            Holder::Anonymous(_) => None,
            Holder::Secret(holder) => Some(holder.secret_id),
        }
    }

    /// The scope whose credential is used; absent where the pull is anonymous.
    pub fn scope(&self) -> Option<&RegistryScope> {
        match &self.holder {
            Holder::Anonymous(_) => None,
            Holder::Secret(holder) => Some(&holder.scope),
        }
    }

    /// The version that was used last.
    pub fn version(&self) -> Option<u32> {
        self.shown().version
    }

    /// The rung of the ladder that was used last; absent before the first question.
    pub fn rung(&self) -> Option<Rung> {
        self.shown().rung
    }

    /// When the auth that was given last ends.
    pub fn not_after(&self) -> Option<Timestamp> {
        self.shown().not_after
    }

    /// The version that the next question is answered with; nothing where the pull is anonymous.
    pub async fn current_version(&self) -> Result<Option<ProvenVersion>, BrokerError> {
        let Holder::Secret(holder) = &self.holder else {
            return Ok(None);
        };
        let current = self.current(holder).await;
        let current = current.map_err(|source| BrokerError::Auth {
            scope: holder.scope.clone(),
            source,
        })?;
        Ok(Some(ProvenVersion {
            secret_id: current.secret_id,
            version: current.version,
        }))
    }

    /// What the registry's answers prove, for the grant; nothing when the version that was used
    /// is no longer the current one.
    pub async fn proof(&self) -> Result<Option<GrantProof>, BrokerError> {
        let Some(current) = self.current_version().await? else {
            return Ok(Some(GrantProof::Anonymous));
        };
        let used = self.version();
        Ok((used == Some(current.version)).then_some(GrantProof::Credential(current)))
    }

    /// What is to become of who reads with it, where its credential was removed with such a word.
    pub async fn called_off(&self) -> Result<Option<AfterRemoval>, BrokerError> {
        let Some(secret) = self.secret_id() else {
            return Ok(None);
        };
        let called_off = self.broker.vault.called_off().await?;
        let own = called_off.into_iter().find(|(id, _)| *id == secret);
        Ok(own.map(|(_, then)| then))
    }

    /// Ends the lease, which may retire the version it was on. What is dropped without this ends
    /// with its process, or by the clock.
    pub async fn end(&self) -> Result<(), BrokerError> {
        if let Holder::Secret(holder) = &self.holder {
            let mut state = holder.state.lock().await;
            state.held = Held::default();
            state.is_over = true;
            if let Some(lease) = state.row.take() {
                self.broker.vault.end_lease(lease).await?;
            }
        }
        Ok(())
    }

    async fn begin(&self) -> Result<(), BrokerError> {
        let Holder::Secret(holder) = &self.holder else {
            return Ok(());
        };
        let mut state = holder.state.lock().await;
        let followed = self.follow(holder, &mut state).await;
        followed
            .map(|_current| ())
            .map_err(|source| BrokerError::Auth {
                scope: holder.scope.clone(),
                source,
            })
    }

    async fn answer(
        &self,
        asker: Asker,
        request: AuthRequest<'_>,
    ) -> Result<RegistryAuth, AuthError> {
        self.check_origin(request.registry, request.repository)?;
        self.check_sole().await?;
        match &self.holder {
            Holder::Anonymous(source) => {
                let Vended { auth, rung } = source.vend(request).await?;
                self.show(None, rung, auth.not_after);
                Ok(auth)
            }
            Holder::Secret(holder) => self.answer_sealed(holder, asker, request).await,
        }
    }

    async fn answer_sealed(
        &self,
        holder: &SecretHolder,
        asker: Asker,
        request: AuthRequest<'_>,
    ) -> Result<RegistryAuth, AuthError> {
        // Before waiting for a mint that may be slow: a removal is not to wait for it.
        self.current(holder).await?;
        let mut state = holder.state.lock().await;
        let current = self.follow(holder, &mut state).await?;
        let now = self.broker.clock.now();
        if let Some(held) = state.held.answer(request.rejected.as_ref(), now) {
            self.give_auth(holder, asker, &mut state, current, &held)
                .await?;
            self.show(Some(current.version), held.rung, held.auth.not_after);
            return Ok(held.auth);
        }
        let rejected = state.held.own(request.rejected);
        let vended = self.vend(holder, current, rejected).await;
        let (vended, current) = match vended {
            // The version may have been replaced because it stopped working.
            Err(error @ (AuthError::BadCredential { .. } | AuthError::NoPermission { .. })) => {
                let newer = self.follow(holder, &mut state).await?;
                if newer == current {
                    self.note_failure(current, &error).await;
                    return Err(error);
                }
                (self.vend(holder, newer, None).await, newer)
            }
            vended => (vended, current),
        };
        let vended = vended?;
        self.give_auth(holder, asker, &mut state, current, &vended)
            .await?;
        // Removed while it was minted: then nobody gets it.
        self.current(holder).await?;
        self.show(Some(current.version), vended.rung, vended.auth.not_after);
        state.held.keep(&vended, self.broker.clock.now());
        Ok(vended.auth)
    }

    /// Has on record what leaves this process, and refuses what may not.
    async fn give_auth(
        &self,
        holder: &SecretHolder,
        asker: Asker,
        state: &mut State,
        current: SealedVersion,
        vended: &Vended,
    ) -> Result<(), AuthError> {
        if asker == Asker::Own {
            return Ok(());
        }
        self.check_may_hold(holder, vended.rung)?;
        let gift = Gift {
            rung: vended.rung,
            not_after: vended.auth.not_after,
        };
        self.give(holder, state, current, gift).await
    }

    /// Something to read with, minted from this version by whoever of its readers came first.
    async fn vend(
        &self,
        holder: &SecretHolder,
        current: SealedVersion,
        rejected: Option<Rejection>,
    ) -> Result<Vended, AuthError> {
        let request = AuthRequest {
            registry: self.image.registry(),
            repository: self.image.repository(),
            rejected,
        };
        let vended = self.source(holder, current).vend(request).await;
        vended.map_err(|error| about_version(error, holder, current))
    }

    /// All leases on a version have the same source.
    fn source(&self, holder: &SecretHolder, current: SealedVersion) -> Arc<Source> {
        let settings = lock(&holder.settings).registry.clone();
        let identity_key = identity_key_of(self.workspace, current, Holders::by(&settings));
        let token_service = settings.token_service.clone();
        let credential = SealedCredential {
            vault: self.broker.vault.clone(),
            issuer: self.broker.issuer.clone(),
            nodes: self.broker.nodes.clone(),
            workspace: self.workspace,
            scope: holder.scope.clone(),
            name: holder.name.clone(),
            sealed: current,
            settings,
        };
        let identity = Identity {
            key: identity_key,
            credential: Arc::new(credential),
            token_service,
        };
        self.broker.exchange.source(self.endpoint.clone(), identity)
    }

    /// For `credentials list`. The reader's own answer does not depend on it.
    async fn note_failure(&self, sealed: SealedVersion, error: &AuthError) {
        let noted = self.broker.note_failure(self.workspace, sealed, error);
        if let Err(error) = noted.await {
            tracing::warn!(%error, "a refusal could not be noted");
        }
    }

    fn check_origin(&self, registry: &Registry, repository: &str) -> Result<(), AuthError> {
        if registry == self.image.registry() && repository == self.image.repository() {
            return Ok(());
        }
        Err(AuthError::Refused {
            message: format!(
                "a lease on {} was asked for auth to {registry}/{repository}",
                self.origin(),
            ),
        })
    }

    fn show(&self, version: Option<u32>, rung: Rung, not_after: Option<Timestamp>) {
        let mut shown = lock(&self.shown);
        shown.version = version;
        shown.rung = Some(rung);
        shown.not_after = not_after;
    }

    fn shown(&self) -> Shown {
        *lock(&self.shown)
    }
}

/// What the lease's reader is given: no more than a worker may hold.
impl AuthSource for Lease {
    fn auth<'a>(&'a self, request: AuthRequest<'a>) -> AuthFuture<'a> {
        Box::pin(self.answer(Asker::Reader, request))
    }

    fn location<'a>(&'a self, request: LocationRequest<'a>) -> LocationFuture<'a> {
        Box::pin(self.locate(request))
    }

    fn read<'a>(&'a self, request: ReadRequest<'a>) -> ReadFuture<'a> {
        Box::pin(self.read_through(request))
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.shown();
        formatter
            .debug_struct("Lease")
            .field("image", &self.image.canonical())
            .field("scope", &self.scope().map(ToString::to_string))
            .field("version", &shown.version)
            .field("rung", &shown.rung)
            .finish_non_exhaustive()
    }
}

async fn anonymous(
    broker: &Arc<Inner>,
    reader: LeaseReader,
    workspace: WorkspaceId,
    image: &Reference,
) -> Result<Lease, BrokerError> {
    let settings = broker.anonymous_settings(workspace, image).await?;
    let endpoint = endpoint(image.registry(), &settings);
    let identity = Identity {
        key: format!("{workspace}/anonymous"),
        credential: Arc::new(Credential::public()),
        token_service: settings.token_service,
    };
    let source = broker.exchange.source(endpoint.clone(), identity);
    Ok(Lease {
        broker: Arc::clone(broker),
        workspace,
        image: image.clone(),
        reader,
        stamps: Mutex::default(),
        is_copied: AtomicBool::new(false),
        is_alarm_noted: tokio::sync::Mutex::default(),
        endpoint,
        holder: Holder::Anonymous(source),
        shown: Mutex::default(),
    })
}

fn about_version(error: AuthError, holder: &SecretHolder, sealed: SealedVersion) -> AuthError {
    // A version is sealed just before its settings stand: the next question looks again.
    lock(&holder.settings).version = None;
    let (scope, version) = (&holder.scope, sealed.version);
    about(error, &format!("credential for {scope}, version {version}"))
}

fn check_covers(scope: &RegistryScope, image: &Reference) -> Result<(), BrokerError> {
    if scope.covers(image.registry(), image.repository()) {
        return Ok(());
    }
    Err(BrokerError::OtherScope {
        scope: scope.clone(),
        image: image.canonical(),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
