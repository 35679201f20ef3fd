//! Google's services and Azure's directory, their registries' token services, their machines.

use std::sync::Arc;
use std::time::Duration;

use credential::Credential;
use registry_sim::{CloudFault, GoogleApi, HostCounter};
use serde_json::Value;

use super::upstreams::{Provided, Says, Upstream};
use crate::azure::{Azure, Lives};
use crate::cloud::CloudRegistry;
use crate::google::{self, Google};
use crate::node::Machine;

/// The user name under which Google's registries know an access token.
const TOKEN_USER: &str = "oauth2accesstoken";

/// What they give, which lives for so long.
pub(super) async fn providers(life: Duration) -> Vec<Provided> {
    vec![
        google_key("Google", life).await,
        google_federated("Google's pool", google::without_account, life).await,
        google_federated("Google's pool, for an account", |_| {}, life).await,
        google_service("Google's registry", life).await,
        azure_principal("Azure", Azure::secret, life).await,
        azure_principal("Azure, by another's token", Azure::federated, life).await,
        azure_service("Azure's registry", life).await,
        node("Google's machine", Machine::of_google(life).await, life),
        node("Azure's machine", Machine::of_azure(life).await, life),
    ]
}

/// Google's own services, one of which gives an access token for a key, and another one for a token
/// of another issuer.
struct GoogleServices {
    google: Google,
    asked: fn(&GoogleApi) -> &HostCounter,
    other: fn(&GoogleApi) -> &HostCounter,
}

impl Upstream for GoogleServices {
    fn asked(&self) -> u64 {
        (self.asked)(&self.google.api).read().requests
    }

    fn say(&self, says: Option<Says>) {
        let fault = says.map(|says| cloud_fault(says, "invalid_grant", "Invalid JWT Signature."));
        self.google.api.set_fault(fault);
    }

    fn can_say(&self, says: &Says) -> bool {
        // Who may do nothing there is told to be nobody.
        !matches!(says, Says::Forbidden)
    }

    fn hold(&self, held: bool) {
        if held {
            self.google.api.close_gate();
        } else {
            self.google.api.open_gate();
        }
    }

    fn turn(&self, ahead: jiff::SignedDuration) {
        self.google.api.set_clock_ahead(ahead);
    }

    fn strayed(&self) -> u64 {
        let other = (self.other)(&self.google.api).read().requests;
        other + self.google.registry.sim.strayed()
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

/// The metadata service of a machine of Google's or Azure's.
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

fn node(name: &'static str, machine: Machine, life: Duration) -> Provided {
    Provided {
        name,
        host: machine.cloud.host.to_owned(),
        source: machine.source(),
        clock: Arc::clone(&machine.cloud.clock),
        life,
        upstream: Box::new(NodeService(machine)),
    }
}

async fn google_key(name: &'static str, life: Duration) -> Provided {
    let google = Google::living(google::HOST, TOKEN_USER, life).await;
    google.api.give(google::ACCESS, life);
    at_google(name, google, Google::key, life, |google| {
        Box::new(GoogleServices {
            google,
            asked: GoogleApi::token,
            other: GoogleApi::exchange,
        })
    })
}

/// `change` is made to what the user has of the pool.
async fn google_federated(name: &'static str, change: fn(&mut Value), life: Duration) -> Provided {
    let google = Google::living(google::HOST, TOKEN_USER, life).await;
    google.api.give(google::ACCESS, life);
    let shown = |google: &Google| google.federated(google::SUBJECT, change);
    at_google(name, google, shown, life, |google| {
        Box::new(GoogleServices {
            google,
            asked: GoogleApi::exchange,
            other: GoogleApi::token,
        })
    })
}

async fn google_service(name: &'static str, life: Duration) -> Provided {
    let google = Google::living(google::HOST, TOKEN_USER, life).await;
    at_google(name, google, Google::key, life, |google| {
        Box::new(CloudService {
            registry: google.registry,
            set_clock_ahead: Box::new(move |ahead| google.api.set_clock_ahead(ahead)),
        })
    })
}

fn at_google(
    name: &'static str,
    google: Google,
    shown: impl FnOnce(&Google) -> Credential,
    life: Duration,
    upstream: fn(Google) -> Box<dyn Upstream>,
) -> Provided {
    Provided {
        name,
        host: google.registry.host.to_owned(),
        source: google.registry.source(shown(&google)),
        clock: Arc::clone(&google.registry.clock),
        life,
        upstream: upstream(google),
    }
}

async fn azure_principal(
    name: &'static str,
    shown: fn(&Azure) -> Credential,
    life: Duration,
) -> Provided {
    let lives = Lives {
        refresh_token: life,
        token: life,
    };
    let azure = Azure::with_lives(lives).await;
    at_azure(name, azure, shown, life, |azure| {
        Box::new(AzureDirectory(azure))
    })
}

async fn azure_service(name: &'static str, life: Duration) -> Provided {
    let lives = Lives {
        refresh_token: Duration::from_hours(3),
        token: life,
    };
    let azure = Azure::with_lives(lives).await;
    at_azure(name, azure, Azure::secret, life, |azure| {
        Box::new(CloudService {
            registry: azure.registry,
            set_clock_ahead: Box::new(move |ahead| azure.api.set_clock_ahead(ahead)),
        })
    })
}

fn at_azure(
    name: &'static str,
    azure: Azure,
    shown: fn(&Azure) -> Credential,
    life: Duration,
    upstream: fn(Azure) -> Box<dyn Upstream>,
) -> Provided {
    Provided {
        name,
        host: azure.registry.host.to_owned(),
        source: azure.registry.source(shown(&azure)),
        clock: Arc::clone(&azure.registry.clock),
        life,
        upstream: upstream(azure),
    }
}
