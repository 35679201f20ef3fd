//! Checking a credential before anything is built on it.

use std::sync::{Arc, Mutex, PoisonError};

use credential::auth::{AuthError, AuthFuture, AuthRequest, AuthScheme, AuthSource, RegistryAuth};
use dial::Dialer;
use jiff::Timestamp;
use registry_client::{PullLimit, RegistryClient};

use crate::demand::Demand;
use crate::login::{Door, Login};
use crate::mint::{Mint, Minted, ask_door, from_registry};
use crate::realm;
use crate::refused::Refused;
use crate::rung::Rung;

/// What a check has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    pub proven: Proven,
    /// Whether the registry demands a login at all. Where it does not, a credential is not proven
    /// by being let in.
    pub login_needed: bool,
    /// When the credential itself says that it dies.
    pub not_after: Option<Timestamp>,
    /// The token service that it went to, as `host` or `host:port`.
    pub token_service: Option<String>,
    /// How much readers will hold.
    pub rung: Rung,
    /// How many pulls the registry still allows, where it said so of the repository.
    pub pull_limit: Option<PullLimit>,
}

/// How far a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proven {
    /// The registry took it at its door.
    Ping,
    /// The registry let it read the repository.
    Repository,
}

pub(crate) async fn check(
    dialer: &Dialer,
    mint: &Arc<Mint>,
    login: Arc<Login>,
    repository: Option<&str>,
) -> Result<Proof, AuthError> {
    let door = login.door()?;
    let demand = ask_door(&login, &door).await?;
    login.remember_demand(&demand);
    // First without a repository: a refusal then is about the credential and nothing else.
    let minted = mint.mint(&login, "", None).await?;
    check_door(&login, &door, &minted.auth()).await?;
    let (proven, pull_limit) = match repository {
        Some(repository) => check_repository(dialer, mint, &login, repository).await?,
        None => (Proven::Ping, None),
    };
    Ok(Proof {
        proven,
        login_needed: demand != Demand::Nothing,
        not_after: minted.last_end,
        token_service: token_service(&demand, &minted.scheme),
        rung: minted.rung,
        pull_limit,
    })
}

fn token_service(demand: &Demand, scheme: &AuthScheme) -> Option<String> {
    match (demand, scheme) {
        (Demand::Token(demand), AuthScheme::Bearer(_)) => {
            demand.realm.parse().ok().map(|url| realm::authority(&url))
        }
        _ => None,
    }
}

async fn check_door(login: &Login, door: &Door, auth: &RegistryAuth) -> Result<(), AuthError> {
    let ping = door.registry.ping_with(auth).await.map_err(from_registry)?;
    let registry = &login.endpoint.registry;
    match ping.status {
        200..=299 => Ok(()),
        401 if matches!(auth.scheme, AuthScheme::Anonymous) => Err(AuthError::NoPermission {
            message: format!("{registry} demands a login"),
        }),
        status @ (401 | 403) if status == 401 || ping.message.contains("expired") => {
            Err(AuthError::BadCredential {
                message: format!("{registry} refused the credential: {}", ping.message),
            })
        }
        403 => Err(AuthError::NoPermission {
            message: format!(
                "{registry} lets the credential do nothing: {}",
                ping.message
            ),
        }),
        status => Err(AuthError::Unreachable {
            message: format!("{registry} answered with status {status}: {}", ping.message),
        }),
    }
}

/// A repository that is not there proves nothing about itself, and nothing against the credential.
async fn check_repository(
    dialer: &Dialer,
    mint: &Arc<Mint>,
    login: &Arc<Login>,
    repository: &str,
) -> Result<(Proven, Option<PullLimit>), AuthError> {
    let source = Arc::new(Uncached {
        mint: Arc::clone(mint),
        login: Arc::clone(login),
        last: Mutex::new(None),
    });
    let client =
        RegistryClient::new(dialer, login.endpoint.clone(), source).map_err(from_registry)?;
    let found = client.can_read(repository).await.map_err(from_registry)?;
    let proven = if found {
        Proven::Repository
    } else {
        Proven::Ping
    };
    Ok((proven, client.pull_limit()))
}

/// Mints whenever it is asked.
#[derive(Debug)]
struct Uncached {
    mint: Arc<Mint>,
    login: Arc<Login>,
    last: Mutex<Option<Minted>>,
}

impl AuthSource for Uncached {
    fn auth<'a>(&'a self, request: AuthRequest<'a>) -> AuthFuture<'a> {
        Box::pin(async move {
            let previous = self
                .last
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            let refused = request.rejected.map(|rejection| Refused {
                rejection,
                previous,
            });
            let minted = self
                .mint
                .mint(&self.login, request.repository, refused)
                .await?;
            let auth = minted.auth();
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(minted);
            Ok(auth)
        })
    }
}
