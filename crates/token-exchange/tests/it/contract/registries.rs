//! Registries by the wire that each documents: what its door answers, what its token service is
//! asked and by whose name, what a token comes in. Each is reached under its own name.

use std::sync::Arc;
use std::time::Duration;

use registry_sim::{Authority, HostCounter, Login, Options, Realm};
use token_exchange::Identity;

use super::upstreams::{Provided, Says, Upstream};
use crate::cloud::{CloudRegistry, detect, dialled_name};
use crate::support::{PASSWORD, identity, pull_with};

/// What is particular about a registry. Each password ends like the one of the other tests.
pub(super) struct Wire {
    pub(super) name: &'static str,
    host: &'static str,
    /// What its user is told to log in with; the last is the password.
    keys: &'static [(&'static str, &'static str)],
    /// The user name that goes with it.
    username: &'static str,
    /// Where it sends everybody for a token.
    realm: &'static str,
    /// What its door says, in which `REALM` is that.
    challenge: &'static str,
    /// A token service on a host that has to be allowed.
    allowed: Option<&'static str>,
    /// What a token is asked for with, in which `PULL` is the scope.
    question: &'static str,
    reply: &'static str,
    end: End,
    /// Whether a wrong password is told apart from a repository that it may not read.
    tells_wrong: bool,
}

/// Where the end of a token is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Reply,
    /// It is a JSON web token.
    Token,
    Nowhere,
}

/// The life of a token of which nothing says how long it lives, by the specification.
const UNSTATED_LIFE: Duration = Duration::from_mins(1);

/// The usual one: a service of the registry's own, whose replies say how long a token lives.
const USUAL: Wire = Wire {
    name: "registry",
    host: "registry.acme.example",
    keys: &[
        ("USERNAME", "puller"),
        ("PASSWORD", "correct-horse-battery"),
    ],
    username: "puller",
    realm: "https://registry.acme.example/token",
    challenge: r#"Bearer realm="REALM",service="acme""#,
    allowed: None,
    question: "/token?service=acme&scope=PULL&account=puller",
    reply: r#"{"token":"TOKEN","expires_in":LIFE,"issued_at":"NOW"}"#,
    end: End::Reply,
    tells_wrong: true,
};

const WIRES: [Wire; 10] = [
    USUAL,
    // Is called otherwise than its hosts; both fields hold the token.
    Wire {
        name: "Docker Hub",
        host: "docker.io",
        keys: &[
            ("DOCKERHUB_USERNAME", "acme"),
            ("DOCKERHUB_TOKEN", "dckr_pat_correct-horse-battery"),
        ],
        username: "acme",
        realm: "https://auth.docker.io/token",
        challenge: r#"Bearer realm="REALM",service="registry.docker.io""#,
        question: "/token?service=registry.docker.io&scope=PULL&account=acme",
        reply: r#"{"token":"TOKEN","access_token":"TOKEN","expires_in":LIFE,"issued_at":"NOW"}"#,
        ..USUAL
    },
    // Its door names a repository that nobody asked for, its tokens do not say when they end, its
    // 403 may be of the password.
    Wire {
        name: "GHCR",
        host: "ghcr.io",
        keys: &[("GITHUB_TOKEN", "ghp_correct-horse-battery")],
        username: "x-access-token",
        realm: "https://ghcr.io/token",
        challenge: r#"Bearer realm="REALM",service="ghcr.io",scope="repository:user/image:pull""#,
        question: "/token?service=ghcr.io&scope=PULL&account=x-access-token",
        reply: r#"{"token":"TOKEN"}"#,
        end: End::Nowhere,
        tells_wrong: false,
        ..USUAL
    },
    // Is asked at another host, which everybody knows.
    Wire {
        name: "GitLab",
        host: "registry.gitlab.com",
        keys: &[("GITLAB_TOKEN", "glpat-correct-horse-battery")],
        username: "oauth2",
        realm: "https://gitlab.com/jwt/auth",
        challenge: r#"Bearer realm="REALM",service="container_registry""#,
        question: "/jwt/auth?service=container_registry&scope=PULL&account=oauth2",
        reply: r#"{"token":"TOKEN"}"#,
        end: End::Token,
        ..USUAL
    },
    // The same of somebody's own, by a deploy token: the other host has to be allowed.
    Wire {
        name: "own GitLab",
        host: "registry.acme.example",
        keys: &[
            ("USERNAME", "gitlab+deploy-token-7"),
            ("PASSWORD", "gldt-correct-horse-battery"),
        ],
        username: "gitlab+deploy-token-7",
        realm: "https://gitlab.acme.example/jwt/auth",
        challenge: r#"Bearer realm="REALM",service="container_registry""#,
        allowed: Some("gitlab.acme.example"),
        question: "/jwt/auth?service=container_registry&scope=PULL&account=gitlab%2Bdeploy-token-7",
        reply: r#"{"token":"TOKEN"}"#,
        end: End::Token,
        ..USUAL
    },
    // A robot is an organisation and a name, whose plus sign is no space.
    Wire {
        name: "Quay",
        host: "quay.io",
        keys: &[
            ("QUAY_USERNAME", "acme+robot"),
            ("QUAY_TOKEN", "correct-horse-battery"),
        ],
        username: "acme+robot",
        realm: "https://quay.io/v2/auth",
        challenge: r#"Bearer realm="REALM",service="quay.io""#,
        question: "/v2/auth?service=quay.io&scope=PULL&account=acme%2Brobot",
        reply: r#"{"token":"TOKEN"}"#,
        end: End::Token,
        ..USUAL
    },
    // These very characters are the user name, and the challenge has no service.
    Wire {
        name: "NGC",
        host: "nvcr.io",
        keys: &[("NGC_API_KEY", "nvapi-correct-horse-battery")],
        username: "$oauthtoken",
        realm: "https://nvcr.io/proxy_auth",
        challenge: r#"Bearer realm="REALM""#,
        question: "/proxy_auth?scope=PULL&account=%24oauthtoken",
        reply: r#"{"token":"TOKEN","expires_in":LIFE}"#,
        ..USUAL
    },
    // A robot of a project; the other field is there and empty.
    Wire {
        name: "Harbor",
        host: "harbor.acme.example",
        keys: &[
            ("USERNAME", "robot$acme+ci"),
            ("PASSWORD", "correct-horse-battery"),
        ],
        username: "robot$acme+ci",
        realm: "https://harbor.acme.example/service/token",
        challenge: r#"Bearer realm="REALM",service="harbor-registry""#,
        question: "/service/token?service=harbor-registry&scope=PULL&account=robot%24acme%2Bci",
        reply: r#"{"token":"TOKEN","access_token":"","expires_in":LIFE,"issued_at":"NOW"}"#,
        ..USUAL
    },
    // Its service has a path for each of its own repositories.
    Wire {
        name: "Artifactory",
        host: "acme.jfrog.io",
        realm: "https://acme.jfrog.io/artifactory/api/docker/main/v2/token",
        challenge: r#"Bearer realm="REALM",service="acme.jfrog.io""#,
        question: "/artifactory/api/docker/main/v2/token\
                   ?service=acme.jfrog.io&scope=PULL&account=puller",
        reply: r#"{"token":"TOKEN","expires_in":LIFE}"#,
        ..USUAL
    },
    // What the specifications allow and nobody expects: several challenges, letters of either size,
    // a value without quotes, a realm with a query of its own, a life that is a text.
    Wire {
        name: "odd registry",
        realm: "https://registry.acme.example/auth?org=7",
        challenge: r#"Negotiate, Basic realm="of \"acme\"", BEARER Service=acme, Realm="REALM""#,
        question: "/auth?org=7&service=acme&scope=PULL&account=puller",
        reply: r#"{"access_token":"TOKEN","token":null,"expires_in":"LIFE","more":[]}"#,
        ..USUAL
    },
];

/// A token of each, which lives for so long where anything says so.
pub(super) async fn providers(life: Duration) -> Vec<Provided> {
    let mut all = Vec::with_capacity(WIRES.len());
    for wire in &WIRES {
        all.push(provided(wire, life).await);
    }
    all
}

async fn provided(wire: &'static Wire, life: Duration) -> Provided {
    let registry = wire.start(life).await;
    Provided {
        name: wire.name,
        host: wire.host.to_owned(),
        source: registry.source_of(wire.identity()),
        clock: Arc::clone(&registry.clock),
        life: if wire.end == End::Nowhere {
            UNSTATED_LIFE
        } else {
            life
        },
        upstream: Box::new(TokenService {
            registry,
            tells_wrong: wire.tells_wrong,
        }),
    }
}

impl Wire {
    async fn start(&self, token_life: Duration) -> CloudRegistry {
        let authority = Authority::naming(&[&dialled_name(self.host), self.realm_name()]);
        let options = Options {
            login: Login::Bearer(Realm::Url(self.realm.to_owned())),
            username: self.username.to_owned(),
            password: self.password().to_owned(),
            token_life,
            token_reply: self.reply,
            token_says_its_end: self.end == End::Token,
            ..Options::default()
        };
        let registry = CloudRegistry::start(self.host, authority, &[], options).await;
        let challenge = self.challenge.replace("REALM", self.realm);
        registry
            .sim
            .faults(|faults| faults.challenge = Some(challenge));
        registry
    }

    fn password(&self) -> &'static str {
        let password = self.keys.last().expect("a key").1;
        assert!(password.ends_with(PASSWORD), "{}", self.name);
        password
    }

    fn identity(&self) -> Identity {
        Identity {
            token_service: self.allowed.map(str::to_owned),
            ..identity(detect(self.host, self.keys))
        }
    }

    fn realm_name(&self) -> &'static str {
        let (_, rest) = self.realm.split_once("//").expect("a URL");
        rest.split('/').next().expect("a name")
    }
}

/// The token service of a registry that is reached under its name.
struct TokenService {
    registry: CloudRegistry,
    tells_wrong: bool,
}

impl Upstream for TokenService {
    fn asked(&self) -> u64 {
        self.registry.sim.asked()
    }

    fn say(&self, says: Option<Says>) {
        self.registry.sim.say(says);
    }

    fn can_say(&self, says: &Says) -> bool {
        self.tells_wrong || !matches!(says, Says::Wrong)
    }

    fn hold(&self, held: bool) {
        self.registry.sim.hold(held);
    }

    fn strayed(&self) -> u64 {
        self.registry.sim.strayed()
    }
}

#[tokio::test]
async fn each_registry_is_asked_in_its_own_words_and_its_service_alone_sees_the_password() {
    for wire in &WIRES {
        let registry = wire.start(Duration::from_mins(5)).await;
        let sim = &registry.sim;
        let all = [sim.registry(), sim.realm(), sim.stranger(), sim.storage()];
        for counter in all {
            counter.watch_for(wire.password());
        }
        let is_elsewhere = wire.realm_name() != dialled_name(wire.host);
        let seen = || all.map(HostCounter::sightings);
        if wire.allowed.is_some() {
            let identity = Identity {
                token_service: None,
                ..wire.identity()
            };
            let error = registry.ask(&*registry.source_of(identity)).await;
            let error = error.expect_err("another host");
            assert!(error.to_string().contains("--token-service"), "{error}");
            assert_eq!(seen(), [0; 4], "{}", wire.name);
        }
        let source = registry.source_of(wire.identity());
        let pulled = pull_with(&registry.dialer, registry.endpoint.clone(), source).await;
        pulled.unwrap_or_else(|error| panic!("{}: {error}", wire.name));
        let asked = sim.token_requests().paths();
        let question = wire
            .question
            .replace("PULL", "repository%3Aacme%2Fapp%3Apull");
        assert_eq!(asked, [format!("GET {question}")], "{}", wire.name);
        let [at_registry, at_realm] = [!is_elsewhere, is_elsewhere].map(u64::from);
        assert_eq!(seen(), [at_registry, at_realm, 0, 0], "{}", wire.name);
    }
}
