//! What to know about a credential that is accepted: when it will die by its nature, and what often
//! goes wrong with its like. Looks at prefixes and user names, and repeats no value.

use reference::Registry;
use secrecy::{ExposeSecret, SecretString};

use crate::aws::TEMPORARY_KEY_PREFIX;
use crate::fields::{AzureFields, AzureSecret, Credential, Fields, GOOGLE_TOKEN_USER, GcpFields};
use crate::hosts::Service;

/// Something the user should know. Displays as one sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Hint {
    #[error(
        "a fine-grained personal access token (github_pat_…) cannot pull from ghcr.io; make a \
         classic one with read:packages"
    )]
    FineGrainedGithubToken,
    #[error("a GitHub Actions or app token (ghs_…) dies with its job, or within an hour")]
    GithubAppToken,
    #[error(
        "a Docker Hub organisation token (dckr_oat_…) works with the organisation's name as its \
         user name"
    )]
    DockerHubOrganisationToken,
    #[error(
        "a Google access token dies within an hour and cannot be renewed; a service account's \
         JSON in GOOGLE_APPLICATION_CREDENTIALS can"
    )]
    GoogleAccessToken,
    #[error(
        "the token in GCP_SUBJECT_TOKEN is used as long as its issuer gave it, and cannot be \
         renewed; a service account's JSON in GOOGLE_APPLICATION_CREDENTIALS can"
    )]
    GoogleSubjectToken,
    #[error(
        "the token in AZURE_FEDERATED_TOKEN is used as long as its issuer gave it, and cannot be \
         renewed; AZURE_CLIENT_SECRET can"
    )]
    AzureFederatedToken,
    #[error(
        "without AZURE_TENANT_ID the client secret itself goes to the registry, at each new token"
    )]
    AzureWithoutTenant,
    #[error(
        "an ECR password dies within 12 hours and cannot be renewed; AWS_ACCESS_KEY_ID and \
         AWS_SECRET_ACCESS_KEY can"
    )]
    EcrPassword,
    #[error("a private ECR registry takes only the user name AWS with a password made by AWS")]
    EcrUser,
    #[error("AWS_SESSION_TOKEN means temporary keys, which cannot be renewed when they die")]
    TemporaryAwsKeys,
    #[error("AWS_REGION is not the region in the registry's host; the registry's is used")]
    AwsRegionOfHost,
    #[error("an ACR token given with the zero user name dies within hours and cannot be renewed")]
    AzureToken,
    #[error(
        "nvcr.io wants the user name $oauthtoken, these very characters; in a shell put it in \
         single quotes"
    )]
    NgcUser,
    #[error("nvcr.io takes an API key (nvapi-…, or an older one) as the password")]
    NgcKey,
    #[error(
        "the user name of a Harbor robot account is robot$NAME; in a shell put it in single quotes"
    )]
    HarborRobot,
    #[error("a GitLab job token dies with its job; a deploy token with read_registry does not")]
    GitlabJobToken,
    #[error("this looks like a token of {0}, and the registry is of someone else")]
    TokenOfAnotherService(&'static str),
    #[error("the user name says that the password is a service account's JSON, and it is not")]
    PasswordNotJson,
    #[error("the password is a Docker configuration file, not a password")]
    DockerConfig,
    #[error("the password starts or ends with a space or line break; was that meant?")]
    SpaceAroundPassword,
    #[error(
        "no secret is stored: tokens of this installation's own are shown to the cloud, which must \
         trust its issuer; `holdfast issuer show` has what to set there"
    )]
    Keyless,
    #[error("Microsoft's public registry takes no credential")]
    MicrosoftPublic,
}

/// What a token starts with, and whose it is.
const TOKEN_OWNERS: [(&str, &str); 11] = [
    ("ghp_", GITHUB),
    ("gho_", GITHUB),
    ("ghs_", GITHUB),
    ("ghu_", GITHUB),
    ("github_pat_", GITHUB),
    ("dckr_pat_", DOCKER_HUB),
    ("dckr_oat_", DOCKER_HUB),
    ("nvapi-", NGC),
    ("ya29.", GOOGLE),
    ("glpat-", GITLAB),
    ("gldt-", GITLAB),
];
const GITHUB: &str = "GitHub";
const DOCKER_HUB: &str = "Docker Hub";
const NGC: &str = "NVIDIA NGC";
const GOOGLE: &str = "Google";
const GITLAB: &str = "GitLab";

const ZERO_USER: &str = "00000000-0000-0000-0000-000000000000";
const NGC_USER: &str = "$oauthtoken";

/// What to say about a credential for a registry.
pub(crate) fn of(registry: &Registry, credential: &Credential) -> Vec<Hint> {
    let service = Service::of(registry);
    let mut hints = Vec::new();
    if credential.absent_secret().is_some() {
        hints.push(Hint::Keyless);
    }
    match credential.fields() {
        Fields::Basic { username, password } => {
            of_user(service, username, password, &mut hints);
            of_password(username, password, &mut hints);
            of_token(service, password, &mut hints);
        }
        Fields::Token { username, token } => {
            if let Some(username) = username {
                of_user(service, username, token, &mut hints);
            }
            of_token(service, token, &mut hints);
        }
        Fields::Aws(aws) => {
            hints.extend(of_region(service, aws.region.as_deref()));
            let temporary = aws.access_key_id.starts_with(TEMPORARY_KEY_PREFIX);
            if temporary || aws.session_token.is_some() {
                hints.push(Hint::TemporaryAwsKeys);
            }
        }
        Fields::AwsKeyless(aws) => hints.extend(of_region(service, aws.region.as_deref())),
        Fields::Gcp(GcpFields::AccessToken { .. }) => hints.push(Hint::GoogleAccessToken),
        Fields::Gcp(GcpFields::Federated { .. }) => hints.push(Hint::GoogleSubjectToken),
        Fields::Azure(azure) => hints.extend(of_azure(azure)),
        Fields::Gcp(GcpFields::ServiceAccount { .. } | GcpFields::Keyless { .. })
        | Fields::Node(_)
        | Fields::Public => {}
    }
    if service == Service::MicrosoftPublic && !matches!(credential.fields(), Fields::Public) {
        hints.push(Hint::MicrosoftPublic);
    }
    hints
}

fn of_region(service: Service<'_>, given: Option<&str>) -> Option<Hint> {
    let differs = |ecr: &str| given.is_some_and(|given| given != ecr);
    matches!(service, Service::Ecr(ecr) if differs(ecr.region)).then_some(Hint::AwsRegionOfHost)
}

fn of_azure(azure: &AzureFields) -> Option<Hint> {
    match &azure.secret {
        AzureSecret::FederatedToken(_) => Some(Hint::AzureFederatedToken),
        AzureSecret::ClientSecret(_) if azure.tenant_id.is_none() => Some(Hint::AzureWithoutTenant),
        AzureSecret::ClientSecret(_) | AzureSecret::Keyless => None,
    }
}

fn of_user(service: Service<'_>, username: &str, secret: &SecretString, hints: &mut Vec<Hint>) {
    match service {
        Service::Google if is_google_token_user(username) => hints.push(Hint::GoogleAccessToken),
        Service::Ecr(_) | Service::EcrPublic if username == "AWS" => hints.push(Hint::EcrPassword),
        Service::Ecr(_) | Service::EcrPublic => hints.push(Hint::EcrUser),
        Service::Azure if username == ZERO_USER => hints.push(Hint::AzureToken),
        Service::Ngc if username != NGC_USER => hints.push(Hint::NgcUser),
        Service::Ngc if known_owner(secret).is_some_and(|owner| owner != NGC) => {
            hints.push(Hint::NgcKey);
        }
        _ if username == "robot" => hints.push(Hint::HarborRobot),
        _ => {}
    }
}

/// Google's own tools have other names for the same thing.
fn is_google_token_user(username: &str) -> bool {
    let versioned = username.strip_prefix("_dcgcr_");
    let versioned = versioned.is_some_and(|rest| rest.ends_with("_token"));
    username == GOOGLE_TOKEN_USER || username == "_token" || versioned
}

fn of_password(username: &str, password: &SecretString, hints: &mut Vec<Hint>) {
    let text = password.expose_secret();
    let json = text.trim_start().starts_with('{');
    if username == "_json_key" && !json {
        hints.push(Hint::PasswordNotJson);
    }
    if username != "_json_key" && json && text.contains("\"auths\"") {
        hints.push(Hint::DockerConfig);
    }
    if !json && text.trim() != text {
        hints.push(Hint::SpaceAroundPassword);
    }
}

fn of_token(service: Service<'_>, token: &SecretString, hints: &mut Vec<Hint>) {
    let text = token.expose_secret();
    match service {
        Service::Github if text.starts_with("github_pat_") => {
            hints.push(Hint::FineGrainedGithubToken);
        }
        Service::Github if text.starts_with("ghs_") => hints.push(Hint::GithubAppToken),
        Service::DockerHub if text.starts_with("dckr_oat_") => {
            hints.push(Hint::DockerHubOrganisationToken);
        }
        Service::Gitlab if text.starts_with("glcbt-") => hints.push(Hint::GitlabJobToken),
        _ => {}
    }
    // Of a registry that is nobody's we know too little: GitLab and others run on any host.
    let owner = known_owner(token);
    let here = owner_at(service);
    if let (Some(owner), Some(here)) = (owner, here)
        && owner != here
    {
        hints.push(Hint::TokenOfAnotherService(owner));
    }
}

fn known_owner(token: &SecretString) -> Option<&'static str> {
    let text = token.expose_secret();
    TOKEN_OWNERS
        .iter()
        .find(|(prefix, _)| text.starts_with(prefix))
        .map(|(_, owner)| *owner)
}

/// Whose tokens a service takes; `None` where nothing can be said.
fn owner_at(service: Service<'_>) -> Option<&'static str> {
    match service {
        Service::Github => Some(GITHUB),
        Service::DockerHub => Some(DOCKER_HUB),
        Service::Ngc => Some(NGC),
        Service::Google => Some(GOOGLE),
        Service::Gitlab => Some(GITLAB),
        Service::Ecr(_) | Service::EcrPublic | Service::Azure | Service::Quay => Some("its own"),
        Service::MicrosoftPublic | Service::Other => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints(registry: &str, username: &str, password: &str) -> Vec<Hint> {
        let registry = Registry::parse(registry).unwrap();
        let password = SecretString::from(password.to_owned());
        of(&registry, &Credential::basic(username.to_owned(), password))
    }

    #[test]
    fn hints_of_a_user_name_and_password() {
        let ecr = "123456789012.dkr.ecr.us-east-1.amazonaws.com";
        let table = [
            ("ghcr.io", "u", "ghp_x", vec![]),
            (
                "ghcr.io",
                "u",
                "github_pat_x",
                vec![Hint::FineGrainedGithubToken],
            ),
            ("ghcr.io", "u", "ghs_x", vec![Hint::GithubAppToken]),
            (
                "ghcr.io",
                "u",
                "dckr_pat_x",
                vec![Hint::TokenOfAnotherService("Docker Hub")],
            ),
            ("docker.io", "u", "dckr_pat_x", vec![]),
            (
                "docker.io",
                "org",
                "dckr_oat_x",
                vec![Hint::DockerHubOrganisationToken],
            ),
            (
                "docker.io",
                "u",
                "ghp_x",
                vec![Hint::TokenOfAnotherService("GitHub")],
            ),
            ("gcr.io", "_json_key", "{}", vec![]),
            (
                "gcr.io",
                "_json_key",
                "/a/key.json",
                vec![Hint::PasswordNotJson],
            ),
            (ecr, "AWS", "x", vec![Hint::EcrPassword]),
            (ecr, "me", "x", vec![Hint::EcrUser]),
            ("acme.azurecr.io", ZERO_USER, "x", vec![Hint::AzureToken]),
            ("nvcr.io", "$oauthtoken", "nvapi-x", vec![]),
            ("nvcr.io", "$oauthtoken", "older", vec![]),
            ("nvcr.io", "oauthtoken", "nvapi-x", vec![Hint::NgcUser]),
            (
                "registry.gitlab.com",
                "gitlab-ci-token",
                "glcbt-x",
                vec![Hint::GitlabJobToken],
            ),
            ("harbor.example.com", "robot", "x", vec![Hint::HarborRobot]),
            ("harbor.example.com", "robot$ci", "glpat-x", vec![]),
            ("r.io", "u", "x\n", vec![Hint::SpaceAroundPassword]),
            ("r.io", "u", "{\"auths\":{}}", vec![Hint::DockerConfig]),
            ("mcr.microsoft.com", "u", "x", vec![Hint::MicrosoftPublic]),
        ];
        for (registry, username, password, expected) in table {
            assert_eq!(
                hints(registry, username, password),
                expected,
                "{registry} {username}"
            );
        }
    }

    #[test]
    fn an_access_token_of_google_has_many_names() {
        for username in ["oauth2accesstoken", "_token", "_dcgcr_2_0_0_token"] {
            let found = hints("gcr.io", username, "ya29.x");
            assert_eq!(found, [Hint::GoogleAccessToken], "{username}");
        }
        assert_eq!(hints("gcr.io", "_dcgcr_2", "x"), []);
    }

    #[test]
    fn hints_do_not_repeat_secrets() {
        for hint in hints("nvcr.io", "CANARY", "github_pat_CANARY\n") {
            assert!(
                !hint.to_string().contains("CANARY") && !format!("{hint:?}").contains("CANARY")
            );
        }
    }
}
