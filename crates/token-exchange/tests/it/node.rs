//! Identities of the machine, as its metadata service gives them: where they go, what becomes of
//! them, and what is asked where none is granted.

use std::sync::Arc;
use std::time::Duration;

use credential::auth::{AuthError, AuthScheme, AuthSource};
use credential::{Credential, Fields, Keyless, NodeFields, from_keyless};
use registry_sim::{
    Authority, AzureExchange, CloudFault, EcrApi, HostCounter, Login, MetadataApi, Options, Realm,
    StsApi, unsigned_token,
};
use token_exchange::{Identity, NodeFuture, NodeIdentity, OpenFuture, OpensCredential, Rung};

use crate::cloud::{CloudRegistry, Log, kind};
use crate::ecr::{PRIVATE, PRIVATE_API};
use crate::google::HOST as GOOGLE;
use crate::support::{ask, pull_with, registry};

const STS: &str = "sts.eu-west-1.amazonaws.com";
const ROLE: &str = "arn:aws:iam::123456789012:role/puller";
const NODE_KEY: (&str, &str, &str) = ("ASIANODE", "canary-node-secret", "canary-node-session");
const AZURE: &str = "acme.azurecr.io";
const ACCESS: &str = "canary-node-access";
const NAME: &str = "puller";

/// Who has been granted an identity, or nothing.
#[derive(Debug)]
struct Opener {
    credential: Credential,
    granted: Option<NodeIdentity>,
}

impl OpensCredential for Opener {
    fn open(&self) -> OpenFuture<'_> {
        Box::pin(async { Ok(self.credential.clone()) })
    }

    fn node_identity<'a>(&'a self, name: &'a str) -> NodeFuture<'a> {
        let granted = self.granted.clone().filter(|_| name == NAME);
        let message = "not granted".to_owned();
        Box::pin(async { granted.ok_or(AuthError::Refused { message }) })
    }
}

/// A registry of a cloud, read by a machine of it.
pub(crate) struct Machine {
    pub(crate) cloud: CloudRegistry,
    pub(crate) metadata: MetadataApi,
    granted: NodeIdentity,
    aws: Option<(StsApi, EcrApi)>,
}

impl Machine {
    pub(crate) async fn of_aws() -> Self {
        let authority = Authority::naming(&[PRIVATE, PRIVATE_API, STS]);
        let metadata = MetadataApi::start(NODE_KEY).await;
        let sts = StsApi::start(&authority, (NODE_KEY.0, NODE_KEY.1), ROLE).await;
        sts.demand_key_session(NODE_KEY.2);
        let api = EcrApi::start(&authority, sts.session_key()).await;
        api.demand_session(sts.session_token());
        let options = Options {
            login: Login::EcrLike,
            username: "AWS".to_owned(),
            password: "ecr-password".to_owned(),
            ..Options::default()
        };
        let lines = [(PRIVATE_API, api.host()), (STS, sts.host())];
        Self {
            cloud: CloudRegistry::on_machine(PRIVATE, authority, &lines, options, &metadata).await,
            metadata,
            granted: NodeIdentity::Aws {
                role_arn: ROLE.to_owned(),
            },
            aws: Some((sts, api)),
        }
        .watched()
    }

    /// A registry of Google's whose tokens live for so long.
    pub(crate) async fn of_google(life: Duration) -> Self {
        let authority = Authority::naming(&[GOOGLE]);
        let metadata = MetadataApi::start(NODE_KEY).await;
        metadata.give(ACCESS, life);
        let options = Options {
            login: Login::Bearer(Realm::Url(format!("https://{GOOGLE}/v2/token"))),
            username: "oauth2accesstoken".to_owned(),
            password: ACCESS.to_owned(),
            token_life: life,
            ..Options::default()
        };
        Self {
            cloud: CloudRegistry::on_machine(GOOGLE, authority, &[], options, &metadata).await,
            metadata,
            granted: NodeIdentity::Google {
                service_account: None,
            },
            aws: None,
        }
        .watched()
    }

    /// A registry of Azure's whose tokens live for so long, those for what it exchanges too.
    pub(crate) async fn of_azure(life: Duration) -> Self {
        let authority = Authority::naming(&[AZURE]);
        let metadata = MetadataApi::start(NODE_KEY).await;
        metadata.give(ACCESS, life);
        let refresh_token = unsigned_token("refresh", life);
        let options = Options {
            login: Login::Bearer(Realm::Url(format!("https://{AZURE}/oauth2/token"))),
            password: refresh_token.clone(),
            token_life: life,
            token_reply: r#"{"access_token":"TOKEN"}"#,
            token_says_its_end: true,
            ..Options::default()
        };
        let cloud = CloudRegistry::on_machine(AZURE, authority, &[], options, &metadata).await;
        cloud.sim.set_exchange(AzureExchange {
            service: "sim".to_owned(),
            tenant: String::new(),
            access_token: ACCESS.to_owned(),
            refresh_token,
            fault: None,
        });
        Self {
            cloud,
            metadata,
            granted: NodeIdentity::Azure {
                client_id: None,
                tenant_id: None,
            },
            aws: None,
        }
        .watched()
    }

    pub(crate) fn sts(&self) -> &StsApi {
        &self.aws.as_ref().expect("a machine of AWS").0
    }

    pub(crate) fn ecr_api(&self) -> &EcrApi {
        &self.aws.as_ref().expect("a machine of AWS").1
    }

    /// Everywhere it is looked for what the machine was given.
    fn watched(self) -> Self {
        for counter in self.counters() {
            counter.watch_for(NODE_KEY.1);
            counter.watch_for(NODE_KEY.2);
            counter.watch_for(ACCESS);
        }
        self
    }

    fn counters(&self) -> Vec<&HostCounter> {
        let sim = &self.cloud.sim;
        let mut counters = vec![sim.registry(), sim.stranger(), sim.storage()];
        if let Some((sts, api)) = &self.aws {
            counters.extend([sts.counter(), api.counter()]);
        }
        counters
    }

    fn source_for(&self, granted: Option<NodeIdentity>) -> Arc<dyn AuthSource> {
        let keyless = Keyless::Node { name: NAME };
        let credential = from_keyless(&registry(self.cloud.host), keyless);
        let opener = Opener {
            credential: credential.expect("a credential").credential,
            granted,
        };
        self.source_of(opener)
    }

    fn source_of(&self, opener: Opener) -> Arc<dyn AuthSource> {
        let identity = Identity {
            key: "ws-1/secret-1/v1".to_owned(),
            credential: Arc::new(opener),
            token_service: None,
        };
        self.cloud.exchange.forget(&identity.key);
        self.cloud
            .exchange
            .source(self.cloud.endpoint.clone(), identity)
    }

    pub(crate) fn source(&self) -> Arc<dyn AuthSource> {
        self.source_for(Some(self.granted.clone()))
    }

    async fn pull(&self) {
        let (dialer, endpoint) = (&self.cloud.dialer, self.cloud.endpoint.clone());
        let pulled = pull_with(dialer, endpoint, self.source()).await;
        pulled.expect("a pull");
    }

    async fn error(&self, source: Arc<dyn AuthSource>) -> AuthError {
        let answer = ask(source.as_ref(), self.cloud.host, None).await;
        answer.expect_err("a refusal")
    }

    fn asked(&self) -> u64 {
        self.metadata.counter().read().requests
    }
}

async fn machines() -> [Machine; 3] {
    let life = Duration::from_hours(1);
    [
        Machine::of_aws().await,
        Machine::of_google(life).await,
        Machine::of_azure(life).await,
    ]
}

#[tokio::test]
async fn the_role_of_an_instance_takes_on_another_for_one_repository() {
    let machine = Machine::of_aws().await;
    machine.pull().await;
    let (sts, api) = (machine.sts(), machine.ecr_api());
    let assumed = sts.assumed();
    assert_eq!(assumed.len(), 1);
    assert_eq!(
        assumed[0].policy["Statement"][1]["Resource"],
        "arn:aws:ecr:eu-west-1:123456789012:repository/acme/app"
    );
    // A token of its own, the role's name, its keys.
    let paths = machine.metadata.counter().paths();
    assert_eq!(paths.len(), 3, "{paths:?}");
    assert!(paths[0].contains("/latest/api/token"), "{paths:?}");
    // The keys sign and are sent nowhere; their session's token goes to the session service.
    assert_eq!(machine.cloud.sim.registry().sightings(), 0);
    assert_eq!(api.counter().sightings(), 0);
    let auth = ask(machine.source().as_ref(), PRIVATE, None)
        .await
        .expect("auth");
    assert!(matches!(auth.scheme, AuthScheme::Basic { .. }));
}

#[tokio::test]
async fn tokens_of_machines_are_exchanged_for_one_repositorys() {
    for machine in [
        Machine::of_google(Duration::from_hours(1)).await,
        Machine::of_azure(Duration::from_hours(1)).await,
    ] {
        machine.pull().await;
        let source = machine.source();
        let auth = ask(source.as_ref(), machine.cloud.host, None)
            .await
            .expect("auth");
        assert!(
            matches!(auth.scheme, AuthScheme::Bearer(_)),
            "{}",
            machine.cloud.host
        );
        let proof = machine.cloud.exchange.check(
            machine.cloud.endpoint.clone(),
            Identity {
                key: "check".to_owned(),
                credential: Arc::new(Opener {
                    credential: from_keyless(
                        &registry(machine.cloud.host),
                        Keyless::Node { name: NAME },
                    )
                    .expect("a credential")
                    .credential,
                    granted: Some(machine.granted.clone()),
                }),
                token_service: None,
            },
            Some("acme/app"),
        );
        assert_eq!(proof.await.expect("a proof").rung, Rung::RepositoryBearer);
        let strangers = machine.cloud.sim.stranger().read().requests;
        assert_eq!(strangers, 0);
    }
}

#[tokio::test]
async fn an_identity_that_is_named_is_the_one_that_is_asked_for() {
    let account = "puller@acme.iam.gserviceaccount.com";
    let client = "7f3a9d21-8100-4d1d-ad47-72432ddcc121";
    let google = Machine::of_google(Duration::from_hours(1)).await;
    let azure = Machine::of_azure(Duration::from_hours(1)).await;
    let named = |machine: &Machine| match &machine.granted {
        NodeIdentity::Google { .. } => NodeIdentity::Google {
            service_account: Some(account.to_owned()),
        },
        _ => NodeIdentity::Azure {
            client_id: Some(client.to_owned()),
            tenant_id: None,
        },
    };
    for (machine, name) in [(&google, account), (&azure, client)] {
        machine.metadata.know_alone(name);
        let error = machine.error(machine.source()).await;
        assert_eq!(kind(&error), "permission", "{error}");
        let source = machine.source_for(Some(named(machine)));
        ask(source.as_ref(), machine.cloud.host, None)
            .await
            .expect("auth");
    }
}

#[tokio::test]
async fn without_a_grant_or_for_another_cloud_nothing_is_asked_of_the_machine() {
    for machine in machines().await {
        let others = [
            NodeIdentity::Aws {
                role_arn: ROLE.to_owned(),
            },
            NodeIdentity::Google {
                service_account: None,
            },
            NodeIdentity::Azure {
                client_id: None,
                tenant_id: None,
            },
        ];
        let others = others.into_iter().filter(|other| *other != machine.granted);
        for granted in others.map(Some).chain([None]) {
            let error = machine.error(machine.source_for(granted)).await;
            assert_eq!(kind(&error), "refused", "{error}");
        }
        // What was stored for one cloud is shown to no registry of another.
        let kinds = [("aws", PRIVATE), ("gcp", GOOGLE), ("azure", AZURE)];
        for (_, host) in kinds
            .into_iter()
            .filter(|(_, host)| *host != machine.cloud.host)
        {
            let foreign = from_keyless(&registry(host), Keyless::Node { name: NAME });
            let Fields::Node(NodeFields { kind: of, .. }) =
                foreign.as_ref().expect("a credential").credential.fields()
            else {
                panic!("{host}");
            };
            let identity = match of.as_str() {
                "aws" => NodeIdentity::Aws {
                    role_arn: ROLE.to_owned(),
                },
                "gcp" => NodeIdentity::Google {
                    service_account: None,
                },
                _ => NodeIdentity::Azure {
                    client_id: None,
                    tenant_id: None,
                },
            };
            let opener = Opener {
                credential: foreign.expect("a credential").credential,
                granted: Some(identity),
            };
            let error = machine.error(machine.source_of(opener)).await;
            assert_eq!(kind(&error), "refused", "{error}");
        }
        // And who has a password is never the machine.
        let password = Credential::basic("user".to_owned(), "wrong".to_owned().into());
        let _ = machine.cloud.check(password).await;
        assert_eq!(machine.asked(), 0, "{}", machine.cloud.host);
    }
}

#[tokio::test]
async fn what_the_machine_refuses_is_told_and_shown_to_nobody() {
    let log = Log::start();
    let role = |name: &str| CloudFault::Body(name.to_owned());
    for machine in machines().await {
        for (fault, expected) in [
            (CloudFault::Status(404), "permission"),
            (CloudFault::Status(401), "permission"),
            (CloudFault::Status(302), "refused"),
            (CloudFault::Status(500), "unreachable"),
            (CloudFault::Limited("7"), "limited"),
            (role("../../user-data"), "unreachable"),
            (role(&"x".repeat(10_000_000)), "unreachable"),
            (role(""), "unreachable"),
        ] {
            machine.metadata.set_fault(Some(fault.clone()));
            let error = machine.error(machine.source()).await;
            assert_eq!(kind(&error), expected, "{error}");
            assert!(error.to_string().contains("metadata") || expected == "unreachable");
        }
        machine.metadata.set_fault(None);
        let source = machine.source();
        ask(source.as_ref(), machine.cloud.host, None)
            .await
            .expect("auth");
        let shown = format!("{source:?} {}", log.text());
        for secret in [NODE_KEY.1, NODE_KEY.2, ACCESS, "user-data"] {
            assert!(!shown.contains(secret), "{secret}");
        }
    }
}

/// Nobody is there, or somebody who takes the question and is silent.
#[tokio::test]
async fn a_machine_without_a_metadata_service_says_so_within_moments() {
    let machine = Machine::of_aws().await;
    machine.metadata.close_gate();
    let begun = std::time::Instant::now();
    let error = machine.error(machine.source()).await;
    assert_eq!(kind(&error), "unreachable", "{error}");
    assert!(error.to_string().contains("no reply within 1s"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(30));
    // What is taken back is taken back at the next question.
    machine.metadata.open_gate();
    ask(machine.source().as_ref(), PRIVATE, None)
        .await
        .expect("auth");
}
