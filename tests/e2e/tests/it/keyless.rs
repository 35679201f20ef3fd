//! Credentials without a secret: clouds that trust the installation's issuer, fetch its keys from
//! its gateway and look at every claim.

use e2e::{Finished, Home};
use jiff::SignedDuration;
use registry_sim::{
    Authority, AzureApi, EcrApi, GoogleApi, Login, Moto, Options, StsApi, TrustedIssuer,
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::cloud::{self, AZURE, Cloud, GOOGLE, GUID, Parts};
use crate::serving::Serving;

const ISSUER: &str = "holdfast.acme.example";
const URL: &str = "https://holdfast.acme.example";
const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
const ECR_API: &str = "api.ecr.eu-west-1.amazonaws.com";
const STS: &str = "sts.eu-west-1.amazonaws.com";
const ROLE: &str = "arn:aws:iam::123456789012:role/puller";
const PROVIDER: &str = "projects/7/locations/global/workloadIdentityPools/p/providers/x";
const ACCOUNT: &str = "puller@acme.iam.gserviceaccount.com";

const AWS_LOGIN: [&str; 3] = ["--keyless", "--aws-role-arn", ROLE];
const GOOGLE_LOGIN: [&str; 5] = [
    "--keyless",
    "--google-provider",
    PROVIDER,
    "--google-service-account",
    ACCOUNT,
];
const AZURE_LOGIN: [&str; 5] = [
    "--keyless",
    "--azure-client-id",
    GUID,
    "--azure-tenant-id",
    GUID,
];

/// An installation whose gateway publishes its keys, and a cloud's registry.
struct Stage {
    cloud: Cloud,
    authority_pem: String,
    _gateway: Serving,
}

impl Stage {
    fn open<Api>(mut parts: Parts<Api>) -> (Self, Api) {
        let home = Home::new();
        let gateway = Serving::start_as_issuer(&home, &parts.authority, URL);
        parts.lines.push((ISSUER, gateway.address().to_owned()));
        let authority_pem = parts.authority.pem().to_owned();
        let (cloud, api) = parts.open(home);
        let stage = Self {
            cloud,
            authority_pem,
            _gateway: gateway,
        };
        (stage, api)
    }

    fn run(&self, words: &[&str]) -> Finished {
        self.cloud.run(words, &[("HOLDFAST_ISSUER_URL", URL)], "")
    }

    fn login(&self, host: &str, how: &[&str]) -> Finished {
        let scope = format!("{host}/acme/fn");
        let words = ["login", &scope, "--json"];
        self.run(&[&words[..], how].concat())
    }

    /// Reads an image with what is stored.
    fn pull(&self, host: &str) -> Finished {
        self.run(&["image", "index", &format!("{host}/acme/fn:v1")])
    }

    fn subject(&self, workspace: &str) -> String {
        let words = ["issuer", "show", "--json", "--workspace", workspace];
        let shown = self.run(&words).ok().json();
        let subject = shown["subject"].as_str();
        subject.expect("a subject").to_owned()
    }

    /// What a cloud trusts that was set up as `issuer show` says.
    fn trusted(&self, audience: &str) -> TrustedIssuer {
        self.trusted_as(audience, &self.subject("default"))
    }

    fn trusted_as(&self, audience: &str, subject: &str) -> TrustedIssuer {
        TrustedIssuer::new(
            URL,
            audience,
            subject,
            &self.cloud.proxy,
            &self.authority_pem,
        )
    }

    /// Logs in, pulls, and looks at what is stored of it.
    fn works_without_a_secret(&self, host: &str, how: &[&str], kind: &str) {
        let shown = self.login(host, how).ok().json();
        assert_eq!(shown["kind"], kind, "{shown}");
        assert_eq!(shown["keyless"], true, "{shown}");
        assert_eq!(shown["proven"], "repository", "{shown}");
        assert_eq!(shown["not_after"], Value::Null, "{shown}");
        self.pull(host).ok();
        let checked = self.run(&["credentials", "check", "--json"]).ok().json();
        assert_eq!(checked[0]["state"], "ok", "{checked}");
        self.run(&["credentials", "explain", &format!("{host}/acme/fn:v1")])
            .ok();
        assert_eq!(self.sealed_secret_bytes(), 0);
        let verified = self.run(&["vault", "verify", "--json"]).ok().json();
        assert_eq!(verified["sound"], true, "{verified}");
    }

    /// Bytes of secrets that the vault holds for workspaces: what is sealed but header and tag. The
    /// issuer's own keys are of the installation.
    fn sealed_secret_bytes(&self) -> u64 {
        const HEADER_AND_TAG_BYTES: u64 = 118 + 16;
        let script = "import sqlite3, sys\n\
            rows = sqlite3.connect(sys.argv[1]).execute('''SELECT length(sealed)\n\
            FROM secret_version JOIN secret USING (secret_id)\n\
            WHERE workspace <> 'ws-00000000000070008000000000000000'\n\
            AND sealed IS NOT NULL''')\n\
            print(*(row[0] for row in rows))";
        let database = self.cloud.home.data_dir().join("vault.db");
        let output = std::process::Command::new("python3")
            .args(["-c", script])
            .arg(database)
            .output()
            .expect("python3 starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lengths: Vec<u64> = text
            .split_whitespace()
            .map(|length| length.parse().expect("a number"))
            .collect();
        assert!(!lengths.is_empty(), "{output:?}");
        let beside = lengths.iter().map(|length| length - HEADER_AND_TAG_BYTES);
        beside.sum()
    }
}

/// A registry of ECR, where `lines` lead to what gives sessions and passwords.
fn ecr<Api>(runtime: Runtime, authority: Authority, api: Api, lines: [String; 2]) -> Parts<Api> {
    let [sts, ecr] = lines;
    Parts {
        runtime,
        authority,
        api,
        lines: vec![(STS, sts), (ECR_API, ecr)],
        host: ECR,
        options: Options {
            login: Login::EcrLike,
            username: "AWS".to_owned(),
            password: "ecr-password".to_owned(),
            ..Options::default()
        },
        exchange: None,
    }
}

fn runtime() -> Runtime {
    Runtime::new().expect("a runtime")
}

fn aws_authority() -> Authority {
    Authority::naming(&[ECR, ECR_API, STS, ISSUER])
}

fn aws() -> (Stage, StsApi, EcrApi) {
    let (runtime, authority) = (runtime(), aws_authority());
    let sts = runtime.block_on(StsApi::start(&authority, ("AKIANONE", "none"), ROLE));
    let api = runtime.block_on(EcrApi::start(&authority, sts.session_key()));
    api.demand_session(sts.session_token());
    let lines = [sts.host(), api.host()].map(str::to_owned);
    let (stage, (sts, api)) = Stage::open(ecr(runtime, authority, (sts, api), lines));
    (stage, sts, api)
}

fn google() -> (Stage, GoogleApi) {
    Stage::open(cloud::google(Some(ISSUER)))
}

fn azure() -> (Stage, AzureApi) {
    Stage::open(cloud::azure(Some(ISSUER), "none", "none"))
}

#[test]
fn a_role_of_aws_is_taken_on_without_a_secret() {
    let (stage, sts, _api) = aws();
    sts.trust_issuer(stage.trusted("sts.amazonaws.com"));
    stage.works_without_a_secret(ECR, &AWS_LOGIN, "aws");
    for (audience, subject, code, says) in [
        (
            "sts.amazonaws.com",
            "workspace:another",
            4,
            "sts:AssumeRoleWithWebIdentity",
        ),
        ("another.example", "", 4, "does not know it"),
    ] {
        let own = stage.subject("default");
        let subject = if subject.is_empty() { &own } else { subject };
        sts.trust_issuer(stage.trusted_as(audience, subject));
        stage.login(ECR, &AWS_LOGIN).fails(code, says);
    }
}

/// The id is made by the installation and sent without being asked for.
#[test]
fn a_role_that_keys_take_on_is_shown_the_workspaces_own_external_id() {
    let (stage, sts, _api) = aws();
    let own = stage.run(&["issuer", "show", "--json"]).ok().json();
    let own = own["external_id"].as_str().expect("an id").to_owned();
    sts.demand_external_id(&own);
    let keys = [
        ("AWS_ACCESS_KEY_ID", "AKIANONE"),
        ("AWS_SECRET_ACCESS_KEY", "none"),
        ("AWS_ROLE_ARN", ROLE),
    ];
    let names = keys.map(|(name, _)| name).join(",");
    let scope = format!("{ECR}/acme/fn");
    let login = |more: &[&str]| {
        let words = ["login", &scope, "--from-env", &names];
        stage.cloud.run(&[&words[..], more].concat(), &keys, "")
    };
    login(&[]).ok();
    stage.pull(ECR).ok();
    login(&["--workspace", "another"]).fails(4, "sts:AssumeRole");
}

#[test]
fn moto_gives_a_session_for_a_token_of_ours() {
    let (runtime, authority) = (runtime(), aws_authority());
    let moto = Moto::start_tls(&authority);
    // The tokens that moto gives for ECR have ended in 2015.
    let api = runtime.block_on(EcrApi::start(&authority, ("AKIANONE", "none")));
    api.take_any_session();
    let lines = [moto.host(), api.host()].map(str::to_owned);
    let (stage, _services) = Stage::open(ecr(runtime, authority, (moto, api), lines));
    stage.works_without_a_secret(ECR, &AWS_LOGIN, "aws");
}

#[test]
fn a_pool_of_google_believes_the_issuer_and_nothing_else() {
    let (stage, api) = google();
    let audience = format!("//iam.googleapis.com/{PROVIDER}");
    api.trust_issuer(stage.trusted(&audience));
    stage.works_without_a_secret(GOOGLE, &GOOGLE_LOGIN, "gcp");
    for (audience, subject) in [
        (audience.as_str(), "workspace:another"),
        ("//iam.googleapis.com/projects/8", ""),
    ] {
        let own = stage.subject("default");
        let subject = if subject.is_empty() { &own } else { subject };
        api.trust_issuer(stage.trusted_as(audience, subject));
        stage.login(GOOGLE, &GOOGLE_LOGIN).fails(
            4,
            "of an issuer that the workload identity pool does not believe",
        );
    }
    // Their clock may be off by five minutes either way, and not by an hour.
    api.trust_issuer(stage.trusted(&audience));
    for (minutes, is_taken) in [(5, true), (-5, true), (60, false), (-60, false)] {
        api.set_clock_ahead(SignedDuration::from_mins(minutes));
        let code = stage.login(GOOGLE, &GOOGLE_LOGIN).code;
        assert_eq!(code == 0, is_taken, "{minutes} minutes");
    }
}

#[test]
fn an_application_of_azure_trusts_the_issuer_and_nothing_else() {
    let (stage, api) = azure();
    api.trust_issuer(stage.trusted("api://AzureADTokenExchange"));
    stage.works_without_a_secret(AZURE, &AZURE_LOGIN, "azure");
    for (audience, subject, says) in [
        (
            "api://AzureADTokenExchange",
            "workspace:another",
            "AADSTS700213",
        ),
        ("api://another", "", "AADSTS700212"),
        ("api://another", "", "without AZURE_CLIENT_SECRET"),
    ] {
        let own = stage.subject("default");
        let subject = if subject.is_empty() { &own } else { subject };
        api.trust_issuer(stage.trusted_as(audience, subject));
        stage.login(AZURE, &AZURE_LOGIN).fails(4, says);
    }
}

#[test]
fn a_workspace_is_never_taken_for_another() {
    let (stage, api) = azure();
    let theirs = stage.subject("theirs");
    assert_ne!(theirs, stage.subject("default"));
    api.trust_issuer(stage.trusted_as("api://AzureADTokenExchange", &theirs));
    stage.login(AZURE, &AZURE_LOGIN).fails(4, "AADSTS700213");
    let scope = format!("{AZURE}/acme/fn");
    let words = ["login", &scope, "--workspace", "theirs"];
    stage.run(&[&words[..], &AZURE_LOGIN].concat()).ok();
    // What they noted is not ours to use.
    let listed = stage.run(&["credentials", "list", "--json"]).ok().json();
    assert_eq!(listed, json!([]));
    assert_ne!(stage.pull(AZURE).code, 0);
}

#[test]
fn keys_that_may_be_in_wrong_hands_are_replaced_and_others_wait() {
    let (stage, api) = google();
    let audience = format!("//iam.googleapis.com/{PROVIDER}");
    api.trust_issuer(stage.trusted(&audience));
    let ids = || -> Vec<Value> {
        let shown = stage.run(&["issuer", "show", "--json"]).ok().json();
        let keys = shown["keys"].as_array().expect("keys").iter();
        keys.map(|key| key["id"].clone()).collect()
    };
    let first = ids();
    stage
        .run(&["issuer", "rotate"])
        .fails(3, "verifiers may not know it before");
    assert_eq!(ids(), first);
    stage.run(&["issuer", "rotate", "--replace-all"]).ok();
    let second = ids();
    assert!(second.iter().all(|id| !first.contains(id)), "{second:?}");
    stage.login(GOOGLE, &GOOGLE_LOGIN).ok();
}

#[test]
fn what_is_exported_is_what_the_gateway_publishes() {
    let (stage, _api) = google();
    let shown = stage.run(&["issuer", "show", "--json"]).ok().json();
    assert_eq!(shown["url"], URL);
    assert_eq!(shown["exported_at"], Value::Null);
    let subject = stage.subject("default");
    let condition = &shown["aws"]["trust_policy"]["Statement"][0]["Condition"]["StringEquals"];
    assert_eq!(condition[format!("{ISSUER}:sub")], subject.as_str());
    assert_eq!(condition[format!("{ISSUER}:aud")], "sts.amazonaws.com");
    assert!(
        shown["external_id"]
            .as_str()
            .is_some_and(|id| id.len() > 30)
    );
    let words = ["issuer", "export", "web", "--json"];
    stage.run(&words).ok();
    let file = |name: &str| -> Value {
        let path = stage.cloud.home.path().join("web/.well-known").join(name);
        let text = std::fs::read_to_string(path).expect("a file");
        serde_json::from_str(&text).expect("JSON")
    };
    let configuration = file("openid-configuration");
    assert_eq!(configuration["issuer"], URL);
    assert_eq!(
        configuration["jwks_uri"],
        format!("{URL}/.well-known/jwks.json")
    );
    let keys = file("jwks.json");
    let fetched = stage.cloud.runtime.block_on(
        stage
            .trusted("any")
            .document("https://holdfast.acme.example/.well-known/jwks.json"),
    );
    assert_eq!(Some(keys), fetched);
    // Whoever hosts them is waited for from now on, until that is taken back.
    let exported_at = || stage.run(&["issuer", "show", "--json"]).ok().json()["exported_at"].take();
    assert!(exported_at().is_string());
    let withdrawn = stage.run(&["issuer", "withdraw", "--json"]).ok().json();
    assert_eq!(withdrawn["was_exported"], true);
    assert_eq!(exported_at(), Value::Null);
}

#[test]
fn without_an_issuer_or_a_secret_nothing_is_stored() {
    let home = Home::new();
    let words = [&["login", ECR][..], &AWS_LOGIN].concat();
    // Whoever forgot the keys is told which.
    home.run(&words)
        .fails(3, "issues no identity tokens")
        .fails(3, "AWS_SECRET_ACCESS_KEY");
    home.run(&["issuer", "show"]).fails(3, "`[issuer]`");
    for words in [
        &["login", ECR, "--keyless"][..],
        &["login", ECR, "--aws-role-arn", ROLE],
        &["login", AZURE, "--keyless", "--azure-client-id", GUID],
    ] {
        assert_eq!(home.run(words).code, 2, "{words:?}");
    }
    let wrong = [&["login", GOOGLE][..], &AWS_LOGIN].concat();
    home.run(&wrong).fails(3, "AWS_ROLE_ARN");
    let url = ["--issuer-url", "http://acme.example", "issuer", "show"];
    home.run(&url).fails(3, "https://");
    let listed = home.run(&["credentials", "list", "--json"]).ok().json();
    assert_eq!(listed, json!([]));
}

/// What the operator's file does not say is granted to nobody, and no registry is asked.
#[test]
fn a_node_identity_that_is_not_granted_is_refused() {
    let home = Home::new();
    let file = home.path().join("granting.toml");
    let declared = format!(
        "[node_identity.puller]\nprovider = \"aws\"\nrole_arn = \"{ROLE}\"\n\
         workspaces = [\"theirs\"]\nrepositories = [\"{ECR}/acme\"]\n"
    );
    std::fs::write(&file, &declared).expect("a file");
    let config = file.to_str().expect("a path");
    let scope = format!("{ECR}/acme/fn");
    let login = ["login", &scope, "--node-identity", "puller"];
    home.run(&login).fails(4, "[node_identity.puller]");
    home.run(&[&["--config", config][..], &login].concat())
        .fails(4, "not granted to this workspace");
    let elsewhere = [
        "--config",
        config,
        "login",
        ECR,
        "--node-identity",
        "puller",
    ];
    home.run(&[&elsewhere[..], &["--workspace", "theirs"]].concat())
        .fails(4, "not granted to this workspace");
    // No word of a user's leads the machine's identity elsewhere.
    for more in [&["--plain-http"][..], &["--token-service", "evil.example"]] {
        assert_eq!(home.run(&[&login[..], more].concat()).code, 2, "{more:?}");
    }
    let other = ["login", "ghcr.io", "--node-identity", "puller"];
    home.run(&other).fails(3, "Amazon, Google and Azure");
    std::fs::write(&file, declared.replace("role_arn", "role")).expect("a file");
    home.run(&[&["--config", config][..], &login].concat())
        .fails(3, "role");
    let listed = home.run(&["credentials", "list", "--json"]).ok().json();
    assert_eq!(listed, json!([]));
}
