//! Minting: from a credential and a demand to something to send.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use credential::CredentialKind;
use credential::auth::{AuthError, AuthScheme, RegistryAuth, Rejection};
use jiff::Timestamp;
use registry_client::{Challenge, RegistryError, challenge};

use crate::clock::Clock;
use crate::demand::{self, Demand, TokenDemand};
use crate::flight::{Minted, Outcome};
use crate::login::{Door, Login};
use crate::realm;
use crate::wire::{self, Asker};

/// What all mintings of a process share.
#[derive(Debug)]
pub(crate) struct Mint {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) token_requests: AtomicU64,
    serial: AtomicU64,
}

/// What was sent before and how it was refused.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) rejection: Rejection,
    pub(crate) previous: Option<Minted>,
}

impl Mint {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            token_requests: AtomicU64::new(0),
            serial: AtomicU64::new(1),
        }
    }

    /// Something to send for this repository; for the registry's door when it is empty.
    pub(crate) async fn mint(
        &self,
        login: &Login,
        repository: &str,
        refused: Option<Refused>,
    ) -> Outcome {
        let outcome = self.try_mint(login, repository, refused).await;
        if let Err(error) = &outcome {
            login.remember_refusal(error, self.clock.now());
        }
        outcome
    }

    async fn try_mint(&self, login: &Login, repository: &str, refused: Option<Refused>) -> Outcome {
        check_kind(login)?;
        let door = login.door()?;
        let Some(refused) = refused else {
            let demand = known_demand(login, &door).await?;
            return self.satisfy(login, &door, &demand, repository).await;
        };
        let challenges = challenge::parse(refused.rejection.challenges.iter().map(String::as_str));
        let demand = match demand::read(refused.rejection.status, &challenges) {
            _ if refused.rejection.is_hearsay => asked_demand(login, &door, &refused).await?,
            Some(demand) => {
                login.remember_demand(&without_scope(&demand));
                demand
            }
            None => known_demand(login, &door).await?,
        };
        check_worth_trying(login, &demand, repository, &refused, &challenges)?;
        self.satisfy(login, &door, &demand, repository).await
    }

    async fn satisfy(
        &self,
        login: &Login,
        door: &Door,
        demand: &Demand,
        repository: &str,
    ) -> Outcome {
        let credential = &login.identity.credential;
        if let Some(token) = credential.bearer() {
            let end = credential.not_after();
            return Ok(self.minted(AuthScheme::Bearer(token.clone()), end, None));
        }
        match demand {
            Demand::Nothing => Ok(self.minted(AuthScheme::Anonymous, None, None)),
            Demand::Basic => self.basic(login),
            Demand::Token(demand) => self.token(login, door, demand, repository).await,
        }
    }

    fn basic(&self, login: &Login) -> Outcome {
        let credential = &login.identity.credential;
        match Asker::of(credential) {
            Some(Asker::Password { username, password }) => {
                let (username, password) = (username.to_owned(), password.clone());
                let scheme = AuthScheme::Basic { username, password };
                Ok(self.minted(scheme, credential.not_after(), None))
            }
            Some(Asker::IdentityToken(_)) => Err(AuthError::Refused {
                message: format!(
                    "{} wants a password; an identity token is for token services only",
                    login.endpoint.registry
                ),
            }),
            Some(Asker::Anonymous) | None => Ok(self.minted(AuthScheme::Anonymous, None, None)),
        }
    }

    async fn token(
        &self,
        login: &Login,
        door: &Door,
        demand: &TokenDemand,
        repository: &str,
    ) -> Outcome {
        let scope = wanted_scope(demand, repository);
        let base = door.registry.base_url().await.map_err(from_registry)?;
        let allowed = login.identity.token_service.as_deref();
        let realm = realm::judge(&login.endpoint, &base, &demand.realm, allowed)?;
        let asker = Asker::of(&login.identity.credential).ok_or_else(|| unsupported(login))?;
        let now = self.clock.now();
        self.token_requests.fetch_add(1, Ordering::Relaxed);
        let token = wire::ask(&door.http, &realm, demand, scope.as_deref(), asker, now).await?;
        let scope = Some(scope.unwrap_or_default());
        Ok(self.minted(
            AuthScheme::Bearer(token.secret),
            Some(token.not_after),
            scope,
        ))
    }

    fn minted(
        &self,
        scheme: AuthScheme,
        not_after: Option<Timestamp>,
        scope: Option<String>,
    ) -> Minted {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let auth = RegistryAuth {
            scheme,
            not_after,
            serial,
        };
        Minted {
            auth,
            since: self.clock.now(),
            scope,
            chance: chance(),
        }
    }
}

/// From 0 up to 1. Nothing secret hangs on it.
fn chance() -> f64 {
    let hash = RandomState::new().hash_one(());
    f64::from((hash >> 32) as u32) / f64::from(u32::MAX)
}

/// The scope to ask for: the challenge's own words where it was about this repository, since some
/// registries know it by another name than their users.
fn wanted_scope(demand: &TokenDemand, repository: &str) -> Option<String> {
    if repository.is_empty() {
        return None;
    }
    demand
        .scope
        .clone()
        .or_else(|| Some(format!("repository:{repository}:pull")))
}

/// What is remembered for all repositories must not name one.
fn without_scope(demand: &Demand) -> Demand {
    match demand {
        Demand::Token(token) => Demand::Token(TokenDemand {
            scope: None,
            ..token.clone()
        }),
        other => other.clone(),
    }
}

/// The demand as last seen, or as the registry's door says now.
async fn known_demand(login: &Login, door: &Door) -> Result<Demand, AuthError> {
    if let Some(demand) = login.demand() {
        return Ok(demand);
    }
    let demand = ask_door(login, door).await?;
    login.remember_demand(&demand);
    Ok(demand)
}

/// The demand as the registry's door says now, where another process says that it has changed: that
/// one may want a password where a token would do, or another repository's. The name that the
/// registry has for this repository is kept.
async fn asked_demand(login: &Login, door: &Door, refused: &Refused) -> Result<Demand, AuthError> {
    let mut demand = ask_door(login, door).await?;
    login.remember_demand(&demand);
    if let Demand::Token(token) = &mut demand {
        let previous = refused.previous.as_ref();
        let scope = previous.and_then(|minted| minted.scope.clone());
        token.scope = scope.filter(|scope| !scope.is_empty());
    }
    Ok(demand)
}

pub(crate) async fn ask_door(login: &Login, door: &Door) -> Result<Demand, AuthError> {
    let ping = door.registry.ping().await.map_err(from_registry)?;
    demand::read(ping.status, &ping.challenges)
        .map(|demand| without_scope(&demand))
        .ok_or_else(|| AuthError::Refused {
            message: format!(
                "{} answers status {} and asks for no login that is known",
                login.endpoint.registry, ping.status
            ),
        })
}

/// Whether sending something again could help at all.
fn check_worth_trying(
    login: &Login,
    demand: &Demand,
    repository: &str,
    refused: &Refused,
    challenges: &[Challenge],
) -> Result<(), AuthError> {
    let registry = &login.endpoint.registry;
    let Some(previous) = &refused.previous else {
        return Ok(());
    };
    let bad = |message: String| Err(AuthError::BadCredential { message });
    match (&previous.auth.scheme, demand) {
        (AuthScheme::Anonymous, Demand::Basic)
            if login.identity.credential.kind() == CredentialKind::Public =>
        {
            Err(AuthError::NoPermission {
                message: format!("{registry} demands a login"),
            })
        }
        (AuthScheme::Basic { .. }, Demand::Basic) if refused.rejection.status != 401 => {
            let message = format!("{registry} does not allow the credential to pull {repository}");
            Err(AuthError::NoPermission { message })
        }
        (AuthScheme::Basic { .. }, Demand::Basic) => {
            bad(format!("{registry} refused the user name or password"))
        }
        (AuthScheme::Bearer(_), _) if login.identity.credential.bearer().is_some() => {
            bad(format!("{registry} refused the token; it may have expired"))
        }
        (AuthScheme::Bearer(_), Demand::Token(demand))
            if demand::is_insufficient(challenges)
                && previous.scope == wanted_scope(demand, repository) =>
        {
            let message = format!("{registry} does not allow the credential to pull {repository}");
            Err(AuthError::NoPermission { message })
        }
        _ => Ok(()),
    }
}

/// Kinds that need a cloud's own service first are refused by name.
fn check_kind(login: &Login) -> Result<(), AuthError> {
    let credential = &login.identity.credential;
    if credential.bearer().is_some() || Asker::of(credential).is_some() {
        return Ok(());
    }
    Err(unsupported(login))
}

fn unsupported(login: &Login) -> AuthError {
    let kind = login.identity.credential.kind();
    let instead = match kind {
        CredentialKind::Aws => {
            "; log in as AWS with the password that `aws ecr get-login-password` prints"
        }
        _ => "",
    };
    AuthError::Refused {
        message: format!("{kind} credentials are not supported yet{instead}"),
    }
}

/// A registry's error, told as one of auth.
pub(crate) fn from_registry(error: RegistryError) -> AuthError {
    let message = match &error {
        RegistryError::Refused {
            message,
            hint: Some(hint),
        } => format!("{message}; {hint}"),
        _ => error.to_string(),
    };
    match error {
        RegistryError::Auth(error) => error,
        RegistryError::Denied { .. } | RegistryError::NotFound { .. } => {
            AuthError::NoPermission { message }
        }
        RegistryError::RateLimited { retry_after, .. } => AuthError::RateLimited {
            retry_after,
            message,
        },
        RegistryError::Tls { .. } => AuthError::Tls { message },
        RegistryError::Refused { .. } => AuthError::Refused { message },
        _ => AuthError::Unreachable { message },
    }
}
