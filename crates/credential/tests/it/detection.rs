//! From keys to a kind, row by row of the table in the crate doc, and every way to get it wrong.

use credential::{
    CredentialError, CredentialKind, Detected, ExposeSecret, Fields, GcpFields, Hint, KNOWN_KEYS,
    SecretString, detect, from_token,
};
use reference::Registry;
use serde_json::json;

use crate::{ECR, ROLE, SERVICE_ACCOUNT, detect_pairs, keys};

type Pairs = &'static [(&'static str, &'static str)];
/// Registry, keys, kind, and the user name and password that come of it.
type Row = (
    &'static str,
    Pairs,
    CredentialKind,
    Option<(&'static str, &'static str)>,
);

fn parts(detected: &Detected) -> Option<(String, String)> {
    let (username, password) = detected.credential.basic_parts()?;
    Some((username.to_owned(), password.expose_secret().to_owned()))
}

#[test]
fn every_family_gives_its_kind() {
    use CredentialKind::{Aws, Azure, Basic, Gcp, Public, Token};
    const USER: Pairs = &[("USERNAME", "u"), ("PASSWORD", "p")];
    const HUB: Pairs = &[("DOCKERHUB_USERNAME", "u"), ("DOCKERHUB_PASSWORD", "p")];
    const HUB_TOKEN: Pairs = &[("DOCKERHUB_USERNAME", "u"), ("DOCKERHUB_TOKEN", "t")];
    const AWS: Pairs = &[
        ("AWS_ACCESS_KEY_ID", "AKIAX"),
        ("AWS_SECRET_ACCESS_KEY", "s"),
    ];
    const AZURE: Pairs = &[("AZURE_CLIENT_ID", "c"), ("AZURE_CLIENT_SECRET", "s")];
    const ACCOUNT: Pairs = &[("GOOGLE_APPLICATION_CREDENTIALS", SERVICE_ACCOUNT)];
    let table: &[Row] = &[
        ("r.io", &[], Public, None),
        ("gcr.io", &[], Public, None),
        (ECR, &[], Public, None),
        ("r.io", USER, Basic, Some(("u", "p"))),
        ("gcr.io", USER, Basic, Some(("u", "p"))),
        (ECR, USER, Basic, Some(("u", "p"))),
        (
            "gcr.io",
            &[("USERNAME", "oauth2accesstoken"), ("PASSWORD", "t")],
            Basic,
            Some(("oauth2accesstoken", "t")),
        ),
        (
            "r.io",
            &[("DOCKER_USERNAME", "u"), ("DOCKER_PASSWORD", "p")],
            Basic,
            Some(("u", "p")),
        ),
        (
            "r.io",
            &[("REGISTRY_USERNAME", "u"), ("REGISTRY_PASSWORD", "p")],
            Basic,
            Some(("u", "p")),
        ),
        ("r.io", &[("REGISTRY_TOKEN", "t")], Token, None),
        (
            "r.io",
            &[("REGISTRY_USERNAME", "u"), ("REGISTRY_TOKEN", "t")],
            Token,
            Some(("u", "t")),
        ),
        (
            "ghcr.io",
            &[("REGISTRY_TOKEN", "t")],
            Token,
            Some(("x-access-token", "t")),
        ),
        (
            "gcr.io",
            &[("REGISTRY_TOKEN", "t")],
            Gcp,
            Some(("oauth2accesstoken", "t")),
        ),
        (
            "docker.io",
            &[("REGISTRY_USERNAME", "u"), ("REGISTRY_TOKEN", "t")],
            Token,
            Some(("u", "t")),
        ),
        (ECR, AWS, Aws, None),
        ("public.ecr.aws", AWS, Aws, None),
        ("gcr.io", ACCOUNT, Gcp, Some(("_json_key", SERVICE_ACCOUNT))),
        (
            "us-docker.pkg.dev",
            ACCOUNT,
            Gcp,
            Some(("_json_key", SERVICE_ACCOUNT)),
        ),
        (
            "us-docker.pkg.dev",
            &[("GCP_ACCESS_TOKEN", "t"), ("GCP_PROJECT_ID", "p")],
            Gcp,
            Some(("oauth2accesstoken", "t")),
        ),
        ("acme.azurecr.io", AZURE, Azure, Some(("c", "s"))),
        (
            "nvcr.io",
            &[("NGC_API_KEY", "nvapi-x")],
            Token,
            Some(("$oauthtoken", "nvapi-x")),
        ),
        (
            "ghcr.io",
            &[("GITHUB_TOKEN", "ghp_x")],
            Token,
            Some(("x-access-token", "ghp_x")),
        ),
        (
            "ghcr.io",
            &[("GITHUB_USERNAME", "u"), ("GITHUB_TOKEN", "ghp_x")],
            Token,
            Some(("u", "ghp_x")),
        ),
        ("docker.io", HUB, Basic, Some(("u", "p"))),
        ("index.docker.io", HUB_TOKEN, Token, Some(("u", "t"))),
        (
            "registry.gitlab.com",
            &[("GITLAB_TOKEN", "glpat-x")],
            Token,
            Some(("oauth2", "glpat-x")),
        ),
        (
            "registry.gitlab.com",
            &[("GITLAB_USERNAME", "u"), ("GITLAB_TOKEN", "gldt-x")],
            Token,
            Some(("u", "gldt-x")),
        ),
        (
            "quay.io",
            &[("QUAY_TOKEN", "t")],
            Token,
            Some(("$oauthtoken", "t")),
        ),
        (
            "quay.io",
            &[("QUAY_USERNAME", "org+bot"), ("QUAY_TOKEN", "t")],
            Token,
            Some(("org+bot", "t")),
        ),
    ];
    for (registry, pairs, kind, expected) in table {
        let detected = detect_pairs(registry, pairs).expect(registry);
        assert_eq!(detected.kind, *kind, "{registry} {pairs:?}");
        let expected = expected.map(|(user, secret)| (user.to_owned(), secret.to_owned()));
        assert_eq!(parts(&detected), expected, "{registry} {pairs:?}");
        let mut given: Vec<&str> = pairs.iter().map(|(key, _)| *key).collect();
        let mut used = detected.used_keys;
        given.sort_unstable();
        used.sort_unstable();
        assert_eq!(used, given, "every key is used, none is dropped");
    }
}

#[test]
fn aws_keys_are_kept_whole() {
    let detected = detect_pairs(
        ECR,
        &[
            ("AWS_ACCESS_KEY_ID", "ASIAX"),
            ("AWS_SECRET_ACCESS_KEY", "s"),
            ("AWS_SESSION_TOKEN", "t"),
            ("AWS_REGION", "us-west-2"),
            ("AWS_ROLE_ARN", ROLE),
            ("AWS_EXTERNAL_ID", "e"),
            ("AWS_ROLE_SESSION_NAME", "holdfast"),
        ],
    )
    .unwrap();
    let Fields::Aws(aws) = detected.credential.fields() else {
        panic!("{:?}", detected.kind)
    };
    assert_eq!(aws.access_key_id, "ASIAX");
    assert_eq!(aws.secret_access_key.expose_secret(), "s");
    assert_eq!(aws.session_token.as_ref().unwrap().expose_secret(), "t");
    assert_eq!(aws.region.as_deref(), Some("us-west-2"));
    assert_eq!(aws.role_arn.as_deref(), Some(ROLE));
    assert_eq!(aws.external_id.as_ref().unwrap().expose_secret(), "e");
    assert_eq!(aws.role_session_name.as_deref(), Some("holdfast"));
    assert_eq!(
        detected.hints,
        [Hint::AwsRegionOfHost, Hint::TemporaryAwsKeys]
    );
}

#[test]
fn a_service_account_brings_its_project() {
    let pairs = [("GOOGLE_APPLICATION_CREDENTIALS", SERVICE_ACCOUNT)];
    let detected = detect_pairs("gcr.io", &pairs).unwrap();
    let Fields::Gcp(GcpFields::ServiceAccount { project_id, .. }) = detected.credential.fields()
    else {
        panic!("{:?}", detected.kind)
    };
    assert_eq!(project_id.as_deref(), Some("acme"));
    assert_eq!(detected.hints, []);
}

#[test]
fn half_a_credential_is_refused() {
    let table: &[(&str, Pairs, &str)] = &[
        ("r.io", &[("USERNAME", "u")], "PASSWORD"),
        ("r.io", &[("PASSWORD", "p")], "USERNAME"),
        ("r.io", &[("DOCKER_USERNAME", "u")], "DOCKER_PASSWORD"),
        ("r.io", &[("REGISTRY_PASSWORD", "u")], "REGISTRY_USERNAME"),
        ("docker.io", &[("REGISTRY_TOKEN", "t")], "REGISTRY_USERNAME"),
        (
            "docker.io",
            &[("DOCKERHUB_TOKEN", "t")],
            "DOCKERHUB_USERNAME",
        ),
        (
            "docker.io",
            &[("DOCKERHUB_PASSWORD", "t")],
            "DOCKERHUB_USERNAME",
        ),
        (
            "docker.io",
            &[("DOCKERHUB_USERNAME", "u")],
            "DOCKERHUB_PASSWORD",
        ),
        ("ghcr.io", &[("GITHUB_USERNAME", "u")], "GITHUB_TOKEN"),
        (
            "registry.gitlab.com",
            &[("GITLAB_TOKEN", "gldt-x")],
            "GITLAB_USERNAME",
        ),
        (
            "registry.gitlab.com",
            &[("GITLAB_USERNAME", "u")],
            "GITLAB_TOKEN",
        ),
        ("quay.io", &[("QUAY_USERNAME", "u")], "QUAY_TOKEN"),
        (
            ECR,
            &[("AWS_ACCESS_KEY_ID", "AKIAX")],
            "AWS_SECRET_ACCESS_KEY",
        ),
        (ECR, &[("AWS_SECRET_ACCESS_KEY", "s")], "AWS_ACCESS_KEY_ID"),
        (ECR, &[("AWS_REGION", "us-east-1")], "AWS_ACCESS_KEY_ID"),
        (ECR, &[("AWS_ROLE_ARN", ROLE)], "AWS_ACCESS_KEY_ID"),
        (
            ECR,
            &[
                ("AWS_ACCESS_KEY_ID", "ASIAX"),
                ("AWS_SECRET_ACCESS_KEY", "s"),
            ],
            "AWS_SESSION_TOKEN",
        ),
        (
            ECR,
            &[
                ("AWS_ACCESS_KEY_ID", "AKIAX"),
                ("AWS_SECRET_ACCESS_KEY", "s"),
                ("AWS_EXTERNAL_ID", "e"),
            ],
            "AWS_ROLE_ARN",
        ),
        ("gcr.io", &[("GCP_PROJECT_ID", "p")], "GCP_ACCESS_TOKEN"),
        (
            "acme.azurecr.io",
            &[("AZURE_CLIENT_ID", "c")],
            "AZURE_CLIENT_SECRET",
        ),
        (
            "acme.azurecr.io",
            &[("AZURE_CLIENT_SECRET", "c")],
            "AZURE_CLIENT_ID",
        ),
        (
            "acme.azurecr.io",
            &[("AZURE_TENANT_ID", "t")],
            "AZURE_CLIENT_ID",
        ),
    ];
    for (registry, pairs, expected) in table {
        match detect_pairs(registry, pairs) {
            Err(CredentialError::Missing { given, missing }) => {
                assert_eq!(missing, *expected, "{pairs:?}");
                assert!(pairs.iter().any(|(key, _)| *key == given), "{given}");
            }
            other => panic!("{registry} {pairs:?}: {other:?}"),
        }
    }
}

#[test]
fn two_credentials_are_a_conflict() {
    let table: &[(&str, Pairs, &str, &str)] = &[
        (
            "ghcr.io",
            &[("USERNAME", "u"), ("GITHUB_TOKEN", "t")],
            "USERNAME",
            "GITHUB_TOKEN",
        ),
        (
            "ghcr.io",
            &[("USERNAME", "u"), ("PASSWORD", "p"), ("GITHUB_TOKEN", "t")],
            "USERNAME",
            "GITHUB_TOKEN",
        ),
        (
            "r.io",
            &[("USERNAME", "u"), ("REGISTRY_PASSWORD", "p")],
            "USERNAME",
            "REGISTRY_PASSWORD",
        ),
        (
            "r.io",
            &[
                ("REGISTRY_USERNAME", "u"),
                ("REGISTRY_PASSWORD", "p"),
                ("REGISTRY_TOKEN", "t"),
            ],
            "REGISTRY_PASSWORD",
            "REGISTRY_TOKEN",
        ),
        (
            "docker.io",
            &[
                ("DOCKERHUB_USERNAME", "u"),
                ("DOCKERHUB_PASSWORD", "p"),
                ("DOCKERHUB_TOKEN", "t"),
            ],
            "DOCKERHUB_PASSWORD",
            "DOCKERHUB_TOKEN",
        ),
        (
            "gcr.io",
            &[
                ("GOOGLE_APPLICATION_CREDENTIALS", "{"),
                ("GCP_ACCESS_TOKEN", "t"),
            ],
            "GOOGLE_APPLICATION_CREDENTIALS",
            "GCP_ACCESS_TOKEN",
        ),
        (
            ECR,
            &[
                ("AWS_REGION", "us-east-1"),
                ("USERNAME", "AWS"),
                ("PASSWORD", "p"),
            ],
            "USERNAME",
            "AWS_REGION",
        ),
        (
            "nvcr.io",
            &[("NGC_API_KEY", "n"), ("GITHUB_TOKEN", "t")],
            "NGC_API_KEY",
            "GITHUB_TOKEN",
        ),
    ];
    for (registry, pairs, first, second) in table {
        let expected = CredentialError::Conflict { first, second };
        assert_eq!(
            detect_pairs(registry, pairs).unwrap_err(),
            expected,
            "{pairs:?}"
        );
    }
}

#[test]
fn a_service_key_does_not_travel() {
    const AWS: Pairs = &[
        ("AWS_ACCESS_KEY_ID", "AKIAX"),
        ("AWS_SECRET_ACCESS_KEY", "s"),
    ];
    const GCP: Pairs = &[("GCP_ACCESS_TOKEN", "t")];
    const ACCOUNT: Pairs = &[("GOOGLE_APPLICATION_CREDENTIALS", SERVICE_ACCOUNT)];
    const AZURE: Pairs = &[("AZURE_CLIENT_ID", "c"), ("AZURE_CLIENT_SECRET", "s")];
    const NGC: Pairs = &[("NGC_API_KEY", "nvapi-x")];
    const GITHUB: Pairs = &[("GITHUB_TOKEN", "t")];
    const HUB: Pairs = &[("DOCKERHUB_USERNAME", "u"), ("DOCKERHUB_TOKEN", "t")];
    const GITLAB: Pairs = &[("GITLAB_TOKEN", "t")];
    const QUAY: Pairs = &[("QUAY_TOKEN", "t")];
    let table = [
        ("1.dkr.ecr.x.evil.com", AWS),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com.evil.com", AWS),
        ("public.ecr.aws.evil.com", AWS),
        ("gcr.io", AWS),
        ("gcr.io.evil.com", GCP),
        ("evil.com", GCP),
        ("gcr.io:5000", GCP),
        ("gcr.io.evil.com", ACCOUNT),
        ("us-docker.pkg.dev.evil.com", ACCOUNT),
        ("acme.azurecr.io.evil.com", AZURE),
        ("acme.westeurope.data.azurecr.io", AZURE),
        ("nvcr.io.evil.com", NGC),
        ("ghcr.io.evil.com", GITHUB),
        ("docker.io", GITHUB),
        ("docker.io.evil.com", HUB),
        ("localhost:5000", HUB),
        ("registry.gitlab.com.evil.com", GITLAB),
        ("quay.io.evil.com", QUAY),
    ];
    for (registry, pairs) in table {
        match detect_pairs(registry, pairs).unwrap_err() {
            CredentialError::WrongRegistry {
                key,
                registry: named,
                ..
            } => {
                assert_eq!((key, named.as_str()), (pairs[0].0, registry));
            }
            other => panic!("{registry} {pairs:?}: {other}"),
        }
    }
}

#[test]
fn the_path_of_an_image_does_not_decide() {
    for image in [
        "evil.com/gcr.io/x",
        "evil.com/123456789012.dkr.ecr.us-east-1.amazonaws.com/x",
    ] {
        let image = reference::Reference::parse(image).unwrap();
        let found = detect(image.registry(), &keys(&[("GCP_ACCESS_TOKEN", "t")]));
        assert!(
            matches!(found, Err(CredentialError::WrongRegistry { .. })),
            "{found:?}"
        );
    }
}

#[test]
fn every_key_and_value_is_looked_at() {
    let registry = Registry::parse("r.io").unwrap();
    let mut map = keys(&[("USERNAME", "u"), ("PASSWORD", "p")]);
    for value in [
        json!(7),
        json!(null),
        json!(true),
        json!(["p"]),
        json!({"a": "p"}),
    ] {
        map.insert("PASSWORD".to_owned(), value);
        let error = detect(&registry, &map).unwrap_err();
        assert_eq!(error, CredentialError::NotText { key: "PASSWORD" });
    }
    for value in ["", " ", "\n"] {
        map.insert("PASSWORD".to_owned(), json!(value));
        let error = detect(&registry, &map).unwrap_err();
        assert_eq!(error, CredentialError::Empty { key: "PASSWORD" });
    }
    map.insert("PASSWORD".to_owned(), json!("x".repeat(64 * 1024 + 1)));
    let error = detect(&registry, &map).unwrap_err();
    assert_eq!(
        error,
        CredentialError::TooLong {
            key: "PASSWORD",
            limit: 64 * 1024
        }
    );
    map.insert("PASSWROD".to_owned(), json!("x"));
    let error = detect(&registry, &map).unwrap_err();
    assert_eq!(
        error,
        CredentialError::UnknownKey {
            key: "PASSWROD".to_owned()
        }
    );
    assert_eq!(
        error.to_string(),
        "credential key \"PASSWROD\" is not known"
    );
    assert_eq!(error.hint().as_deref(), Some("did you mean PASSWORD?"));
}

#[test]
fn values_that_cannot_be_right_are_named() {
    let table: &[(&str, Pairs, &str)] = &[
        (
            "r.io",
            &[("USERNAME", "a:b"), ("PASSWORD", "p")],
            "USERNAME holds a colon, which no user name may",
        ),
        (
            "r.io",
            &[("USERNAME", "a\n"), ("PASSWORD", "p")],
            "USERNAME holds a control character",
        ),
        (
            "ghcr.io",
            &[("GITHUB_TOKEN", "t\n")],
            "GITHUB_TOKEN holds a space or a line break",
        ),
        (
            "gcr.io",
            &[("GCP_ACCESS_TOKEN", "a b")],
            "GCP_ACCESS_TOKEN holds a space or a line break",
        ),
        (
            ECR,
            &[("AWS_ACCESS_KEY_ID", "A K"), ("AWS_SECRET_ACCESS_KEY", "s")],
            "AWS_ACCESS_KEY_ID is not an AWS access key id",
        ),
        (
            ECR,
            &[
                ("AWS_ACCESS_KEY_ID", "AK"),
                ("AWS_SECRET_ACCESS_KEY", "s"),
                ("AWS_REGION", "a.b"),
            ],
            "AWS_REGION is not an AWS region",
        ),
        (
            ECR,
            &[
                ("AWS_ACCESS_KEY_ID", "AK"),
                ("AWS_SECRET_ACCESS_KEY", "s"),
                ("AWS_ROLE_ARN", "x"),
            ],
            "AWS_ROLE_ARN is not the ARN of an IAM role",
        ),
        (
            "gcr.io",
            &[("GOOGLE_APPLICATION_CREDENTIALS", "/root/key.json")],
            "GOOGLE_APPLICATION_CREDENTIALS is a path or something else than the JSON of a service account",
        ),
    ];
    for (registry, pairs, expected) in table {
        let error = detect_pairs(registry, pairs).unwrap_err();
        assert_eq!(error.to_string(), format!("credential key {expected}"));
    }
}

#[test]
fn no_key_is_known_without_being_read() {
    for (key, family) in KNOWN_KEYS {
        // Alone at a registry that is of no service, a key must lead to an answer that names it.
        let found = detect_pairs("r.io", &[(key, "value")]);
        let named = match &found {
            Ok(detected) => detected.used_keys == [key],
            Err(error) => error.to_string().contains(key),
        };
        assert!(named, "{key} of {family:?}: {found:?}");
    }
}

#[test]
fn bare_tokens_get_the_user_of_their_service() {
    let token = || SecretString::from("t".to_owned());
    let table = [
        ("ghcr.io", None, Some(("x-access-token", "t"))),
        ("ghcr.io", Some("u"), Some(("u", "t"))),
        ("nvcr.io", None, Some(("$oauthtoken", "t"))),
        ("r.io", None, None),
    ];
    for (registry, username, expected) in table {
        let registry = Registry::parse(registry).unwrap();
        let detected = from_token(&registry, username, &token()).unwrap();
        let expected = expected.map(|(user, secret)| (user.to_owned(), secret.to_owned()));
        assert_eq!(parts(&detected), expected, "{registry}");
        assert_eq!(detected.credential.bearer().is_some(), expected.is_none());
    }
    let hub = from_token(&Registry::docker_hub(), None, &token()).unwrap_err();
    assert!(
        matches!(
            hub,
            CredentialError::Missing {
                missing: "REGISTRY_USERNAME",
                ..
            }
        ),
        "{hub}"
    );
}

#[test]
fn a_pasted_jwt_shows_its_end() {
    // {"exp":1700000000}
    let jwt = "eyJhbGciOiJub25lIn0.eyJleHAiOjE3MDAwMDAwMDB9.c2ln";
    for pairs in [
        [("USERNAME", "u"), ("PASSWORD", jwt)],
        [("REGISTRY_USERNAME", "u"), ("REGISTRY_TOKEN", jwt)],
    ] {
        let detected = detect_pairs("acme.azurecr.io", &pairs).unwrap();
        assert_eq!(detected.not_after.unwrap().as_second(), 1_700_000_000);
    }
}
