//! Azure Container Registry, with secrets of service principals and tokens that they trust.

use std::time::Duration;

use credential::auth::{AuthError, AuthScheme};
use credential::{Credential, ExposeSecret};
use jiff::SignedDuration;
use registry_sim::{
    Authority, AzureApi, AzureExchange, AzurePrincipal, CloudFault, Login, Options, Realm,
    unsigned_token,
};
use token_exchange::Proven;

use crate::cloud::{CloudRegistry, Log, detect, kind, left};
use crate::support::{ask, endpoint, identity};

const HOST: &str = "acme.azurecr.io";
const DIRECTORY: &str = "login.microsoftonline.com";
const TENANT: &str = "409520d4-8100-4d1d-ad47-72432ddcc120";
const CLIENT: &str = "7f3a9d21-8100-4d1d-ad47-72432ddcc121";
pub(crate) const SECRET: &str = "canary~secret/of-a+principal";
const FEDERATED: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJjaSJ9.canary-signature";
/// What the directory gives.
const ACCESS: &str = "aad-access-token";

pub(crate) struct Azure {
    pub(crate) registry: CloudRegistry,
    pub(crate) api: AzureApi,
    refresh_token: String,
}

/// For how long what a registry of Azure gives is good.
pub(crate) struct Lives {
    /// What is given for a token of the directory.
    pub(crate) refresh_token: Duration,
    /// What is given for that, for one repository.
    pub(crate) token: Duration,
}

impl Azure {
    async fn start() -> Self {
        Self::at(HOST, DIRECTORY, TENANT).await
    }

    async fn at(host: &'static str, directory: &str, tenant: &str) -> Self {
        let lives = Lives {
            refresh_token: Duration::from_hours(3),
            token: Duration::from_mins(75),
        };
        Self::living(host, directory, tenant, lives).await
    }

    /// The usual one, whose tokens live for so long.
    pub(crate) async fn with_lives(lives: Lives) -> Self {
        Self::living(HOST, DIRECTORY, TENANT, lives).await
    }

    async fn living(host: &'static str, directory: &str, tenant: &str, lives: Lives) -> Self {
        let authority = Authority::naming(&[host, directory]);
        let principal = AzurePrincipal {
            tenant: tenant.to_owned(),
            client_id: CLIENT.to_owned(),
            client_secret: SECRET.to_owned(),
            federated_token: FEDERATED.to_owned(),
        };
        let api = AzureApi::start(&authority, principal).await;
        let refresh_token = unsigned_token("refresh", lives.refresh_token);
        let options = Options {
            login: Login::Bearer(Realm::Url(format!("https://{host}/oauth2/token"))),
            password: refresh_token.clone(),
            token_life: lives.token,
            token_reply: r#"{"access_token":"TOKEN"}"#,
            token_says_its_end: true,
            ..Options::default()
        };
        let lines = [(directory, api.host())];
        let registry = CloudRegistry::start(host, authority, &lines, options).await;
        for counter in [api.counter(), registry.sim.registry()] {
            counter.watch_for(SECRET);
            counter.watch_for(FEDERATED);
        }
        let azure = Self {
            registry,
            api,
            refresh_token: refresh_token.clone(),
        };
        azure.exchange_for(tenant, &refresh_token, None);
        azure
    }

    /// What the registry makes of a token of the directory.
    pub(crate) fn set_exchange_fault(&self, fault: Option<CloudFault>) {
        self.exchange_for(TENANT, &self.refresh_token, fault);
    }

    fn exchange_for(&self, tenant: &str, refresh_token: &str, fault: Option<CloudFault>) {
        self.registry.sim.set_exchange(AzureExchange {
            // As the registry's challenge says.
            service: "sim".to_owned(),
            tenant: tenant.to_owned(),
            access_token: ACCESS.to_owned(),
            refresh_token: refresh_token.to_owned(),
            fault,
        });
    }

    pub(crate) fn secret(&self) -> Credential {
        self.principal(&[("AZURE_CLIENT_SECRET", SECRET)])
    }

    pub(crate) fn federated(&self) -> Credential {
        self.principal(&[("AZURE_FEDERATED_TOKEN", FEDERATED)])
    }

    fn principal(&self, more: &[(&str, &str)]) -> Credential {
        let mut keys = vec![("AZURE_CLIENT_ID", CLIENT), ("AZURE_TENANT_ID", TENANT)];
        keys.retain(|(key, _)| more.iter().all(|(other, _)| other != key));
        keys.extend(more);
        detect(self.registry.host, &keys)
    }

    /// Questions to the directory, and to the registry's exchange.
    fn asked(&self) -> (u64, usize) {
        let paths = self.registry.sim.registry().paths();
        let exchanges = paths
            .iter()
            .filter(|path| path.ends_with("/oauth2/exchange"));
        (self.api.counter().read().requests, exchanges.count())
    }

    /// How often the secret or the federated token arrived at the directory and at the registry.
    fn seen(&self) -> (u64, u64) {
        let registry = self.registry.sim.registry();
        (self.api.counter().sightings(), registry.sightings())
    }

    fn forget(&self) {
        let key = identity(Credential::public()).key;
        self.registry.exchange.forget(&key);
    }
}

fn aadsts(description: &'static str) -> CloudFault {
    CloudFault::Named {
        error: "invalid_client",
        description,
    }
}

#[tokio::test]
async fn a_principal_pulls_and_what_shows_it_goes_to_the_directory_alone() {
    let azure = Azure::start().await;
    for (number, credential) in [azure.secret(), azure.federated()].into_iter().enumerate() {
        azure.forget();
        azure.registry.pull(credential).await;
        let times = number + 1;
        assert_eq!(azure.asked(), (times as u64, times));
        assert_eq!(azure.seen(), (times as u64, 0));
    }
}

#[tokio::test]
async fn each_cloud_asks_its_own_directory() {
    for (host, directory) in [
        ("acme.azurecr.io", "login.microsoftonline.com"),
        ("acme-d4f2a1.azurecr.io", "login.microsoftonline.com"),
        (
            "acme.westeurope.geo.azurecr.io",
            "login.microsoftonline.com",
        ),
        ("acme.azurecr.cn", "login.partner.microsoftonline.cn"),
        ("acme.azurecr.us", "login.microsoftonline.us"),
        ("acme.azurecr.de", "login.microsoftonline.de"),
    ] {
        for tenant in [TENANT, "contoso.onmicrosoft.com"] {
            let azure = Azure::at(host, directory, tenant).await;
            let keys = [("AZURE_CLIENT_SECRET", SECRET), ("AZURE_TENANT_ID", tenant)];
            azure.registry.pull(azure.principal(&keys)).await;
            assert_eq!((azure.asked(), azure.seen()), ((1, 1), (1, 0)), "{host}");
        }
    }
}

#[tokio::test]
async fn what_is_vended_is_for_one_repository_and_says_when_it_ends() {
    let azure = Azure::start().await;
    let source = azure.registry.source(azure.secret());
    let auth = azure.registry.ask(source.as_ref()).await.expect("auth");
    let AuthScheme::Bearer(token) = &auth.scheme else {
        panic!("{auth:?}");
    };
    assert_ne!(token.expose_secret(), ACCESS);
    let left = left(&auth, &azure.registry.clock);
    assert!((74 * 60..=75 * 60).contains(&left.as_secs()), "{left:?}");
    let paths = azure.registry.sim.token_requests().paths();
    assert_eq!(paths, ["POST /oauth2/token"]);
}

#[tokio::test]
async fn without_a_tenant_the_registry_takes_the_secret_itself() {
    let azure = Azure::start().await;
    let keys = [("AZURE_CLIENT_ID", CLIENT), ("AZURE_CLIENT_SECRET", SECRET)];
    let error = azure.registry.error(detect(HOST, &keys)).await;
    assert_eq!(kind(&error), "bad", "{error}");
    // For the repository, and whether it is about that.
    assert_eq!((azure.asked(), azure.seen()), ((0, 0), (0, 2)));
}

#[tokio::test]
async fn a_refresh_token_is_renewed_by_the_clock_and_when_it_is_refused() {
    let azure = Azure::start().await;
    let source = azure.registry.source(azure.secret());
    azure.registry.ask(source.as_ref()).await.expect("auth");
    let renewed = unsigned_token("second", Duration::from_hours(6));
    azure.exchange_for(TENANT, &renewed, None);
    azure.registry.sim.set_password(&renewed);
    // It is refused: the registry took it back before its time.
    azure.registry.clock.turn(Duration::from_mins(76));
    azure.registry.ask(source.as_ref()).await.expect("auth");
    assert_eq!(azure.asked(), (2, 2));
    // It is at its end. The directory's clock is not turned, which counts for nothing.
    azure.registry.clock.turn(Duration::from_hours(7));
    azure.registry.ask(source.as_ref()).await.expect("auth");
    assert_eq!(azure.asked(), (3, 3));
}

#[tokio::test]
async fn tokens_that_live_for_a_second_pull() {
    let azure = Azure::with_lives(Lives {
        refresh_token: Duration::from_hours(3),
        token: Duration::from_secs(1),
    })
    .await;
    let short = unsigned_token("refresh", Duration::from_secs(1));
    azure.exchange_for(TENANT, &short, None);
    azure.registry.sim.set_password(&short);
    azure.registry.pull(azure.secret()).await;
    azure.registry.clock.turn(Duration::from_secs(2));
    azure.registry.sim.expire_tokens();
    azure.registry.pull(azure.secret()).await;
}

#[tokio::test]
async fn a_wrong_clock_costs_nothing() {
    let azure = Azure::start().await;
    for minutes in [-5, 5] {
        azure.forget();
        azure
            .api
            .set_clock_ahead(SignedDuration::from_mins(minutes));
        let before = azure.asked().0;
        if minutes > 0 {
            azure.registry.clock.turn(Duration::from_mins(5));
        } else {
            azure.registry.clock.turn_back(Duration::from_mins(5));
        }
        let source = azure.registry.source(azure.federated());
        let auth = azure.registry.ask(source.as_ref()).await.expect("auth");
        let left = left(&auth, &azure.registry.clock).as_secs();
        assert!((74 * 60..=75 * 60).contains(&left), "{minutes}: {left}");
        azure.registry.ask(source.as_ref()).await.expect("auth");
        assert_eq!(azure.asked().0, before + 1, "{minutes}");
        azure.api.set_clock_ahead(SignedDuration::ZERO);
    }
}

#[tokio::test]
async fn refusals_of_the_directory_are_told_apart() {
    let azure = Azure::start().await;
    let wrong = [("AZURE_CLIENT_SECRET", "canary-wrong")];
    let error = azure.registry.error(azure.principal(&wrong)).await;
    assert!(error.to_string().contains("not its id"), "{error}");
    let other = [("AZURE_CLIENT_ID", TENANT), ("AZURE_CLIENT_SECRET", SECRET)];
    let error = azure.registry.error(azure.principal(&other)).await;
    assert!(error.to_string().contains("no such application"), "{error}");
    let other = [
        ("AZURE_TENANT_ID", "fabrikam.com"),
        ("AZURE_CLIENT_SECRET", SECRET),
    ];
    let error = azure.registry.error(azure.principal(&other)).await;
    assert!(error.to_string().contains("no such tenant"), "{error}");
    let other = [("AZURE_FEDERATED_TOKEN", "canary-other")];
    let error = azure.registry.error(azure.principal(&other)).await;
    assert!(
        error.to_string().contains("subject and audience"),
        "{error}"
    );
    azure.api.expire_secret();
    let error = azure.registry.error(azure.secret()).await;
    assert!(error.to_string().contains("make a new one"), "{error}");
    for (description, text) in [
        ("AADSTS700024: canary", "expired"),
        ("AADSTS700213: canary", "of that subject"),
        ("AADSTS53003: canary", "conditional access"),
        ("AADSTS123456: canary", "AADSTS123456"),
        ("canary", "invalid_client"),
    ] {
        azure.api.set_fault(Some(aadsts(description)));
        let error = azure.registry.error(azure.secret()).await;
        assert_eq!(kind(&error), "bad", "{description}: {error}");
        assert!(error.to_string().contains(text), "{description}: {error}");
        assert!(!error.to_string().contains("canary"), "{error}");
    }
    assert_eq!(azure.registry.sim.registry().read().credential_bytes, 0);
}

#[tokio::test]
async fn a_secret_that_is_refused_is_not_tried_on() {
    let azure = Azure::start().await;
    let wrong = azure.principal(&[("AZURE_CLIENT_SECRET", "wrong")]);
    let source = azure.registry.source(wrong);
    for _ in 0..5 {
        let error = azure.registry.ask(source.as_ref()).await.unwrap_err();
        assert_eq!(kind(&error), "bad", "{error}");
    }
    assert_eq!(azure.asked(), (1, 0));
}

#[tokio::test]
async fn a_registry_that_does_not_let_a_principal_in_says_what_is_missing() {
    let azure = Azure::start().await;
    azure.exchange_for("fabrikam.com", "refresh", None);
    let error = azure.registry.error(azure.secret()).await;
    assert_eq!(kind(&error), "permission", "{error}");
    assert!(error.to_string().contains("AcrPull"), "{error}");
}

#[tokio::test]
async fn services_that_fail_are_no_refusal() {
    let cases = [
        (CloudFault::Status(500), "unreachable"),
        (CloudFault::Status(302), "refused"),
        (CloudFault::Limited("7"), "limited"),
        (CloudFault::Body(String::new()), "unreachable"),
        (CloudFault::Body("<html>".to_owned()), "unreachable"),
        (
            CloudFault::Body("{\"refresh_token\":\"a b\"}".to_owned()),
            "unreachable",
        ),
        (CloudFault::Body("x".repeat(10_000_000)), "unreachable"),
    ];
    let azure = Azure::start().await;
    for (fault, expected) in cases {
        azure.api.set_fault(Some(fault.clone()));
        let at_directory = azure.registry.error(azure.secret()).await;
        azure.api.set_fault(None);
        azure.exchange_for(TENANT, "refresh", Some(fault));
        let at_registry = azure.registry.error(azure.secret()).await;
        for error in [at_directory, at_registry] {
            assert_eq!(kind(&error), expected, "{error}");
            if let AuthError::RateLimited { retry_after, .. } = error {
                assert_eq!(retry_after, Some(Duration::from_secs(7)));
            }
        }
    }
}

#[tokio::test]
async fn a_check_asks_the_directory_and_then_the_registry() {
    let azure = Azure::start().await;
    for credential in [azure.secret(), azure.federated()] {
        let proof = azure.registry.check(credential).await.expect("a proof");
        assert!(proof.login_needed);
        assert_eq!(proof.proven, Proven::Repository);
        assert_eq!(proof.token_service.as_deref(), Some(HOST));
    }
}

#[tokio::test]
async fn principals_of_azure_are_for_its_registries() {
    let azure = Azure::start().await;
    for host in [
        "registry.example",
        "acme.azurecr.io.evil.com",
        "acme.westeurope.data.azurecr.io",
        "acme.azurecr.io:5000",
        "mcr.microsoft.com",
    ] {
        azure.forget();
        let identity = identity(azure.secret());
        let source = azure.registry.exchange.source(endpoint(host), identity);
        let error = ask(source.as_ref(), host, None).await.unwrap_err();
        assert_eq!(kind(&error), "refused", "{host}: {error}");
    }
    assert_eq!(azure.asked(), (0, 0));
}

#[tokio::test]
async fn a_token_service_elsewhere_gets_nothing_of_a_principal() {
    let azure = Azure::start().await;
    azure.registry.sim.faults(|faults| {
        let realm = "Bearer realm=\"https://evil.example/oauth2/token\",service=\"sim\"";
        faults.challenge = Some(realm.to_owned());
    });
    let error = azure.registry.error(azure.secret()).await;
    assert_eq!(kind(&error), "refused", "{error}");
    assert!(error.to_string().contains("evil.example"), "{error}");
}

#[tokio::test]
async fn nothing_of_azures_credentials_is_shown() {
    let log = Log::start();
    let azure = Azure::start().await;
    let mut shown = String::new();
    let faults = [
        None,
        Some(CloudFault::Status(500)),
        Some(aadsts("AADSTS7000215: Invalid client secret provided.")),
        Some(CloudFault::Body(format!(
            "{{\"access_token\":\"{ACCESS} \"}}"
        ))),
    ];
    for fault in faults {
        azure.api.set_fault(fault);
        for credential in [azure.secret(), azure.federated()] {
            azure.forget();
            let source = azure.registry.source(credential.clone());
            let auth = azure.registry.ask(source.as_ref()).await;
            let proof = azure.registry.check(credential.clone()).await;
            if let Err(error) = &proof {
                shown.push_str(&error.to_string());
            }
            shown.push_str(&format!("{credential:?} {source:?} {auth:?} {proof:?}"));
            shown.push_str(&format!("{:?} {:?}", azure.registry.exchange, azure.api));
        }
    }
    shown.push_str(&log.text());
    for secret in [SECRET, FEDERATED, ACCESS, "canary", "eyJ"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[tokio::test]
async fn a_principal_is_handed_out_as_a_refresh_token() {
    let azure = Azure::start().await;
    let (exchange, at) = (&azure.registry.exchange, azure.registry.endpoint.clone());
    let given = exchange.user_password(at, identity(azure.secret())).await;
    let given = given.expect("a password");
    let zeros = "00000000-0000-0000-0000-000000000000";
    assert_eq!((given.username.as_str(), given.is_minted), (zeros, true));
    assert!(!given.password.expose_secret().contains(SECRET));
}
