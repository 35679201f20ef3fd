//! The exchange: sources of auth for identities, over one cache.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use credential::auth::{
    AuthError, AuthFuture, AuthRequest, AuthSource, BlobLocation, LocationFuture, LocationRequest,
    Pieces, ReadError, ReadFrom, ReadFuture, ReadRequest, RegistryAuth, Rejection,
};
use dial::Dialer;
use futures::StreamExt;
use jiff::Timestamp;
use reference::Registry;
use registry_client::{Endpoint, RegistryError};

use crate::clock::Clock;
use crate::clouds::Clouds;
use crate::flight::{Outcome, Slot, Wanted};
use crate::handout::{self, UserPassword};
use crate::identity::Identity;
use crate::login::Login;
use crate::mint::{Mint, Minted, from_registry, from_registry_read};
use crate::proof::{self, Proof};
use crate::refused::Refused;
use crate::rung::Rung;

/// A login that nobody has used for so long is forgotten, and its credential with it.
const IDLE_LIFE: Duration = Duration::from_mins(10);

/// Logins held at once. A login is small; the bound is against a leak, not against use.
const MAX_LOGINS: usize = 4096;

/// Turns credentials into registry auth. Clones share one cache.
#[derive(Clone)]
pub struct TokenExchange(Arc<Inner>);

struct Inner {
    dialer: Dialer,
    mint: Arc<Mint>,
    logins: Mutex<HashMap<LoginKey, Arc<Login>>>,
}

/// What a token may be shared by: the same identity at the same registry, reached the same way.
#[derive(Clone, PartialEq, Eq, Hash)]
struct LoginKey {
    identity: String,
    token_service: Option<String>,
    endpoint: Endpoint,
}

impl TokenExchange {
    pub fn new(dialer: Dialer, clock: Arc<dyn Clock>) -> Self {
        Self::trusting_for_clouds(dialer, clock, None)
    }

    /// The same, with an authority that is trusted for the clouds' own services besides the
    /// system's.
    pub fn trusting_for_clouds(
        dialer: Dialer,
        clock: Arc<dyn Clock>,
        ca_pem: Option<Vec<u8>>,
    ) -> Self {
        let clouds = Clouds::new(dialer.clone(), Arc::clone(&clock), ca_pem);
        let mint = Arc::new(Mint::new(clock, clouds));
        Self(Arc::new(Inner {
            dialer,
            mint,
            logins: Mutex::default(),
        }))
    }

    /// A source of auth for one registry. Sources of one identity share tokens, however often they
    /// are made.
    pub fn source(&self, endpoint: Endpoint, identity: Identity) -> Arc<Source> {
        let login = self.login(endpoint, identity);
        Arc::new(Source {
            login,
            mint: Arc::clone(&self.0.mint),
        })
    }

    /// Asks the registry now, past every cache, whether it takes the credential, and for
    /// `repository`, when one is given.
    pub async fn check(
        &self,
        endpoint: Endpoint,
        identity: Identity,
        repository: Option<&str>,
    ) -> Result<Proof, AuthError> {
        let login = Arc::new(Login::new(self.0.dialer.clone(), endpoint, identity));
        proof::check(&self.0.dialer, &self.0.mint, login, repository).await
    }

    /// What a program of others that logs in by itself is given for this registry.
    pub async fn user_password(
        &self,
        endpoint: Endpoint,
        identity: Identity,
    ) -> Result<UserPassword, AuthError> {
        let login = Login::new(self.0.dialer.clone(), endpoint, identity);
        handout::user_password(&self.0.mint.clouds, &login).await
    }

    /// Forgets an identity's tokens, such as when its credential is removed.
    pub fn forget(&self, identity_key: &str) {
        self.0
            .logins()
            .retain(|key, _| key.identity != identity_key);
    }

    /// Requests sent to token services so far.
    pub fn token_requests(&self) -> u64 {
        self.0.mint.token_requests.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for TokenExchange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TokenExchange")
            .field("token_requests", &self.token_requests())
            .finish_non_exhaustive()
    }
}

impl TokenExchange {
    fn login(&self, endpoint: Endpoint, identity: Identity) -> Arc<Login> {
        let key = LoginKey {
            identity: identity.key.clone(),
            token_service: identity.token_service.clone(),
            endpoint: endpoint.clone(),
        };
        let mut logins = self.0.logins();
        if let Some(login) = logins.get(&key) {
            login.touch();
            return Arc::clone(login);
        }
        if logins.len() >= MAX_LOGINS {
            // What others are using stays.
            let longest_unused = logins.values().map(|login| login.used()).min();
            logins.retain(|_, login| Some(login.used()) != longest_unused);
        }
        let login = Arc::new(Login::new(self.0.dialer.clone(), endpoint, identity));
        logins.insert(key.clone(), Arc::clone(&login));
        let (inner, own) = (Arc::downgrade(&self.0), Arc::downgrade(&login));
        tokio::spawn(forget_when_idle(inner, key, own));
        login
    }
}

impl Inner {
    fn logins(&self) -> MutexGuard<'_, HashMap<LoginKey, Arc<Login>>> {
        self.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Also where nobody asks for anything any more. Another login under the key has its own.
async fn forget_when_idle(inner: Weak<Inner>, key: LoginKey, own: Weak<Login>) {
    let mut look_in = IDLE_LIFE;
    loop {
        tokio::time::sleep(look_in).await;
        let Some(inner) = inner.upgrade() else {
            return;
        };
        let mut logins = inner.logins();
        let found = logins.get(&key);
        let Some(login) = found.filter(|login| Arc::as_ptr(login) == own.as_ptr()) else {
            return;
        };
        look_in = IDLE_LIFE.saturating_sub(login.used().elapsed());
        if look_in.is_zero() {
            logins.remove(&key);
            return;
        }
    }
}

/// One identity at one registry, as a registry client sees it.
#[derive(Debug)]
pub struct Source {
    login: Arc<Login>,
    mint: Arc<Mint>,
}

/// An auth, and how much is in it.
#[derive(Debug, Clone)]
pub struct Vended {
    pub auth: RegistryAuth,
    pub rung: Rung,
}

impl AuthSource for Source {
    fn auth<'a>(&'a self, request: AuthRequest<'a>) -> AuthFuture<'a> {
        Box::pin(async move { Ok(self.vend(request).await?.auth) })
    }

    fn location<'a>(&'a self, request: LocationRequest<'a>) -> LocationFuture<'a> {
        Box::pin(async move {
            let found = self.locate(request).await?;
            Ok(found.map_or(ReadFrom::Registry, ReadFrom::Location))
        })
    }

    fn read<'a>(&'a self, request: ReadRequest<'a>) -> ReadFuture<'a> {
        Box::pin(self.read_range(request))
    }
}

/// A login's own reader, which the login keeps: it must not keep the login in turn.
#[derive(Debug)]
struct OwnReader {
    login: Weak<Login>,
    mint: Arc<Mint>,
}

impl AuthSource for OwnReader {
    fn auth<'a>(&'a self, request: AuthRequest<'a>) -> AuthFuture<'a> {
        Box::pin(async move {
            let login = self.login.upgrade().ok_or_else(|| AuthError::Internal {
                message: "the login was forgotten while it was read with".to_owned(),
            })?;
            let mint = Arc::clone(&self.mint);
            Ok(Source { login, mint }.vend(request).await?.auth)
        })
    }
}

impl Source {
    /// The auth to use now.
    pub async fn vend(&self, request: AuthRequest<'_>) -> Result<Vended, AuthError> {
        self.check_registry(request.registry)?;
        self.login.touch();
        let slot = self.login.slot(request.repository);
        match request.rejected {
            None => self.current(&slot, request.repository).await,
            Some(rejection) => self.renewed(&slot, request.repository, rejection).await,
        }
    }

    /// Where the storage behind the registry has a blob, asked once for all readers of the login.
    pub async fn locate(
        &self,
        request: LocationRequest<'_>,
    ) -> Result<Option<BlobLocation>, AuthError> {
        self.check_registry(request.registry)?;
        self.login.touch();
        let reader = self.login.reader(self.own_reader())?;
        let (repository, digest) = (request.repository, request.digest);
        match reader
            .blob_location(repository, digest, request.refused)
            .await
        {
            Ok(location) => Ok(location),
            // Its reader is told so by the registry itself.
            Err(RegistryError::NotFound { .. }) => Ok(None),
            Err(error) => Err(from_registry(error)),
        }
    }

    /// Reads in place of who has no auth.
    async fn read_range(&self, request: ReadRequest<'_>) -> Result<Pieces, ReadError> {
        self.check_registry(request.registry)?;
        let (repository, digest, size) = (request.repository, request.digest, request.size_bytes);
        self.login.touch();
        let reader = self.login.reader_for_others(self.own_reader())?;
        let pieces = reader.blob_range_stream(repository, digest, size, request.range);
        let pieces = pieces.await.map_err(from_registry_read)?;
        // What is under way goes on though the login is forgotten meanwhile.
        let login = Arc::clone(&self.login);
        Ok(Box::pin(pieces.map(move |piece| {
            login.touch();
            piece.map_err(from_registry_read)
        })))
    }

    fn own_reader(&self) -> OwnReader {
        OwnReader {
            login: Arc::downgrade(&self.login),
            mint: Arc::clone(&self.mint),
        }
    }

    async fn current(
        &self,
        slot: &Arc<Slot<Minted>>,
        repository: &str,
    ) -> Result<Vended, AuthError> {
        let clock = &self.mint.clock;
        let refusal = self.login.refusal(clock.now());
        let minting = self.minting(repository, None);
        let minted = slot.current(clock, refusal, minting).await?;
        Ok(minted.vended())
    }

    fn check_registry(&self, asking: &Registry) -> Result<(), AuthError> {
        let own = &self.login.endpoint.registry;
        if asking == own {
            return Ok(());
        }
        let message = format!("a credential for {own} was asked for by {asking}");
        Err(AuthError::Refused { message })
    }

    async fn renewed(
        &self,
        slot: &Arc<Slot<Minted>>,
        repository: &str,
        rejection: Rejection,
    ) -> Result<Vended, AuthError> {
        let clock = &self.mint.clock;
        let now = clock.now();
        let previous = slot.last();
        if let Some(held) = &previous {
            let newer = held.life.serial != rejection.serial && held.life.is_alive(now);
            if newer || !may_renew(held, &rejection, now) {
                return Ok(held.vended());
            }
        }
        slot.drop_refused(rejection.serial);
        if let Some(error) = self.login.refusal(now).or_else(|| slot.refusal(now)) {
            return Err(error);
        }
        let wanted = Wanted::OtherThan(rejection.serial);
        let refused = Refused {
            rejection,
            previous,
        };
        let minting = self.minting(repository, Some(refused));
        Ok(slot.join(clock, wanted, minting).await?.vended())
    }

    fn minting(
        &self,
        repository: &str,
        refused: Option<Refused>,
    ) -> impl Future<Output = Outcome<Minted>> + Send + use<> {
        let (mint, login) = (Arc::clone(&self.mint), Arc::clone(&self.login));
        let repository = repository.to_owned();
        async move { mint.mint(&login, &repository, refused).await }
    }
}

/// Whether this refusal can be helped by minting. One without a challenge may only mean "no", and
/// another process may say so for ever: neither wears out a token that is young, nor a password.
fn may_renew(held: &Minted, rejection: &Rejection, now: Timestamp) -> bool {
    let is_told = rejection.is_about_auth() || !rejection.challenges.is_empty();
    (is_told && !rejection.is_hearsay) || held.life.may_help(now)
}

#[cfg(test)]
mod tests {
    use credential::Credential;
    use dial::DialPolicy;

    use super::*;
    use crate::clock::SystemClock;

    #[tokio::test(start_paused = true)]
    async fn a_login_that_nobody_uses_is_forgotten_with_its_credential() {
        let dialer = Dialer::new(DialPolicy::default());
        let exchange = TokenExchange::new(dialer, Arc::new(SystemClock));
        let source = |key: &str| {
            let identity = Identity {
                key: key.to_owned(),
                credential: Arc::new(Credential::public()),
                token_service: None,
            };
            let registry = Registry::parse("localhost:5000").unwrap();
            exchange.source(Endpoint::new(registry), identity)
        };
        drop((source("used"), source("idle")));
        tokio::time::sleep(IDLE_LIFE / 2).await;
        drop(source("used"));
        tokio::time::sleep(IDLE_LIFE * 2 / 3).await;
        let left: Vec<_> = exchange.0.logins().keys().cloned().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].identity, "used");
        tokio::time::sleep(IDLE_LIFE).await;
        assert!(exchange.0.logins().is_empty());
    }
}
