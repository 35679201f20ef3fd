//! Google's registries, with keys of service accounts and tokens of other issuers.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use credential::auth::{AuthError, AuthScheme};
use credential::{Credential, ExposeSecret};
use jiff::SignedDuration;
use registry_sim::{Authority, CloudFault, GoogleApi, HostCounter, Login, Options, Realm};
use serde_json::{Value, json};
use token_exchange::{Clock, Proven};

use crate::cloud::{CloudRegistry, Log, detect, expired, kind, left};
use crate::support::{ask, endpoint, identity, image, registry};

pub(crate) const HOST: &str = "eu-docker.pkg.dev";
pub(crate) const SUBJECT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJjaSJ9.canary-signature";
pub(crate) const ACCESS: &str = "ya29.access";

pub(crate) struct Google {
    pub(crate) registry: CloudRegistry,
    pub(crate) api: GoogleApi,
}

impl Google {
    async fn start() -> Self {
        Self::at(HOST, "oauth2accesstoken").await
    }

    /// At this registry, which knows an access token under this name.
    async fn at(host: &'static str, username: &str) -> Self {
        Self::living(host, username, Duration::from_mins(5)).await
    }

    /// One whose tokens for a repository live for so long.
    pub(crate) async fn living(host: &'static str, username: &str, token_life: Duration) -> Self {
        let names: Vec<&str> = GoogleApi::HOSTS.into_iter().chain([host]).collect();
        let authority = Authority::naming(&names);
        let api = GoogleApi::start(&authority).await;
        api.believe(SUBJECT);
        let options = Options {
            login: Login::Bearer(Realm::Url(format!("https://{host}/v2/token"))),
            username: username.to_owned(),
            password: ACCESS.to_owned(),
            token_life,
            ..Options::default()
        };
        let registry = CloudRegistry::start(host, authority, &api.lines(), options).await;
        let key = api.private_key_line();
        let counters = [api.token(), api.exchange(), api.accounts()];
        for counter in counters.into_iter().chain([registry.sim.registry()]) {
            counter.watch_for(&key);
            counter.watch_for(SUBJECT);
        }
        Self { registry, api }
    }

    pub(crate) fn key(&self) -> Credential {
        self.key_of(&self.api.service_account())
    }

    fn key_of(&self, json: &Value) -> Credential {
        let json = json.to_string();
        detect(
            self.registry.host,
            &[("GOOGLE_APPLICATION_CREDENTIALS", &json)],
        )
    }

    pub(crate) fn federated(
        &self,
        subject_token: &str,
        change: impl FnOnce(&mut Value),
    ) -> Credential {
        let mut json = self.api.external_account();
        change(&mut json);
        let json = json.to_string();
        let keys = [
            ("GOOGLE_APPLICATION_CREDENTIALS", json.as_str()),
            ("GCP_SUBJECT_TOKEN", subject_token),
        ];
        detect(self.registry.host, &keys)
    }

    /// Time passes, here and at Google.
    fn turn(&self, by: Duration) {
        self.registry.clock.turn(by);
        let now = self.registry.clock.now();
        let ahead = now.duration_since(jiff::Timestamp::now());
        self.api.set_clock_ahead(ahead);
    }

    /// Requests to the services for keys, for other issuers' tokens, and for service accounts.
    fn asked(&self) -> [u64; 3] {
        let api = &self.api;
        [api.token(), api.exchange(), api.accounts()].map(|counter| counter.read().requests)
    }

    /// How often the key or the subject token arrived at those, and at the registry.
    fn seen(&self) -> [u64; 4] {
        let api = &self.api;
        let registry = self.registry.sim.registry();
        [api.token(), api.exchange(), api.accounts(), registry].map(HostCounter::sightings)
    }
}

pub(crate) fn without_account(json: &mut Value) {
    let json = json.as_object_mut().expect("an object");
    json.remove("service_account_impersonation_url");
}

#[tokio::test]
async fn a_service_accounts_key_pulls_and_goes_nowhere() {
    for host in [HOST, "docker.europe-west3.rep.pkg.dev", "gcr.io"] {
        let google = Google::at(host, "oauth2accesstoken").await;
        google.registry.pull(google.key()).await;
        assert_eq!(
            (google.asked(), google.seen()),
            ([1, 0, 0], [0; 4]),
            "{host}"
        );
        let tokens = google.registry.sim.token_requests();
        assert_eq!(tokens.read().requests, 1);
        let path = tokens.paths().remove(0);
        let (own, scope) = ("GET /v2/token?", "scope=repository%3Aacme%2Fapp%3Apull");
        assert!(path.contains(scope) && path.starts_with(own), "{path}");
    }
}

#[tokio::test]
async fn a_key_is_known_in_all_forms_that_google_takes() {
    let google = Google::start().await;
    let json = google.api.service_account().to_string();
    let encoded = BASE64_STANDARD.encode(&json);
    let basic = |username: &str, password: &str| {
        Credential::basic(username.to_owned(), password.to_owned().into())
    };
    let credentials = [
        detect(HOST, &[("GOOGLE_APPLICATION_CREDENTIALS", &encoded)]),
        detect(HOST, &[("USERNAME", "_json_key"), ("PASSWORD", &json)]),
        detect(
            HOST,
            &[
                ("REGISTRY_USERNAME", "_json_key_base64"),
                ("REGISTRY_PASSWORD", &encoded),
            ],
        ),
        // As they were stored before.
        basic("_json_key", &json),
        basic("_json_key_base64", &encoded),
    ];
    for credential in credentials {
        let key = identity(Credential::public()).key;
        google.registry.exchange.forget(&key);
        google.registry.pull(credential).await;
    }
    assert_eq!((google.asked(), google.seen()), ([5, 0, 0], [0; 4]));
}

#[tokio::test]
async fn an_access_token_is_used_as_it_is() {
    for username in ["oauth2accesstoken", "_token", "_dcgcr_2_1_0_token"] {
        let google = Google::at(HOST, username).await;
        let keys = [("USERNAME", username), ("PASSWORD", ACCESS)];
        google.registry.pull(detect(HOST, &keys)).await;
        assert_eq!(google.asked(), [0; 3], "{username}");
    }
    let google = Google::start().await;
    let token = detect(HOST, &[("GCP_ACCESS_TOKEN", ACCESS)]);
    google.registry.pull(token).await;
    // {"exp":1700000000}: one that says when it ends is known to have ended.
    let jwt = "eyJhbGciOiJub25lIn0.eyJleHAiOjE3MDAwMDAwMDB9.c2ln";
    let ended = detect(HOST, &[("GCP_ACCESS_TOKEN", jwt)]).not_after();
    assert_eq!(ended.map(jiff::Timestamp::as_second), Some(1_700_000_000));
}

#[tokio::test]
async fn another_issuers_token_pulls_and_goes_to_the_exchange_alone() {
    let google = Google::start().await;
    let direct = google.federated(SUBJECT, without_account);
    google.registry.pull(direct).await;
    assert_eq!((google.asked(), google.seen()), ([0, 1, 0], [0, 1, 0, 0]));
    let google = Google::start().await;
    google
        .registry
        .pull(google.federated(SUBJECT, |_| {}))
        .await;
    assert_eq!((google.asked(), google.seen()), ([0, 1, 1], [0, 1, 0, 0]));
}

#[tokio::test]
async fn what_is_vended_is_for_one_repository() {
    let google = Google::start().await;
    let source = google.registry.source(google.key());
    let auth = google.registry.ask(source.as_ref()).await.expect("auth");
    let AuthScheme::Bearer(token) = &auth.scheme else {
        panic!("{auth:?}");
    };
    assert_ne!(token.expose_secret(), ACCESS);
    for repository in ["acme/one", "acme/two"] {
        google.registry.sim.push(repository, "latest", &image());
        let own = registry(HOST);
        let request = credential::auth::AuthRequest {
            registry: &own,
            repository,
            rejected: None,
        };
        let other = source.auth(request).await.expect("auth");
        assert_ne!(other.serial, auth.serial);
    }
    assert_eq!(google.asked(), [1, 0, 0]);
    let tokens = google.registry.sim.token_requests().paths();
    let is_for = |path: &String| path.matches("repository").count() == 1;
    assert!(tokens.len() == 3 && tokens.iter().all(is_for), "{tokens:?}");
}

#[tokio::test]
async fn an_access_token_is_renewed_by_the_clock_and_when_it_is_refused() {
    let google = Google::start().await;
    let source = google.registry.source(google.key());
    google.registry.ask(source.as_ref()).await.expect("auth");
    google.turn(Duration::from_mins(58));
    google.api.give("ya29.second", Duration::from_hours(1));
    google.registry.sim.set_password("ya29.second");
    google.registry.ask(source.as_ref()).await.expect("auth");
    assert_eq!(google.asked(), [2, 0, 0]);
    // Taken back before its time.
    google.turn(Duration::from_mins(10));
    google.api.give("ya29.third", Duration::from_hours(1));
    google.registry.sim.set_password("ya29.third");
    google.registry.ask(source.as_ref()).await.expect("auth");
    assert_eq!(google.asked(), [3, 0, 0]);
}

#[tokio::test]
async fn tokens_that_live_for_a_second_pull() {
    let google = Google::start().await;
    google.api.give(ACCESS, Duration::from_secs(1));
    for credential in [google.key(), google.federated(SUBJECT, |_| {})] {
        let key = identity(Credential::public()).key;
        google.registry.exchange.forget(&key);
        google.registry.pull(credential.clone()).await;
        // Dates in replies have no fractions.
        google.turn(Duration::from_secs(2));
        google.registry.sim.expire_tokens();
        google.registry.pull(credential).await;
    }
    assert_eq!(google.asked(), [2, 2, 2]);
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_put_right_by_googles_own() {
    let google = Google::start().await;
    for minutes in [-90, -5, -2, 0, 2, 5, 90] {
        google
            .api
            .set_clock_ahead(SignedDuration::from_mins(minutes));
        for credential in [google.key(), google.federated(SUBJECT, |_| {})] {
            let key = identity(Credential::public()).key;
            google.registry.exchange.forget(&key);
            let source = google.registry.source(credential);
            let auth = google.registry.ask(source.as_ref()).await;
            let auth = auth.unwrap_or_else(|error| panic!("{minutes}: {error}"));
            assert!(left(&auth, &google.registry.clock) > Duration::from_secs(200));
        }
    }
    // A day is not skew, and is told as what it is.
    google.api.set_fault(Some(CloudFault::Named {
        error: "invalid_grant",
        description: "Invalid JWT: Token must be a short-lived token and in a reasonable timeframe",
    }));
    let error = google.registry.error(google.key()).await;
    assert!(error.to_string().contains("set its clock"), "{error}");
}

#[tokio::test]
async fn an_access_token_lives_as_long_as_google_says_whatever_the_clock() {
    let google = Google::start().await;
    for minutes in [-5, 0, 5] {
        google
            .api
            .set_clock_ahead(SignedDuration::from_mins(minutes));
        let key = identity(Credential::public()).key;
        google.registry.exchange.forget(&key);
        let source = google.registry.source(google.federated(SUBJECT, |_| {}));
        google.registry.ask(source.as_ref()).await.expect("auth");
        let asked = google.asked();
        google.registry.clock.turn(Duration::from_mins(50));
        google.registry.ask(source.as_ref()).await.expect("auth");
        assert_eq!(google.asked(), asked, "{minutes}");
        google.registry.clock.turn_back(Duration::from_mins(50));
    }
}

#[tokio::test]
async fn refusals_of_google_are_told_apart() {
    let google = Google::start().await;
    let named = |error, description| CloudFault::Named { error, description };
    let cases = [
        (
            "invalid_grant",
            "Invalid JWT Signature.",
            "bad",
            "make a new one",
        ),
        (
            "invalid_grant",
            "Invalid grant: account not found",
            "bad",
            "no such service account",
        ),
        ("invalid_grant", "canary", "bad", "deleted or disabled"),
        ("unauthorized_client", "canary", "bad", "may not do this"),
        ("odd", "canary", "refused", "odd"),
    ];
    for (name, description, expected, text) in cases {
        google.api.set_fault(Some(named(name, description)));
        let error = google.registry.error(google.key()).await;
        assert_eq!(kind(&error), expected, "{name} {description}: {error}");
        assert!(error.to_string().contains(text), "{name}: {error}");
        assert!(!error.to_string().contains("canary"), "{name}: {error}");
    }
    let cases = [
        ("invalid_grant", "may have expired"),
        ("invalid_target", "no such provider"),
        ("unauthorized_client", "condition on attributes"),
    ];
    for (name, text) in cases {
        google.api.set_fault(Some(named(name, "canary")));
        let error = google
            .registry
            .error(google.federated(SUBJECT, |_| {}))
            .await;
        assert_eq!(kind(&error), "bad", "{name}: {error}");
        assert!(error.to_string().contains(text), "{name}: {error}");
        assert!(!error.to_string().contains("canary"), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_service_account_that_must_not_be_spoken_for_is_named() {
    let google = Google::start().await;
    let other = google.federated(SUBJECT, |json| {
        let url = &mut json["service_account_impersonation_url"];
        *url = json!(url.as_str().expect("a URL").replace("puller@", "other@"));
    });
    let error = google.registry.error(other).await;
    assert_eq!(kind(&error), "permission", "{error}");
    let text = error.to_string();
    let account = "other@acme.iam.gserviceaccount.com";
    assert!(
        text.contains(account) && text.contains("workloadIdentityUser"),
        "{text}"
    );
}

#[tokio::test]
async fn services_that_fail_are_no_refusal() {
    let google = Google::start().await;
    let cases = [
        (CloudFault::Status(500), "unreachable"),
        (CloudFault::Status(503), "unreachable"),
        (CloudFault::Status(302), "refused"),
        (CloudFault::Limited("7"), "limited"),
        (CloudFault::Body(String::new()), "unreachable"),
        (CloudFault::Body("<html>".to_owned()), "unreachable"),
        (
            CloudFault::Body("{\"access_token\":7}".to_owned()),
            "unreachable",
        ),
        (CloudFault::Body("x".repeat(10_000_000)), "unreachable"),
    ];
    for (fault, expected) in cases {
        google.api.set_fault(Some(fault));
        for credential in [google.key(), google.federated(SUBJECT, |_| {})] {
            let error = google.registry.error(credential).await;
            assert_eq!(kind(&error), expected, "{error}");
            if let AuthError::RateLimited { retry_after, .. } = error {
                assert_eq!(retry_after, Some(Duration::from_secs(7)));
            }
        }
    }
}

#[tokio::test]
async fn a_key_that_is_refused_is_not_tried_on() {
    let google = Google::start().await;
    let other = google.api.service_account_with_another_key();
    let source = google.registry.source(google.key_of(&other));
    for _ in 0..5 {
        let error = google.registry.ask(source.as_ref()).await.unwrap_err();
        assert_eq!(kind(&error), "bad", "{error}");
    }
    assert_eq!(google.asked(), [1, 0, 0]);
    assert_eq!(google.registry.sim.registry().read().credential_bytes, 0);
}

#[tokio::test]
async fn a_stored_key_that_leads_elsewhere_is_refused_unasked() {
    let google = Google::start().await;
    let with = |name: &str, value: &str| {
        let mut json = google.api.service_account();
        json[name] = json!(value);
        json.to_string()
    };
    let cases = [
        (
            with("token_uri", "https://169.254.169.254/token"),
            "token_uri",
        ),
        (
            with("token_uri", "https://oauth2.googleapis.com.evil.com/"),
            "token_uri",
        ),
        (with("universe_domain", "evil.com"), "universe_domain"),
        (with("type", "authorized_user"), "authorized_user"),
        (
            with("private_key", "-----BEGIN PRIVATE KEY-----"),
            "private_key",
        ),
        ("/root/key.json".to_owned(), "what is in the file"),
    ];
    for (json, text) in cases {
        let stored = Credential::basic("_json_key".to_owned(), json.clone().into());
        let error = google.registry.check(stored).await.unwrap_err();
        assert_eq!(kind(&error), "refused", "{text}: {error}");
        assert!(error.to_string().contains(text), "{text}: {error}");
    }
    assert_eq!(google.asked(), [0; 3]);
    assert_eq!(google.registry.sim.registry().read().credential_bytes, 0);
}

#[tokio::test]
async fn a_check_asks_google_and_then_the_registry() {
    let google = Google::start().await;
    for credential in [google.key(), google.federated(SUBJECT, |_| {})] {
        let proof = google.registry.check(credential).await.expect("a proof");
        assert!(proof.login_needed);
        assert_eq!(proof.proven, Proven::Repository);
        assert_eq!(proof.token_service.as_deref(), Some(HOST));
    }
}

#[tokio::test]
async fn a_subject_token_ends_what_is_made_of_it() {
    let google = Google::start().await;
    // {"exp":1900000000}
    let subject = "eyJhbGciOiJSUzI1NiJ9.eyJleHAiOjE5MDAwMDAwMDB9.c2ln";
    google.api.believe(subject);
    let proof = google
        .registry
        .check(google.federated(subject, |_| {}))
        .await;
    let end = proof.expect("a proof").not_after.expect("an end");
    assert_eq!(end.as_second(), 1_900_000_000);
    let proof = google.registry.check(google.key()).await;
    assert_eq!(proof.expect("a proof").not_after, None);
}

#[tokio::test]
async fn keys_of_google_are_for_its_registries() {
    let google = Google::start().await;
    for (host, credential) in [
        ("registry.example", google.key()),
        ("gcr.io.evil.com", google.key()),
        ("gcr.io:8443", google.federated(SUBJECT, |_| {})),
    ] {
        let exchange = &google.registry.exchange;
        exchange.forget(&identity(Credential::public()).key);
        let source = exchange.source(endpoint(host), identity(credential));
        let error = ask(source.as_ref(), host, None).await.unwrap_err();
        assert_eq!(kind(&error), "refused", "{host}: {error}");
    }
    assert_eq!(google.asked(), [0; 3]);
}

#[tokio::test]
async fn nothing_of_googles_credentials_is_shown() {
    let log = Log::start();
    let google = Google::start().await;
    let line = google.api.private_key_line();
    let mut shown = String::new();
    let faults = [
        None,
        Some(CloudFault::Status(500)),
        Some(CloudFault::Named {
            error: "invalid_grant",
            description: "Invalid JWT Signature.",
        }),
        Some(CloudFault::Body(format!(
            "{{\"access_token\":\"{ACCESS} \"}}"
        ))),
    ];
    for fault in faults {
        google.api.set_fault(fault);
        for credential in [google.key(), google.federated(SUBJECT, |_| {})] {
            google
                .registry
                .exchange
                .forget(&identity(Credential::public()).key);
            let source = google.registry.source(credential.clone());
            let auth = google.registry.ask(source.as_ref()).await;
            let proof = google.registry.check(credential.clone()).await;
            if let Err(error) = &proof {
                shown.push_str(&error.to_string());
            }
            shown.push_str(&format!("{credential:?} {source:?} {auth:?} {proof:?}"));
            shown.push_str(&format!("{:?} {:?}", google.registry.exchange, google.api));
        }
    }
    // It is the skew that is logged.
    google.api.set_fault(None);
    google.api.set_clock_ahead(SignedDuration::from_mins(90));
    google
        .registry
        .exchange
        .forget(&identity(Credential::public()).key);
    google.registry.pull(google.key()).await;
    shown.push_str(&log.text());
    assert!(shown.contains("Google has another time"), "{shown}");
    for secret in [line.as_str(), SUBJECT, ACCESS, "ya29.d.federated", "eyJ"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[tokio::test]
async fn many_who_ask_at_once_make_one_exchange() {
    let google = Google::start().await;
    let source = google.registry.source(google.key());
    let asking = (0..50).map(|_| google.registry.ask(source.as_ref()));
    let answers = futures::future::join_all(asking).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(google.asked(), [1, 0, 0]);
    let first = answers[0].as_ref().expect("auth");
    let again = ask(source.as_ref(), HOST, Some(expired(first))).await;
    assert!(again.is_ok());
}

#[tokio::test]
async fn a_key_is_handed_out_as_an_access_token() {
    let google = Google::start().await;
    let (exchange, at) = (&google.registry.exchange, google.registry.endpoint.clone());
    let given = exchange.user_password(at, identity(google.key())).await;
    let given = given.expect("a password");
    let parts = (given.username.as_str(), given.password.expose_secret());
    assert_eq!(
        (parts, given.is_minted),
        (("oauth2accesstoken", ACCESS), true)
    );
}

/// A refusal that was long in coming shows a later time than that of the question.
#[tokio::test]
async fn a_slow_refusal_is_no_clock_that_goes_wrong() {
    let google = Google::start().await;
    google.api.set_fault(Some(CloudFault::Named {
        error: "invalid_grant",
        description: "Invalid JWT Signature.",
    }));
    google.api.close_gate();
    let source = google.registry.source(google.key());
    let asking = tokio::spawn(async move { ask(source.as_ref(), HOST, None).await });
    google.api.token().wait_for_requests(1).await;
    google.turn(Duration::from_secs(20));
    google.api.open_gate();
    let error = asking.await.expect("a task").expect_err("a refusal");
    assert_eq!(kind(&error), "bad", "{error}");
    assert_eq!(google.asked(), [1, 0, 0]);
}
