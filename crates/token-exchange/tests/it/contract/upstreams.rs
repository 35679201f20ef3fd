//! Who stands behind each provider of the contract, and how it is made to fail.

use std::sync::Arc;
use std::time::Duration;

use credential::Credential;
use credential::auth::{AuthError, AuthSource, RegistryAuth};
use registry_sim::{Login, Options, Realm, RegistrySim};
use token_exchange::{Clock, TokenExchange};

use crate::support::{
    HandClock, PASSWORD, REPOSITORY, USERNAME, ask, dialer, endpoint, identity, image,
};

/// What is said instead of what was asked for.
#[derive(Debug, Clone)]
pub(super) enum Says {
    /// That the credential is wrong.
    Wrong,
    /// That it is good, and not for this.
    Forbidden,
    Limited(u32),
    Status(u16),
    Body(String),
}

/// Who gives a provider what it hands out.
pub(super) trait Upstream {
    fn asked(&self) -> u64;
    fn say(&self, says: Option<Says>);
    /// Whether it knows such an answer at all.
    fn can_say(&self, _says: &Says) -> bool {
        true
    }
    fn hold(&self, held: bool);
    /// Its own clock, where it has one.
    fn turn(&self, _ahead: jiff::SignedDuration) {}
    /// Requests at hosts that have no part in it.
    fn strayed(&self) -> u64;
}

/// A provider before who gives it something.
pub(super) struct Provided {
    pub(super) name: &'static str,
    pub(super) host: String,
    pub(super) source: Arc<dyn AuthSource>,
    pub(super) clock: Arc<HandClock>,
    /// Of what it hands out, as far as anything says.
    pub(super) life: Duration,
    pub(super) upstream: Box<dyn Upstream>,
}

impl Provided {
    pub(super) async fn serial(&self) -> u64 {
        self.asked().await.expect(self.name).serial
    }

    pub(super) async fn asked(&self) -> Result<RegistryAuth, AuthError> {
        ask(self.source.as_ref(), &self.host, None).await
    }

    /// Time passes, here and there.
    pub(super) fn turn(&self, by: Duration) {
        self.clock.turn(by);
        let ahead = self.clock.now().duration_since(jiff::Timestamp::now());
        self.upstream.turn(ahead);
    }
}

/// What is stored, at a registry with a token service.
pub(super) async fn providers(life: Duration) -> Vec<Provided> {
    let password = |name: &str| Credential::basic(name.to_owned(), PASSWORD.to_owned().into());
    vec![
        stored("password", password(USERNAME), life).await,
        stored("identity token", password("<token>"), life).await,
    ]
}

impl Upstream for RegistrySim {
    fn asked(&self) -> u64 {
        self.token_requests().read().requests
    }

    fn say(&self, says: Option<Says>) {
        self.faults(|faults| {
            faults.token_too_many_requests = 0;
            faults.token_says = match says {
                None => None,
                Some(Says::Wrong) => Some((401, String::new())),
                Some(Says::Forbidden) => Some((403, String::new())),
                Some(Says::Status(status)) => Some((status, String::new())),
                Some(Says::Body(body)) => Some((200, body)),
                Some(Says::Limited(seconds)) => {
                    faults.token_too_many_requests = u32::MAX;
                    faults.retry_after = Some(seconds.to_string());
                    None
                }
            };
        });
    }

    fn hold(&self, held: bool) {
        if held {
            self.close_token_gate();
        } else {
            self.open_token_gate();
        }
    }

    fn strayed(&self) -> u64 {
        self.stranger().read().requests + self.storage().read().requests
    }
}

pub(super) async fn stored(name: &'static str, credential: Credential, life: Duration) -> Provided {
    let sim = RegistrySim::start(Options {
        login: Login::Bearer(Realm::SameHost),
        token_life: life,
        ..Options::default()
    })
    .await;
    sim.push(REPOSITORY, "latest", &image());
    let clock = HandClock::new();
    let exchange = TokenExchange::new(dialer(), Arc::clone(&clock) as Arc<dyn Clock>);
    Provided {
        name,
        host: sim.host().to_owned(),
        source: exchange.source(endpoint(sim.host()), identity(credential)),
        clock,
        life,
        upstream: Box::new(sim),
    }
}
