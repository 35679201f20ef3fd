//! AWS keys at registries of Amazon ECR, which are reached under their real names.

use std::sync::Arc;
use std::time::Duration;

use credential::auth::{AuthError, AuthScheme, AuthSource, RegistryAuth, Rejection};
use credential::{Credential, ExposeSecret, SecretString};
use dial::Dialer;
use jiff::{SignedDuration, Timestamp};
use registry_client::Endpoint;
use registry_sim::{Authority, EcrApi, EcrFault, Login, Options, Realm, RegistrySim, Switchboard};
use serde_json::json;
use token_exchange::{Clock, Proven, TokenExchange};

use crate::cloud::CloudRegistry;
use crate::support::{HandClock, REPOSITORY, ask, endpoint, identity, image, pull_with, registry};

pub(crate) const PRIVATE: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
pub(crate) const PRIVATE_API: &str = "api.ecr.eu-west-1.amazonaws.com";
pub(crate) const PUBLIC: &str = "public.ecr.aws";
pub(crate) const PUBLIC_API: &str = "api.ecr-public.us-east-1.amazonaws.com";
pub(crate) const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
pub(crate) const KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// A registry of ECR, its API, and an exchange that reaches both.
pub(crate) struct Ecr {
    pub(crate) host: &'static str,
    pub(crate) sim: RegistrySim,
    pub(crate) api: EcrApi,
    pub(crate) exchange: TokenExchange,
    pub(crate) endpoint: Endpoint,
    pub(crate) dialer: Dialer,
    pub(crate) clock: Arc<HandClock>,
    _switchboard: Switchboard,
}

impl Ecr {
    pub(crate) async fn private() -> Self {
        Self::start(PRIVATE, PRIVATE_API, with_login(Login::EcrLike)).await
    }

    pub(crate) async fn public() -> Self {
        Self::public_living(Duration::from_mins(5)).await
    }

    /// The public one, whose tokens live for so long.
    pub(crate) async fn public_living(token_life: Duration) -> Self {
        let realm = Realm::Url(format!("https://{PUBLIC}/token"));
        let options = Options {
            login: Login::Bearer(realm),
            token_life,
            ..Options::default()
        };
        Self::start(PUBLIC, PUBLIC_API, options).await
    }

    async fn start(host: &'static str, api_host: &str, options: Options) -> Self {
        let authority = Authority::naming(&[host, api_host]);
        let api = EcrApi::start(&authority, (KEY_ID, KEY)).await;
        Self::reached(host, authority, options, api, &[(api_host, "")]).await
    }

    /// A registry and its API, with what else is reached; the API itself where that says nothing.
    pub(crate) async fn reached(
        host: &'static str,
        authority: Authority,
        options: Options,
        api: EcrApi,
        lines: &[(&str, &str)],
    ) -> Self {
        let options = Options {
            username: "AWS".to_owned(),
            password: "ecr-password".to_owned(),
            ..options
        };
        let lines = lines.iter().map(|(name, at)| match *at {
            "" => (*name, api.host()),
            at => (*name, at),
        });
        let lines: Vec<_> = lines.collect();
        let CloudRegistry {
            host,
            sim,
            exchange,
            endpoint,
            clock,
            dialer,
            switchboard,
        } = CloudRegistry::start(host, authority, &lines, options).await;
        Self {
            host,
            sim,
            api,
            exchange,
            endpoint,
            dialer,
            clock,
            _switchboard: switchboard,
        }
    }

    pub(crate) fn source(&self, credential: Credential) -> Arc<dyn AuthSource> {
        self.exchange
            .source(self.endpoint.clone(), identity(credential))
    }

    pub(crate) fn keys(&self) -> Credential {
        self.keys_with(&[])
    }

    pub(crate) fn keys_with(&self, more: &[(&str, &str)]) -> Credential {
        let keys = [
            ("AWS_ACCESS_KEY_ID", KEY_ID),
            ("AWS_SECRET_ACCESS_KEY", KEY),
        ];
        let keys = keys.iter().chain(more);
        let keys = keys.map(|(name, value)| ((*name).to_owned(), json!(value)));
        let detected = credential::detect(&registry(self.host), &keys.collect());
        detected.expect("a credential").credential
    }

    pub(crate) async fn pull(&self, source: Arc<dyn AuthSource>) {
        pull_with(&self.dialer, self.endpoint.clone(), source)
            .await
            .expect("a pull");
    }

    pub(crate) async fn error(&self, credential: Credential) -> AuthError {
        let source = self.source(credential);
        ask(source.as_ref(), self.host, None)
            .await
            .expect_err("a refusal")
    }

    /// Time passes, here and at AWS.
    pub(crate) fn turn(&self, by: Duration) {
        self.clock.turn(by);
        let ahead = self.clock.now().duration_since(Timestamp::now());
        self.api.set_clock_ahead(ahead);
    }

    pub(crate) fn asked(&self) -> u64 {
        self.api.counter().read().requests
    }
}

pub(crate) fn with_login(login: Login) -> Options {
    Options {
        login,
        ..Options::default()
    }
}

pub(crate) fn password(auth: &RegistryAuth) -> &str {
    match &auth.scheme {
        AuthScheme::Basic { username, password } if username == "AWS" => password.expose_secret(),
        other => panic!("{other:?}"),
    }
}

/// What a registry of ECR says where it may be the repository or the token.
pub(crate) fn forbidden(auth: &RegistryAuth) -> Rejection {
    Rejection {
        serial: auth.serial,
        status: 403,
        challenges: Vec::new(),
        says_expired: false,
        is_hearsay: false,
    }
}

pub(crate) fn expired(auth: &RegistryAuth) -> Rejection {
    Rejection {
        says_expired: true,
        ..forbidden(auth)
    }
}

#[tokio::test]
async fn keys_pull_from_a_private_registry_and_go_to_the_api_alone() {
    let ecr = Ecr::private().await;
    let source = ecr.source(ecr.keys());
    ecr.pull(Arc::clone(&source)).await;
    let auth = ask(source.as_ref(), PRIVATE, None).await.expect("auth");
    assert_eq!(password(&auth), "ecr-password");
    let left = auth
        .not_after
        .expect("an end")
        .duration_since(ecr.clock.now());
    assert!((left.as_secs() - 12 * 3600).abs() < 60, "{left}");
    assert_eq!(ecr.asked(), 1);
    // Neither key goes anywhere: the signature shows that we have them.
    let basic = "Basic ".len() + 4 * "AWS:ecr-password".len().div_ceil(3);
    let seen = ecr.sim.registry().read();
    assert_eq!(seen.credential_bytes % basic as u64, 0, "{seen:?}");
}

#[tokio::test]
async fn one_token_serves_every_repository_of_a_registry() {
    let ecr = Ecr::private().await;
    for repository in ["acme/one", "acme/two", "acme/three"] {
        ecr.sim.push(repository, "latest", &image());
        let source = ecr.source(ecr.keys());
        let own = registry(PRIVATE);
        let request = credential::auth::AuthRequest {
            registry: &own,
            repository,
            rejected: None,
        };
        source.auth(request).await.expect("auth");
    }
    assert_eq!(ecr.asked(), 1);
}

#[tokio::test]
async fn keys_pull_from_the_public_registry_by_its_token_service() {
    let ecr = Ecr::public().await;
    let source = ecr.source(ecr.keys());
    ecr.pull(Arc::clone(&source)).await;
    let auth = ask(source.as_ref(), PUBLIC, None).await.expect("auth");
    assert!(matches!(auth.scheme, AuthScheme::Bearer(_)), "{auth:?}");
    assert_eq!(
        (ecr.asked(), ecr.sim.token_requests().read().requests),
        (1, 1)
    );
}

#[tokio::test]
async fn a_token_is_renewed_by_the_clock_and_when_the_registry_says_expired() {
    let ecr = Ecr::private().await;
    let source = ecr.source(ecr.keys());
    let first = ask(source.as_ref(), PRIVATE, None).await.expect("auth");
    // It died before its time: a registry of ECR says so with 403, and with no challenge.
    ecr.api.give("second", Duration::from_hours(12));
    let same = ask(source.as_ref(), PRIVATE, Some(forbidden(&first))).await;
    assert_eq!(
        password(&same.expect("auth")),
        "ecr-password",
        "too young to be at fault"
    );
    ecr.turn(Duration::from_mins(1));
    let second = ask(source.as_ref(), PRIVATE, Some(expired(&first))).await;
    assert_eq!(password(&second.expect("auth")), "second");
    ecr.api.give("third", Duration::from_hours(12));
    ecr.turn(Duration::from_hours(12));
    let third = ask(source.as_ref(), PRIVATE, None).await.expect("auth");
    assert_eq!(password(&third), "third");
    assert_eq!(ecr.asked(), 3);
}

#[tokio::test]
async fn a_repository_that_is_forbidden_costs_the_others_no_token() {
    let ecr = Ecr::private().await;
    let source = ecr.source(ecr.keys());
    let own = registry(PRIVATE);
    let request = |repository, rejected| credential::auth::AuthRequest {
        registry: &own,
        repository,
        rejected,
    };
    let auth = source.auth(request("acme/other", None)).await;
    let refused = forbidden(&auth.expect("auth"));
    ecr.turn(Duration::from_mins(1));
    for fault in [
        EcrFault::Named("ThrottlingException"),
        EcrFault::Named("OptInRequired"),
    ] {
        ecr.api.set_fault(Some(fault));
        let error = source
            .auth(request("acme/other", Some(refused.clone())))
            .await;
        let error = error.expect_err("a refusal");
        assert!(matches!(error, AuthError::NoPermission { .. }), "{error}");
        let other = ask(source.as_ref(), PRIVATE, None).await.expect("auth");
        assert_eq!(password(&other), "ecr-password");
    }
    assert_eq!(ecr.asked(), 2, "what the guess came to stands for a while");
}

#[tokio::test]
async fn what_aws_says_in_unknown_words_is_not_asked_again_at_once() {
    let ecr = Ecr::private().await;
    ecr.api.set_fault(Some(EcrFault::Named("OptInRequired")));
    for _ in 0..3 {
        let error = ecr.error(ecr.keys()).await;
        assert!(matches!(error, AuthError::Refused { .. }), "{error}");
    }
    assert_eq!(ecr.asked(), 1);
    ecr.turn(Duration::from_secs(11));
    ecr.api.set_fault(None);
    let source = ecr.source(ecr.keys());
    let first = ask(source.as_ref(), PRIVATE, None).await.expect("auth");
    ecr.api.set_fault(Some(EcrFault::Named("OptInRequired")));
    ecr.turn(Duration::from_hours(11) + Duration::from_mins(30));
    for _ in 0..3 {
        let same = ask(source.as_ref(), PRIVATE, None).await.expect("auth");
        assert_eq!(same.serial, first.serial, "it is still good");
    }
    assert!(ecr.asked() <= 3, "{}", ecr.asked());
}

#[tokio::test]
async fn a_token_that_the_public_token_service_refuses_is_renewed() {
    let ecr = Ecr::public().await;
    let source = ecr.source(ecr.keys());
    ask(source.as_ref(), PUBLIC, None).await.expect("auth");
    ecr.sim.set_password("second");
    ecr.api.give("second", Duration::from_hours(12));
    ecr.turn(Duration::from_hours(1));
    ask(source.as_ref(), PUBLIC, None).await.expect("auth");
    assert_eq!(ecr.asked(), 2);
}

#[tokio::test]
async fn keys_of_a_session_are_sent_with_its_token() {
    let ecr = Ecr::private().await;
    ecr.api.demand_session("session-token");
    let credential = ecr.keys_with(&[("AWS_SESSION_TOKEN", "session-token")]);
    let source = ecr.source(credential);
    ask(source.as_ref(), PRIVATE, None).await.expect("auth");
}

#[tokio::test]
async fn a_wrong_clock_is_put_right_by_the_services_own() {
    let ecr = Ecr::private().await;
    for ahead in [-7, -2, 2, 7] {
        ecr.api.set_clock_ahead(SignedDuration::from_mins(ahead));
        let source = ecr.source(ecr.keys());
        let auth = ask(source.as_ref(), PRIVATE, None).await;
        let auth = auth.unwrap_or_else(|error| panic!("{ahead}: {error}"));
        let left = auth
            .not_after
            .expect("an end")
            .duration_since(ecr.clock.now());
        assert!((left.as_secs() - 12 * 3600).abs() < 60, "{ahead}: {left}");
        ecr.exchange.forget(&identity(Credential::public()).key);
    }
}

#[tokio::test]
async fn refusals_of_the_api_are_told_apart() {
    let ecr = Ecr::private().await;
    let cases = [
        ("UnrecognizedClientException", "bad", "no such access key"),
        ("ExpiredTokenException", "bad", "token has expired"),
        ("InvalidSignatureException", "bad", "secret access key"),
        (
            "AccessDeniedException",
            "permission",
            "ecr:GetAuthorizationToken",
        ),
        ("ThrottlingException", "limited", "limiting"),
        ("OptInRequired", "refused", "OptInRequired"),
    ];
    for (name, kind, text) in cases {
        ecr.api.set_fault(Some(EcrFault::Named(name)));
        ecr.exchange.forget(&identity(Credential::public()).key);
        let error = ecr.error(ecr.keys()).await;
        let told = match &error {
            AuthError::BadCredential { .. } => "bad",
            AuthError::NoPermission { .. } => "permission",
            AuthError::RateLimited { .. } => "limited",
            AuthError::Refused { .. } => "refused",
            _ => "another",
        };
        assert_eq!(told, kind, "{name}: {error}");
        assert!(error.to_string().contains(text), "{name}: {error}");
        let is_shown = error.to_string().contains("user/puller");
        assert_eq!(is_shown, kind == "permission", "{name}: {error}");
    }
    let unreachable = [
        EcrFault::Status(500),
        EcrFault::Body("{}".to_owned()),
        EcrFault::Body("x".repeat(100_000)),
    ];
    for fault in unreachable {
        ecr.api.set_fault(Some(fault));
        ecr.exchange.forget(&identity(Credential::public()).key);
        let error = ecr.error(ecr.keys()).await;
        assert!(matches!(error, AuthError::Unreachable { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_wrong_key_is_refused_once_and_not_tried_on() {
    let ecr = Ecr::private().await;
    let wrong = [
        ("AWS_ACCESS_KEY_ID", KEY_ID),
        ("AWS_SECRET_ACCESS_KEY", "wrong"),
    ];
    let wrong = wrong.map(|(name, value)| (name.to_owned(), json!(value)));
    let wrong = credential::detect(&registry(PRIVATE), &wrong.into()).expect("a credential");
    for _ in 0..5 {
        let error = ecr.error(wrong.credential.clone()).await;
        assert!(matches!(error, AuthError::BadCredential { .. }), "{error}");
        assert!(!error.to_string().contains("wrong"), "{error}");
    }
    assert_eq!(
        (ecr.asked(), ecr.sim.registry().read().credential_bytes),
        (1, 0)
    );
}

#[tokio::test]
async fn a_check_asks_the_api_and_then_the_registry() {
    let ecr = Ecr::private().await;
    let check = |credential| {
        let (endpoint, repository) = (ecr.endpoint.clone(), Some(REPOSITORY));
        ecr.exchange
            .check(endpoint, identity(credential), repository)
    };
    let proof = check(ecr.keys()).await.expect("a proof");
    assert!(proof.login_needed);
    assert_eq!(proof.proven, Proven::Repository);
    ecr.api
        .set_fault(Some(EcrFault::Named("AccessDeniedException")));
    let error = check(ecr.keys()).await.unwrap_err();
    assert!(matches!(error, AuthError::NoPermission { .. }), "{error}");
}

#[tokio::test]
async fn keys_are_for_registries_of_ecr() {
    let ecr = Ecr::private().await;
    let host = "registry.example";
    let source = ecr.exchange.source(endpoint(host), identity(ecr.keys()));
    let error = ask(source.as_ref(), host, None).await.unwrap_err();
    assert!(matches!(error, AuthError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("Amazon ECR"), "{error}");
    assert_eq!(ecr.asked(), 0);
}

/// For programs that log in by themselves.
#[tokio::test]
async fn keys_are_handed_out_as_a_password_that_is_minted() {
    let ecr = Ecr::private().await;
    let given = ecr
        .exchange
        .user_password(ecr.endpoint.clone(), identity(ecr.keys()));
    let given = given.await.expect("a password");
    let parts = (given.username.as_str(), given.password.expose_secret());
    assert_eq!(parts, ("AWS", "ecr-password"));
    let left = given
        .not_after
        .expect("an end")
        .duration_since(ecr.clock.now());
    assert!(given.is_minted && left.as_secs() <= 12 * 3600, "{left}");
    assert!(!format!("{given:?}").contains("ecr-password"));
    let elsewhere = ecr
        .exchange
        .user_password(endpoint("r.example"), identity(ecr.keys()));
    let refused = elsewhere.await;
    assert!(
        matches!(refused, Err(AuthError::Refused { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn what_no_cloud_mints_is_handed_out_as_it_is_stored() {
    let ecr = Ecr::private().await;
    let password = |text: &str| SecretString::from(text.to_owned());
    let basic = |user: &str| Credential::basic(user.to_owned(), password("p"));
    let azure = "00000000-0000-0000-0000-000000000000";
    for (host, user, expected) in [
        ("r.example", "u", "u"),
        ("r.example", "<token>", "<token>"),
        ("acme.azurecr.io", "<token>", azure),
    ] {
        let given = ecr
            .exchange
            .user_password(endpoint(host), identity(basic(user)));
        let given = given.await.expect("a password");
        assert_eq!(
            (given.username.as_str(), given.is_minted),
            (expected, false)
        );
        assert_eq!(given.is_identity_token(), expected == "<token>");
    }
    for credential in [
        Credential::registry_token(password("t")),
        Credential::public(),
    ] {
        let asked = ecr
            .exchange
            .user_password(endpoint("r.example"), identity(credential));
        let refused = asked.await;
        assert!(
            matches!(refused, Err(AuthError::Refused { .. })),
            "{refused:?}"
        );
    }
}
