//! Who stands behind each provider of the contract, and how it is made to fail.

use std::sync::Arc;
use std::time::Duration;

use credential::Credential;
use credential::auth::{AuthError, AuthSource, RegistryAuth};
use registry_sim::{CloudFault, EcrFault, Login, Options, Realm, RegistrySim};
use token_exchange::{Clock, TokenExchange};

use crate::azure::{Azure, Lives};
use crate::cloud::CloudRegistry;
use crate::ecr::Ecr;
use crate::google::{self, Google};
use crate::node::Machine;
use crate::role::Stage;
use crate::support::{
    HandClock, PASSWORD, REPOSITORY, USERNAME, ask, dialer, endpoint, identity, image,
};

/// The user name under which Google's registries know an access token.
const TOKEN_USER: &str = "oauth2accesstoken";

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

/// Each provider, given what lives for so long.
pub(super) async fn providers(life: Duration) -> Vec<Provided> {
    let password = |name: &str| Credential::basic(name.to_owned(), PASSWORD.to_owned().into());
    vec![
        stored("password", password(USERNAME), life).await,
        stored("identity token", password("<token>"), life).await,
        keys("ECR", Ecr::private().await, life),
        public("ECR Public", Ecr::public_living(life).await),
        role("role", Stage::private().await, life),
        google_key("Google", life).await,
        google_service("Google's registry", life).await,
        azure_principal("Azure", life).await,
        azure_service("Azure's registry", life).await,
        node("Google's machine", life).await,
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

impl Upstream for Ecr {
    fn asked(&self) -> u64 {
        self.api.counter().read().requests
    }

    fn say(&self, says: Option<Says>) {
        let fault = says.map(|says| fault(says, "UnrecognizedClientException"));
        self.api.set_fault(fault);
    }

    fn hold(&self, held: bool) {
        if held {
            self.api.close_gate();
        } else {
            self.api.open_gate();
        }
    }

    fn turn(&self, ahead: jiff::SignedDuration) {
        self.api.set_clock_ahead(ahead);
    }

    fn strayed(&self) -> u64 {
        self.sim.stranger().read().requests + self.sim.realm().read().requests
    }
}

/// The token service of the public registry. Its API gives a password for hours.
struct Public(Ecr);

impl Upstream for Public {
    fn asked(&self) -> u64 {
        self.0.sim.asked()
    }

    fn say(&self, says: Option<Says>) {
        self.0.sim.say(says);
    }

    fn hold(&self, held: bool) {
        self.0.sim.hold(held);
    }

    fn turn(&self, ahead: jiff::SignedDuration) {
        self.0.api.set_clock_ahead(ahead);
    }

    fn strayed(&self) -> u64 {
        self.0.strayed()
    }
}

impl Upstream for Stage {
    fn asked(&self) -> u64 {
        self.sts.counter().read().requests
    }

    fn say(&self, says: Option<Says>) {
        let fault = says.map(|says| fault(says, "InvalidClientTokenId"));
        self.sts.set_fault(fault);
    }

    fn hold(&self, held: bool) {
        if held {
            self.sts.close_gate();
        } else {
            self.sts.open_gate();
        }
    }

    fn turn(&self, ahead: jiff::SignedDuration) {
        self.sts.set_clock_ahead(ahead);
        self.ecr.api.set_clock_ahead(ahead);
    }

    fn strayed(&self) -> u64 {
        self.ecr.strayed()
    }
}

fn fault(says: Says, wrong: &'static str) -> EcrFault {
    match says {
        Says::Wrong => EcrFault::Named(wrong),
        Says::Forbidden => EcrFault::Named("AccessDenied"),
        Says::Limited(seconds) => EcrFault::Limited(seconds),
        Says::Status(status) => EcrFault::Status(status),
        Says::Body(body) => EcrFault::Body(body),
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
        upstream: Box::new(sim),
    }
}

fn keys(name: &'static str, ecr: Ecr, life: Duration) -> Provided {
    ecr.api.give("ecr-password", life);
    Provided {
        name,
        host: ecr.host.to_owned(),
        source: ecr.source(ecr.keys()),
        clock: Arc::clone(&ecr.clock),
        upstream: Box::new(ecr),
    }
}

fn public(name: &'static str, ecr: Ecr) -> Provided {
    Provided {
        name,
        host: ecr.host.to_owned(),
        source: ecr.source(ecr.keys()),
        clock: Arc::clone(&ecr.clock),
        upstream: Box::new(Public(ecr)),
    }
}

fn role(name: &'static str, stage: Stage, life: Duration) -> Provided {
    stage.sts.set_life(life);
    Provided {
        name,
        host: stage.ecr.host.to_owned(),
        source: stage.source(),
        clock: Arc::clone(&stage.ecr.clock),
        upstream: Box::new(stage),
    }
}

/// Google's own service, which gives an access token for a key.
struct GoogleKeys(Google);

impl Upstream for GoogleKeys {
    fn asked(&self) -> u64 {
        self.0.api.token().read().requests
    }

    fn say(&self, says: Option<Says>) {
        let fault = says.map(|says| cloud_fault(says, "invalid_grant", "Invalid JWT Signature."));
        self.0.api.set_fault(fault);
    }

    fn can_say(&self, says: &Says) -> bool {
        // A key that may do nothing there is told to be none.
        !matches!(says, Says::Forbidden)
    }

    fn hold(&self, held: bool) {
        if held {
            self.0.api.close_gate();
        } else {
            self.0.api.open_gate();
        }
    }

    fn turn(&self, ahead: jiff::SignedDuration) {
        self.0.api.set_clock_ahead(ahead);
    }

    fn strayed(&self) -> u64 {
        let api = &self.0.api;
        let others = [api.exchange(), api.accounts()].map(|counter| counter.read().requests);
        others.iter().sum::<u64>() + self.0.registry.sim.strayed()
    }
}

/// The token service of a cloud's registry, whose clock is its cloud's.
struct CloudService {
    registry: CloudRegistry,
    set_clock_ahead: Box<dyn Fn(jiff::SignedDuration) + Send + Sync>,
}

impl Upstream for CloudService {
    fn asked(&self) -> u64 {
        self.registry.sim.asked()
    }

    fn say(&self, says: Option<Says>) {
        self.registry.sim.say(says);
    }

    fn hold(&self, held: bool) {
        self.registry.sim.hold(held);
    }

    fn turn(&self, ahead: jiff::SignedDuration) {
        (self.set_clock_ahead)(ahead);
    }

    fn strayed(&self) -> u64 {
        self.registry.sim.strayed()
    }
}

/// A directory of Azure, and what the registry makes of its tokens.
struct AzureDirectory(Azure);

impl Upstream for AzureDirectory {
    fn asked(&self) -> u64 {
        self.0.api.counter().read().requests
    }

    fn say(&self, says: Option<Says>) {
        let (mut directory, mut exchange) = (None, None);
        match says {
            None => {}
            Some(Says::Forbidden) => exchange = Some(CloudFault::Status(403)),
            Some(says) => {
                let wrong = "AADSTS7000215: Invalid client secret provided.";
                directory = Some(cloud_fault(says, "invalid_client", wrong));
            }
        }
        self.0.api.set_fault(directory);
        self.0.set_exchange_fault(exchange);
    }

    fn hold(&self, held: bool) {
        if held {
            self.0.api.close_gate();
        } else {
            self.0.api.open_gate();
        }
    }

    fn turn(&self, ahead: jiff::SignedDuration) {
        self.0.api.set_clock_ahead(ahead);
    }

    fn strayed(&self) -> u64 {
        self.0.registry.sim.strayed()
    }
}

fn cloud_fault(says: Says, error: &'static str, description: &'static str) -> CloudFault {
    match says {
        Says::Wrong => CloudFault::Named { error, description },
        Says::Forbidden => CloudFault::Status(403),
        Says::Limited(7) => CloudFault::Limited("7"),
        Says::Limited(seconds) => panic!("no pause of {seconds} s is at hand"),
        Says::Status(status) => CloudFault::Status(status),
        Says::Body(body) => CloudFault::Body(body),
    }
}

/// The metadata service of a machine of Google's.
struct NodeService(Machine);

impl Upstream for NodeService {
    fn asked(&self) -> u64 {
        self.0.metadata.counter().read().requests
    }

    fn say(&self, says: Option<Says>) {
        let fault = says.map(|says| cloud_fault(says, "", ""));
        self.0.metadata.set_fault(fault);
    }

    fn can_say(&self, says: &Says) -> bool {
        // Nothing is shown to it that could be wrong.
        !matches!(says, Says::Wrong)
    }

    fn hold(&self, held: bool) {
        if held {
            self.0.metadata.close_gate();
        } else {
            self.0.metadata.open_gate();
        }
    }

    fn strayed(&self) -> u64 {
        self.0.cloud.sim.strayed()
    }
}

async fn node(name: &'static str, life: Duration) -> Provided {
    let machine = Machine::of_google(life).await;
    Provided {
        name,
        host: machine.cloud.host.to_owned(),
        source: machine.source(),
        clock: Arc::clone(&machine.cloud.clock),
        upstream: Box::new(NodeService(machine)),
    }
}

async fn google_key(name: &'static str, life: Duration) -> Provided {
    let google = Google::living(google::HOST, TOKEN_USER, life).await;
    google.api.give(google::ACCESS, life);
    at_google(name, google, |google| Box::new(GoogleKeys(google)))
}

async fn google_service(name: &'static str, life: Duration) -> Provided {
    let google = Google::living(google::HOST, TOKEN_USER, life).await;
    at_google(name, google, |google| {
        Box::new(CloudService {
            registry: google.registry,
            set_clock_ahead: Box::new(move |ahead| google.api.set_clock_ahead(ahead)),
        })
    })
}

fn at_google(
    name: &'static str,
    google: Google,
    upstream: fn(Google) -> Box<dyn Upstream>,
) -> Provided {
    Provided {
        name,
        host: google.registry.host.to_owned(),
        source: google.registry.source(google.key()),
        clock: Arc::clone(&google.registry.clock),
        upstream: upstream(google),
    }
}

async fn azure_principal(name: &'static str, life: Duration) -> Provided {
    let lives = Lives {
        refresh_token: life,
        token: life,
    };
    let azure = Azure::with_lives(lives).await;
    at_azure(name, azure, |azure| Box::new(AzureDirectory(azure)))
}

async fn azure_service(name: &'static str, life: Duration) -> Provided {
    let lives = Lives {
        refresh_token: Duration::from_hours(3),
        token: life,
    };
    let azure = Azure::with_lives(lives).await;
    at_azure(name, azure, |azure| {
        Box::new(CloudService {
            registry: azure.registry,
            set_clock_ahead: Box::new(move |ahead| azure.api.set_clock_ahead(ahead)),
        })
    })
}

fn at_azure(
    name: &'static str,
    azure: Azure,
    upstream: fn(Azure) -> Box<dyn Upstream>,
) -> Provided {
    Provided {
        name,
        host: azure.registry.host.to_owned(),
        source: azure.registry.source(azure.secret()),
        clock: Arc::clone(&azure.registry.clock),
        upstream: upstream(azure),
    }
}
