//! Sessions of roles, and what their keys sign.

use aws_api::{AwsError, Input, Keys, Operation, Role, Sts};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use credential::SecretString;
use dial::{AddressPolicy, DialPolicy, Dialer, HttpClient, ProxySettings, TlsProfile};
use jiff::Timestamp;
use registry_sim::{Authority, Moto, StsApi, Switchboard};
use serde_json::Value;

const STS: &str = "sts.eu-west-1.amazonaws.com";
const ECR: &str = "api.ecr.eu-west-1.amazonaws.com";
const ARN: &str = "arn:aws:iam::123456789012:role/puller";
const POLICY: &str = r#"{"Version":"2012-10-17","Statement":[]}"#;
const KEY: (&str, &str) = (
    "AKIAIOSFODNN7EXAMPLE",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
);
const IDENTITY_TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.e30.canary";

/// Services at one host of this process, by their real names.
struct Way {
    http: HttpClient,
    _switchboard: Switchboard,
}

impl Way {
    async fn to(host: &str, authority: &Authority) -> Self {
        let switchboard = Switchboard::start(&[(STS, host), (ECR, host)]).await;
        let dialer = Dialer::new(DialPolicy {
            proxies: ProxySettings {
                https: switchboard.url(),
                ..ProxySettings::none()
            },
            ..DialPolicy::default()
        });
        let tls = TlsProfile {
            extra_ca_pem: vec![authority.pem().as_bytes().to_vec()],
            plain_http: false,
        };
        let http = dialer.client(&tls, &AddressPolicy::default());
        Self {
            http: http.expect("a client"),
            _switchboard: switchboard,
        }
    }
}

fn sts() -> Sts<'static> {
    Sts {
        host: STS.to_owned(),
        region: "eu-west-1",
    }
}

fn role(session_name: &str) -> Role<'_> {
    Role {
        arn: ARN,
        session_name,
        policy: POLICY,
    }
}

fn keys() -> Keys {
    Keys {
        access_key_id: KEY.0.to_owned(),
        secret_access_key: KEY.1.to_owned().into(),
        session_token: None,
    }
}

fn authority() -> Authority {
    Authority::naming(&[STS, ECR])
}

fn is_an_hour(end: Timestamp) -> bool {
    let left = end.duration_since(Timestamp::now()).as_secs();
    (3500..=3600).contains(&left)
}

/// The user name and password that the API of ECR gives for these keys.
async fn token(http: &HttpClient, keys: &Keys) -> String {
    let operation = Operation {
        host: ECR.to_owned(),
        service: "ecr",
        region: "eu-west-1",
        input: Input::Json {
            target: "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken",
            body: "{}".into(),
        },
        shown: "the AWS keys",
        permission: "ecr:GetAuthorizationToken",
    };
    let answer = operation.ask(http, &Timestamp::now, Some(keys)).await;
    let reply: Value = serde_json::from_slice(&answer.expect("an answer").body).expect("JSON");
    let token = &reply["authorizationData"][0]["authorizationToken"];
    let pair = BASE64_STANDARD.decode(token.as_str().expect("a token"));
    String::from_utf8(pair.expect("base64")).expect("text")
}

#[tokio::test]
async fn moto_gives_sessions_whose_keys_get_tokens() {
    let authority = authority();
    let moto = Moto::start_tls(&authority);
    let way = Way::to(moto.host(), &authority).await;
    let (clock, http) = (&Timestamp::now, &way.http);
    let external_id = SecretString::from("id".to_owned());
    let sts = sts();
    let session = sts
        .assume_role(http, clock, &keys(), &role("holdfast"), Some(&external_id))
        .await
        .expect("a session");
    assert!(is_an_hour(session.not_after), "{session:?}");
    assert!(token(http, &session.keys).await.starts_with("AWS:"));
    let identity = SecretString::from(IDENTITY_TOKEN.to_owned());
    let session = sts
        .assume_role_with_web_identity(http, clock, &identity, &role("holdfast"))
        .await
        .expect("a session");
    assert!(is_an_hour(session.not_after), "{session:?}");
    assert!(token(http, &session.keys).await.starts_with("AWS:"));
    let long = "a".repeat(65);
    let error = sts
        .assume_role(http, clock, &keys(), &role(&long), None)
        .await
        .expect_err("a refusal");
    assert!(matches!(error, AwsError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("ValidationError"), "{error}");
}

#[tokio::test]
async fn an_identity_token_is_all_that_its_session_is_asked_for_with() {
    let authority = authority();
    let service = StsApi::start(&authority, KEY, ARN).await;
    let way = Way::to(service.host(), &authority).await;
    let (clock, http) = (&Timestamp::now, &way.http);
    let (sts, identity) = (sts(), SecretString::from(IDENTITY_TOKEN.to_owned()));
    let role = role("holdfast");
    let ask = || sts.assume_role_with_web_identity(http, clock, &identity, &role);
    let error = ask().await.expect_err("a role that trusts another");
    assert!(matches!(error, AwsError::BadKeys { .. }), "{error}");
    assert!(error.to_string().contains("the identity token"), "{error}");
    assert!(
        !format!("{error} {error:?}").contains("canary"),
        "{error:?}"
    );
    service.trust_web_identity(IDENTITY_TOKEN);
    let session = ask().await.expect("a session");
    assert_eq!(session.keys.access_key_id, service.session_key().0);
    // Neither a signature nor a key.
    assert_eq!(service.counter().read().credential_bytes, 0);
}
