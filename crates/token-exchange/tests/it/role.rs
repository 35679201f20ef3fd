//! Roles of AWS: sessions that are for one repository, and what is asked for with them.

use std::sync::Arc;
use std::time::Duration;

use credential::auth::{AuthError, AuthRequest, AuthScheme, AuthSource, RegistryAuth, Rejection};
use credential::{Credential, Keyless, from_keyless};
use registry_sim::{Authority, EcrApi, EcrFault, Login, Realm, StsApi};
use serde_json::json;
use token_exchange::{Clock, Identity, OpenFuture, OpensCredential, Rung, TokenFuture};

use crate::ecr::{
    Ecr, KEY, KEY_ID, PRIVATE, PRIVATE_API, PUBLIC, PUBLIC_API, expired, forbidden, password,
    with_login,
};
use crate::support::{REPOSITORY, ask, identity, image, registry};

const STS: &str = "sts.eu-west-1.amazonaws.com";
const PUBLIC_STS: &str = "sts.us-east-1.amazonaws.com";
const ROLE: &str = "arn:aws:iam::123456789012:role/team/puller";
const IDENTITY_TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ3cyJ9.canary-signature";

/// A registry whose keys may pull only in a role.
pub(crate) struct Stage {
    pub(crate) ecr: Ecr,
    pub(crate) sts: StsApi,
}

impl Stage {
    pub(crate) async fn private() -> Self {
        Self::start(PRIVATE, PRIVATE_API, STS, Login::EcrLike).await
    }

    async fn start(host: &'static str, api_host: &str, sts_host: &str, login: Login) -> Self {
        let authority = Authority::naming(&[host, api_host, sts_host]);
        let sts = StsApi::start(&authority, (KEY_ID, KEY), ROLE).await;
        let api = EcrApi::start(&authority, sts.session_key()).await;
        api.demand_session(sts.session_token());
        let lines = [(api_host, ""), (sts_host, sts.host())];
        let ecr = Ecr::reached(host, authority, with_login(login), api, &lines).await;
        Self { ecr, sts }
    }

    fn credential(&self, more: &[(&str, &str)]) -> Credential {
        let role = [("AWS_ROLE_ARN", ROLE)];
        let entries: Vec<_> = role.iter().chain(more).copied().collect();
        self.ecr.keys_with(&entries)
    }

    pub(crate) fn source(&self) -> Arc<dyn AuthSource> {
        self.ecr.source(self.credential(&[]))
    }

    /// By a token of our own issuer, which the role trusts from now on.
    pub(crate) fn source_by_our_issuer(&self) -> Arc<dyn AuthSource> {
        self.sts.trust_web_identity(IDENTITY_TOKEN);
        let keyless = Keyless::Aws {
            role_arn: ROLE,
            session_name: None,
        };
        let detected = from_keyless(&registry(self.ecr.host), keyless);
        let identity = Identity {
            credential: Arc::new(OurIssuer(detected.expect("a credential").credential)),
            ..identity(Credential::public())
        };
        self.ecr
            .exchange
            .source(self.ecr.endpoint.clone(), identity)
    }

    fn forget(&self) {
        self.ecr
            .exchange
            .forget(&identity(Credential::public()).key);
    }
}

/// Whose identity tokens are always the same.
#[derive(Debug)]
struct OurIssuer(Credential);

impl OpensCredential for OurIssuer {
    fn open(&self) -> OpenFuture<'_> {
        self.0.open()
    }

    fn identity_token<'a>(&'a self, _audience: &'a str) -> TokenFuture<'a> {
        Box::pin(async { Ok(IDENTITY_TOKEN.to_owned().into()) })
    }
}

async fn ask_for(
    source: &dyn AuthSource,
    repository: &str,
    rejected: Option<Rejection>,
) -> Result<RegistryAuth, AuthError> {
    let registry = &registry(PRIVATE);
    let request = AuthRequest {
        registry,
        repository,
        rejected,
    };
    source.auth(request).await
}

#[tokio::test]
async fn a_roles_session_is_for_the_repository_that_is_pulled_and_no_other() {
    let stage = Stage::private().await;
    stage.ecr.pull(stage.source()).await;
    let assumed = stage.sts.assumed();
    assert_eq!(assumed.len(), 1);
    assert_eq!(assumed[0].session_name, "holdfast-acme-app");
    let statements = &assumed[0].policy["Statement"];
    assert_eq!(statements.as_array().expect("a list").len(), 2);
    assert_eq!(
        statements[1]["Resource"],
        "arn:aws:ecr:eu-west-1:123456789012:repository/acme/app"
    );
    // The long-lived keys go nowhere, and the session's go to the API alone.
    let seen = stage.ecr.sim.registry().read();
    let basic = "Basic ".len() + 4 * "AWS:ecr-password".len().div_ceil(3);
    assert_eq!(seen.credential_bytes % basic as u64, 0, "{seen:?}");
    assert_eq!(
        (stage.ecr.asked(), stage.sts.counter().read().requests),
        (1, 1)
    );
}

#[tokio::test]
async fn what_a_role_gives_is_kept_by_repository() {
    let stage = Stage::private().await;
    let source = stage.source();
    let one = ask_for(source.as_ref(), "acme/one", None)
        .await
        .expect("auth");
    stage.ecr.api.give("second", Duration::from_hours(12));
    let two = ask_for(source.as_ref(), "acme/two", None)
        .await
        .expect("auth");
    let again = ask_for(source.as_ref(), "acme/one", None)
        .await
        .expect("auth");
    assert_eq!((password(&one), password(&two)), ("ecr-password", "second"));
    assert_eq!(password(&again), "ecr-password");
    assert_eq!(stage.sts.assumed().len(), 2);
}

#[tokio::test]
async fn many_callers_take_on_a_role_once() {
    let stage = Stage::private().await;
    let source = stage.source();
    let asked = (0..50).map(|_| ask_for(source.as_ref(), REPOSITORY, None));
    for auth in futures::future::join_all(asked).await {
        auth.expect("auth");
    }
    assert_eq!((stage.ecr.asked(), stage.sts.assumed().len()), (1, 1));
}

#[tokio::test]
async fn a_password_ends_with_its_session_and_is_renewed_before() {
    let stage = Stage::private().await;
    let source = stage.source();
    let first = ask(source.as_ref(), PRIVATE, None).await.expect("auth");
    let left = first.not_after.expect("an end");
    let left = left.duration_since(stage.ecr.clock.now());
    assert!((left.as_secs() - 3600).abs() < 60, "{left}");
    stage.ecr.api.give("second", Duration::from_mins(10));
    // As the clock has it, and as the registry says before that.
    stage.ecr.turn(Duration::from_mins(61));
    stage
        .sts
        .set_clock_ahead(jiff::SignedDuration::from_mins(61));
    let second = ask(source.as_ref(), PRIVATE, None).await.expect("auth");
    assert_eq!(password(&second), "second");
    let left = second.not_after.expect("an end");
    let left = left.duration_since(stage.ecr.clock.now());
    assert!((left.as_secs() - 600).abs() < 60, "{left}");
    stage.ecr.api.give("third", Duration::from_hours(12));
    let third = ask(source.as_ref(), PRIVATE, Some(expired(&second))).await;
    assert_eq!(password(&third.expect("auth")), "third");
    assert_eq!(stage.sts.assumed().len(), 3);
}

#[tokio::test]
async fn a_repository_that_the_role_may_not_pull_is_not_asked_for_over_and_over() {
    let stage = Stage::private().await;
    let source = stage.source();
    let auth = ask(source.as_ref(), PRIVATE, None).await.expect("auth");
    for _ in 0..5 {
        let same = ask(source.as_ref(), PRIVATE, Some(forbidden(&auth))).await;
        assert_eq!(same.expect("auth").serial, auth.serial);
    }
    assert_eq!(stage.sts.assumed().len(), 1);
}

#[tokio::test]
async fn the_owners_terms_are_kept() {
    let stage = Stage::private().await;
    stage.sts.demand_external_id("our&customer=7");
    let error = stage.ecr.error(stage.credential(&[])).await;
    assert!(matches!(error, AuthError::NoPermission { .. }), "{error}");
    assert!(error.to_string().contains("sts:AssumeRole"), "{error}");
    stage.forget();
    let credential = stage.credential(&[
        ("AWS_EXTERNAL_ID", "our&customer=7"),
        ("AWS_ROLE_SESSION_NAME", "ci@acme"),
    ]);
    let source = stage.ecr.source(credential);
    ask(source.as_ref(), PRIVATE, None).await.expect("auth");
    assert_eq!(stage.sts.assumed()[0].session_name, "ci@acme");
}

/// A credential as a workspace has it, which has an external id of its own.
#[derive(Debug)]
struct OfWorkspace(Credential);

impl OpensCredential for OfWorkspace {
    fn open(&self) -> OpenFuture<'_> {
        self.0.open()
    }

    fn external_id(&self) -> Option<String> {
        Some("holdfast:one".to_owned())
    }
}

#[tokio::test]
async fn a_role_is_shown_the_workspaces_external_id_where_the_user_gave_none() {
    let stage = Stage::private().await;
    let given = [("AWS_EXTERNAL_ID", "given")];
    for (demanded, given, is_let_in) in [
        (None, &[][..], true),
        (Some("holdfast:one"), &[], true),
        (Some("holdfast:two"), &[], false),
        (Some("given"), &given, true),
        (Some("holdfast:one"), &given, false),
    ] {
        if let Some(demanded) = demanded {
            stage.sts.demand_external_id(demanded);
        }
        stage.forget();
        let credential = stage.credential(given);
        let identity = Identity {
            credential: Arc::new(OfWorkspace(credential)),
            ..identity(Credential::public())
        };
        let endpoint = stage.ecr.endpoint.clone();
        let source = stage.ecr.exchange.source(endpoint, identity);
        let asked = ask(source.as_ref(), PRIVATE, None).await;
        assert_eq!(
            asked.is_ok(),
            is_let_in,
            "{demanded:?} {given:?}: {asked:?}"
        );
    }
}

#[tokio::test]
async fn refusals_of_the_session_service_are_told_apart() {
    let stage = Stage::private().await;
    let cases = [
        (
            EcrFault::Named("InvalidClientTokenId"),
            "bad",
            "no such access key",
        ),
        (EcrFault::Named("ExpiredToken"), "bad", "expired"),
        (
            EcrFault::Named("SignatureDoesNotMatch"),
            "bad",
            "secret access key",
        ),
        (
            EcrFault::Named("AccessDenied"),
            "permission",
            "user/puller is \"not\"",
        ),
        (EcrFault::Named("Throttling"), "limited", "limiting"),
        (
            EcrFault::Named("RegionDisabledException"),
            "refused",
            "RegionDisabled",
        ),
        (EcrFault::Status(500), "unreachable", "500"),
        (EcrFault::Status(429), "limited", "limiting"),
        (
            EcrFault::Body("<html>".to_owned()),
            "unreachable",
            "usable session",
        ),
        (
            EcrFault::Body("x".repeat(10_000_000)),
            "unreachable",
            "longer",
        ),
    ];
    for (fault, kind, text) in cases {
        stage.sts.set_fault(Some(fault));
        stage.forget();
        let error = stage.ecr.error(stage.credential(&[])).await;
        let told = match &error {
            AuthError::BadCredential { .. } => "bad",
            AuthError::NoPermission { .. } => "permission",
            AuthError::RateLimited { .. } => "limited",
            AuthError::Refused { .. } => "refused",
            AuthError::Unreachable { .. } => "unreachable",
            _ => "another",
        };
        assert_eq!(told, kind, "{error}");
        assert!(error.to_string().contains(text), "{text}: {error}");
        assert!(!error.to_string().contains(KEY), "{error}");
    }
    assert_eq!(stage.ecr.asked(), 0);
}

#[tokio::test]
async fn a_role_of_another_partition_is_refused_by_name() {
    let stage = Stage::private().await;
    let role = "arn:aws-cn:iam::123456789012:role/puller";
    let error = stage
        .ecr
        .error(stage.ecr.keys_with(&[("AWS_ROLE_ARN", role)]))
        .await;
    assert!(matches!(error, AuthError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("aws-cn"), "{error}");
    assert_eq!(stage.sts.counter().read().requests, 0);
}

#[tokio::test]
async fn a_wrong_clock_is_put_right_for_sessions_too() {
    let stage = Stage::private().await;
    for ahead in [-7, 7].map(jiff::SignedDuration::from_mins) {
        stage.sts.set_clock_ahead(ahead);
        stage.ecr.api.set_clock_ahead(ahead);
        let source = stage.source();
        let auth = ask(source.as_ref(), PRIVATE, None).await.expect("auth");
        let left = auth.not_after.expect("an end");
        let left = left.duration_since(stage.ecr.clock.now());
        assert!((left.as_secs() - 3600).abs() < 60, "{ahead}: {left}");
        stage.forget();
    }
}

#[tokio::test]
async fn a_check_of_a_role_asks_the_door_and_then_the_repository() {
    let stage = Stage::private().await;
    stage.ecr.sim.push(REPOSITORY, "latest", &image());
    let endpoint = stage.ecr.endpoint.clone();
    let identity = identity(stage.credential(&[]));
    let proof = stage
        .ecr
        .exchange
        .check(endpoint, identity, Some(REPOSITORY));
    assert_eq!(proof.await.expect("a proof").rung, Rung::RepositoryPassword);
    let assumed = stage.sts.assumed();
    let door = &assumed[0].policy["Statement"];
    assert_eq!(
        *door,
        json!([{ "Effect": "Allow", "Action": ["ecr:GetAuthorizationToken"], "Resource": "*" }])
    );
    assert_eq!(assumed.len(), 2);
}

#[tokio::test]
async fn a_role_pulls_from_the_public_registry_by_its_token_service() {
    let realm = Realm::Url(format!("https://{PUBLIC}/token"));
    let stage = Stage::start(PUBLIC, PUBLIC_API, PUBLIC_STS, Login::Bearer(realm)).await;
    let source = stage.source();
    stage.ecr.pull(Arc::clone(&source)).await;
    let auth = ask(source.as_ref(), PUBLIC, None).await.expect("auth");
    assert!(matches!(auth.scheme, AuthScheme::Bearer(_)), "{auth:?}");
    let assumed = stage.sts.assumed();
    assert_eq!(assumed.len(), 1);
    assert!(!assumed[0].policy.to_string().contains("ecr:"));
}
