//! Minting: from who asks and what is demanded to something to send.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use credential::auth::{AuthError, AuthScheme, ReadError, RegistryAuth};
use jiff::Timestamp;
use registry_client::RegistryError;

use crate::asker::{Asker, Pass};
use crate::clock::Clock;
use crate::clouds::Clouds;
use crate::demand::{self, Demand, TokenDemand};
use crate::exchange::Vended;
use crate::flight::{Outcome, Wanted};
use crate::life::{Life, Perishable};
use crate::login::{Door, Login};
use crate::provider::{self, Presented};
use crate::realm;
use crate::refused::{Question, Refused};
use crate::rung::Rung;
use crate::service::TokenService;

/// The serial of all askers whose pass is what was stored.
const STORED: u64 = 0;

/// What all mintings of a process share.
#[derive(Debug)]
pub(crate) struct Mint {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) clouds: Clouds,
    pub(crate) token_requests: AtomicU64,
    serial: AtomicU64,
}

/// What a minting brings.
#[derive(Debug, Clone)]
pub(crate) struct Minted {
    pub(crate) scheme: AuthScheme,
    pub(crate) rung: Rung,
    pub(crate) life: Life,
    /// The scope that was asked for, for a token; the repository, for a password of one.
    pub(crate) scope: Option<String>,
    /// Which asker it was minted for.
    asker: u64,
    /// When nothing more can be minted as this was.
    pub(crate) last_end: Option<Timestamp>,
}

impl Minted {
    pub(crate) fn auth(&self) -> RegistryAuth {
        RegistryAuth {
            scheme: self.scheme.clone(),
            not_after: self.life.end,
            serial: self.life.serial,
        }
    }

    pub(crate) fn vended(&self) -> Vended {
        Vended {
            auth: self.auth(),
            rung: self.rung,
        }
    }

    /// Whether the asker's own pass is what was sent, and so what was refused.
    pub(crate) fn is_pass_of(&self, asker: &Asker) -> bool {
        self.scope.is_none() && self.asker == asker.life.serial
    }
}

impl Perishable for Minted {
    fn life(&self) -> &Life {
        &self.life
    }
}

impl Mint {
    pub(crate) fn new(clock: Arc<dyn Clock>, clouds: Clouds) -> Self {
        Self {
            clock,
            clouds,
            token_requests: AtomicU64::new(0),
            serial: AtomicU64::new(1),
        }
    }

    /// Something to send for this repository; for the registry's door when it is empty.
    pub(crate) async fn mint(
        self: &Arc<Self>,
        login: &Arc<Login>,
        repository: &str,
        refused: Option<Refused>,
    ) -> Outcome<Minted> {
        let outcome = self.try_mint(login, repository, refused).await;
        if let Err(error) = &outcome {
            login.remember_refusal(error, self.clock.now());
        }
        outcome
    }

    async fn try_mint(
        self: &Arc<Self>,
        login: &Arc<Login>,
        repository: &str,
        refused: Option<Refused>,
    ) -> Outcome<Minted> {
        let door = login.door()?;
        let asker = self.asker(login, refused.as_ref()).await?;
        let Some(refused) = refused else {
            let demand = known_demand(login, &door).await?;
            return self.satisfy(login, &door, asker, &demand, repository).await;
        };
        let demand = match demand::read(refused.rejection.status, &refused.challenges()) {
            _ if refused.rejection.is_hearsay => asked_demand(login, &door, &refused).await?,
            None if refused.rejection.status == 401 => {
                unsaid_demand(login, &door, &refused).await?
            }
            Some(demand) => {
                login.remember_demand(&without_scope(&demand));
                demand
            }
            None => known_demand(login, &door).await?,
        };
        refused.check_worth_trying(&Question {
            registry: &login.endpoint.registry,
            asker: &asker,
            demand: &demand,
            repository,
        })?;
        self.satisfy(login, &door, asker, &demand, repository).await
    }

    /// Who asks: another than whose pass the registry has just refused, where there may be one.
    async fn asker(
        self: &Arc<Self>,
        login: &Arc<Login>,
        refused: Option<&Refused>,
    ) -> Outcome<Asker> {
        let presenting = self.presenting(login);
        let asker = login.asker.current(&self.clock, None, presenting).await?;
        let previous = refused.and_then(|refused| refused.previous.as_ref());
        let is_refused = previous.is_some_and(|previous| previous.is_pass_of(&asker));
        let is_plain = refused.is_some_and(|refused| {
            refused.rejection.is_about_auth() && !refused.rejection.is_hearsay
        });
        if !is_refused || !self.may_renew(login, &asker.life, is_plain) {
            return Ok(asker);
        }
        if refused.is_some_and(|refused| refused.rejection.is_about_auth()) {
            return self.other_asker(login, &asker).await;
        }
        // A guess: more likely the repository is forbidden. What comes of it says nothing about
        // the others, which go on with the pass that there is.
        let guessed = self.join_other(login, &asker).await;
        Ok(guessed.unwrap_or(asker))
    }

    /// Whether another pass may be had for one that was refused. A young one is most likely good;
    /// clouds take some back at once all the same, and who refuses it may say so plainly.
    fn may_renew(&self, login: &Login, life: &Life, is_plain: bool) -> bool {
        let now = self.clock.now();
        let is_believed = || is_plain && login.believes_refusal_of(life.serial, now);
        life.may_help(now) || (life.is_renewable && is_believed())
    }

    /// Who asks, after the pass of this one was refused.
    async fn other_asker(self: &Arc<Self>, login: &Arc<Login>, refused: &Asker) -> Outcome<Asker> {
        login.asker.drop_refused(refused.life.serial);
        self.join_other(login, refused).await
    }

    async fn join_other(self: &Arc<Self>, login: &Arc<Login>, than: &Asker) -> Outcome<Asker> {
        let wanted = Wanted::OtherThan(than.life.serial);
        let presenting = self.presenting(login);
        login.asker.join(&self.clock, wanted, presenting).await
    }

    fn presenting(
        self: &Arc<Self>,
        login: &Arc<Login>,
    ) -> impl Future<Output = Outcome<Asker>> + Send + use<> {
        let (mint, login) = (Arc::clone(self), Arc::clone(login));
        async move {
            let credential = login.identity.credential.open().await?;
            let provider = provider::of(&credential, &login)?;
            let presented = provider.present(&mint.clouds).await?;
            Ok(mint.asker_of(presented, credential.not_after()))
        }
    }

    fn asker_of(&self, presented: Presented, last_end: Option<Timestamp>) -> Asker {
        let Presented {
            pass,
            not_after,
            is_renewable,
        } = presented;
        // A password stays the same password, however often it is opened.
        let serial = if is_renewable {
            self.next_serial()
        } else {
            STORED
        };
        let life = Life::new(serial, self.clock.now(), not_after, is_renewable);
        Asker {
            pass,
            life,
            last_end,
        }
    }

    async fn satisfy(
        self: &Arc<Self>,
        login: &Arc<Login>,
        door: &Door,
        asker: Asker,
        demand: &Demand,
        repository: &str,
    ) -> Outcome<Minted> {
        if let Pass::Bearer(token) = &asker.pass {
            return Ok(self.passed_on(&asker, AuthScheme::Bearer(token.clone())));
        }
        match demand {
            Demand::Nothing => Ok(self.passed_on(&asker, AuthScheme::Anonymous)),
            Demand::Basic => self.basic(login, &asker, repository).await,
            Demand::Token(demand) => self.token(login, door, asker, demand, repository).await,
        }
    }

    async fn basic(&self, login: &Login, asker: &Asker, repository: &str) -> Outcome<Minted> {
        let Pass::Role(role) = &asker.pass else {
            return Ok(self.passed_on(asker, basic_scheme(login, &asker.pass)?));
        };
        let presented = role.password(&self.clouds, repository).await?;
        let now = self.clock.now();
        Ok(Minted {
            scheme: basic_scheme(login, &presented.pass)?,
            rung: Rung::RepositoryPassword,
            life: Life::new(self.next_serial(), now, presented.not_after, true),
            scope: Some(repository.to_owned()),
            asker: asker.life.serial,
            last_end: asker.last_end,
        })
    }

    async fn token(
        self: &Arc<Self>,
        login: &Arc<Login>,
        door: &Door,
        asker: Asker,
        demand: &TokenDemand,
        repository: &str,
    ) -> Outcome<Minted> {
        // A service that never took one says nothing of this one's time.
        let is_plain = login.is_proven();
        let asked = self
            .ask_for_token(login, door, &asker, demand, repository)
            .await;
        match asked {
            // A cloud may take a pass back before its time.
            Err(AuthError::BadCredential { .. })
                if self.may_renew(login, &asker.life, is_plain) =>
            {
                let other = self.other_asker(login, &asker).await?;
                self.ask_for_token(login, door, &other, demand, repository)
                    .await
            }
            asked => asked,
        }
    }

    async fn ask_for_token(
        &self,
        login: &Login,
        door: &Door,
        asker: &Asker,
        demand: &TokenDemand,
        repository: &str,
    ) -> Outcome<Minted> {
        if let Pass::Role(_) = &asker.pass {
            let registry = &login.endpoint.registry;
            let message = format!("{registry} has a token service, which takes no AWS roles");
            return Err(AuthError::Refused { message });
        }
        let scope = wanted_scope(demand, repository);
        let base = door.registry.base_url().await.map_err(from_registry)?;
        let allowed = login.identity.token_service.as_deref();
        let realm = realm::judge(&login.endpoint, &base, &demand.realm, allowed)?;
        let turn = login.turn().await;
        let now = self.clock.now();
        if let Some(refusal) = login.refusal(now).filter(|_| turn.is_some()) {
            return Err(refusal);
        }
        let service = TokenService {
            http: &door.http,
            realm: &realm,
            demand,
            requests: &self.token_requests,
        };
        let asked = service.ask(login, asker, scope.as_deref(), now).await;
        let token = asked.inspect_err(|error| {
            // Before the next has its turn.
            if turn.is_some() {
                login.remember_refusal(error, self.clock.now());
            }
        })?;
        login.is_taken();
        Ok(Minted {
            scheme: AuthScheme::Bearer(token.secret),
            rung: Rung::RepositoryBearer,
            life: Life::new(
                self.next_serial(),
                self.clock.now(),
                Some(token.not_after),
                true,
            ),
            scope: Some(scope.unwrap_or_default()),
            asker: asker.life.serial,
            last_end: asker.last_end,
        })
    }

    /// The asker's pass itself, or nothing at all where the registry demands nothing.
    fn passed_on(&self, asker: &Asker, scheme: AuthScheme) -> Minted {
        let rung = match scheme {
            AuthScheme::Anonymous => Rung::Anonymous,
            AuthScheme::Bearer(_) => Rung::GivenToken,
            AuthScheme::Basic { .. } if asker.life.is_renewable => Rung::MintedPassword,
            AuthScheme::Basic { .. } => Rung::Basic,
        };
        let serial = self.next_serial();
        Minted {
            scheme,
            rung,
            life: match rung {
                Rung::Anonymous => Life::new(serial, self.clock.now(), None, false),
                _ => asker.life.passed_on(serial),
            },
            scope: None,
            asker: asker.life.serial,
            last_end: asker.last_end,
        }
    }

    fn next_serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }
}

/// The pass as a registry takes it that wants a password.
fn basic_scheme(login: &Login, pass: &Pass) -> Outcome<AuthScheme> {
    let registry = &login.endpoint.registry;
    let only = |what: &str| AuthError::Refused {
        message: format!("{registry} wants a password; {what}"),
    };
    match pass {
        Pass::Password { username, password } => Ok(AuthScheme::Basic {
            username: username.clone(),
            password: password.clone(),
        }),
        Pass::Bearer(token) => Ok(AuthScheme::Bearer(token.clone())),
        Pass::Nothing => Ok(AuthScheme::Anonymous),
        Pass::IdentityToken(_) => Err(only("an identity token is for token services only")),
        Pass::Role(_) => Err(only("a role is none")),
    }
}

/// The scope to ask for: the challenge's own words where it was about this repository, since some
/// registries know it by another name than their users.
pub(crate) fn wanted_scope(demand: &TokenDemand, repository: &str) -> Option<String> {
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
pub(crate) async fn known_demand(login: &Login, door: &Door) -> Result<Demand, AuthError> {
    match login.demand() {
        Some(demand) => Ok(demand),
        None => door_demand(login, door).await,
    }
}

/// The demand as the registry's door says now.
async fn door_demand(login: &Login, door: &Door) -> Result<Demand, AuthError> {
    let demand = ask_door(login, door).await?;
    login.remember_door(&demand);
    Ok(demand)
}

/// The demand as the registry's door says now, where a refusal does not count for it: another
/// process says that it has changed, which may want a password where a token would do, or another
/// repository's; or it names no demand. The name that the registry has for this repository is kept.
async fn asked_demand(login: &Login, door: &Door, refused: &Refused) -> Result<Demand, AuthError> {
    let mut demand = match login.standing_demand() {
        Some(demand) => demand,
        None => door_demand(login, door).await?,
    };
    if let Demand::Token(token) = &mut demand {
        let previous = refused.previous.as_ref();
        let scope = previous.and_then(|minted| minted.scope.clone());
        token.scope = scope.filter(|scope| !scope.is_empty());
    }
    Ok(demand)
}

/// The demand behind a 401 without a challenge, such as Google's registries answer for what is in a
/// repository: what the door says holds. Where that lets everybody in, a password is all that is
/// left to try.
async fn unsaid_demand(login: &Login, door: &Door, refused: &Refused) -> Result<Demand, AuthError> {
    let demand = asked_demand(login, door, refused).await?;
    let is_open = demand == Demand::Nothing && refused.challenges().is_empty();
    Ok(if is_open { Demand::Basic } else { demand })
}

pub(crate) async fn ask_door(login: &Login, door: &Door) -> Result<Demand, AuthError> {
    let ping = door.registry.ping().await.map_err(from_registry)?;
    demand::of_door(ping.status, &ping.challenges)
        .map(|demand| without_scope(&demand))
        .ok_or_else(|| AuthError::Refused {
            message: format!(
                "{} answers status {} and asks for no login that is known",
                login.endpoint.registry, ping.status
            ),
        })
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

/// The same for the bytes of a blob.
pub(crate) fn from_registry_read(error: RegistryError) -> ReadError {
    match error {
        RegistryError::NotFound { .. } => ReadError::NotFound,
        RegistryError::Corrupt { message, .. } => ReadError::Corrupt { message },
        RegistryError::Unsupported { .. } => ReadError::Auth(AuthError::Refused {
            message: error.to_string(),
        }),
        error => from_registry(error).into(),
    }
}
