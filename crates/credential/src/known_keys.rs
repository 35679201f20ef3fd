//! The keys that a credential may be given by, each of one family. The list is the contract: what
//! is not on it is an error, never ignored.

/// Keys that make up one credential together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Plain,
    Docker,
    Registry,
    Aws,
    Gcp,
    Azure,
    Ngc,
    Github,
    DockerHub,
    Gitlab,
    Quay,
}

pub(crate) const USERNAME: &str = "USERNAME";
pub(crate) const PASSWORD: &str = "PASSWORD";
pub(crate) const DOCKER_USERNAME: &str = "DOCKER_USERNAME";
pub(crate) const DOCKER_PASSWORD: &str = "DOCKER_PASSWORD";
pub(crate) const REGISTRY_USERNAME: &str = "REGISTRY_USERNAME";
pub(crate) const REGISTRY_PASSWORD: &str = "REGISTRY_PASSWORD";
pub(crate) const REGISTRY_TOKEN: &str = "REGISTRY_TOKEN";
pub(crate) const AWS_ACCESS_KEY_ID: &str = "AWS_ACCESS_KEY_ID";
pub(crate) const AWS_SECRET_ACCESS_KEY: &str = "AWS_SECRET_ACCESS_KEY";
pub(crate) const AWS_SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";
pub(crate) const AWS_REGION: &str = "AWS_REGION";
pub(crate) const AWS_ROLE_ARN: &str = "AWS_ROLE_ARN";
pub(crate) const AWS_EXTERNAL_ID: &str = "AWS_EXTERNAL_ID";
pub(crate) const AWS_ROLE_SESSION_NAME: &str = "AWS_ROLE_SESSION_NAME";
pub(crate) const GOOGLE_APPLICATION_CREDENTIALS: &str = "GOOGLE_APPLICATION_CREDENTIALS";
pub(crate) const GCP_PROJECT_ID: &str = "GCP_PROJECT_ID";
pub(crate) const GCP_ACCESS_TOKEN: &str = "GCP_ACCESS_TOKEN";
pub(crate) const GCP_SUBJECT_TOKEN: &str = "GCP_SUBJECT_TOKEN";
pub(crate) const AZURE_CLIENT_ID: &str = "AZURE_CLIENT_ID";
pub(crate) const AZURE_CLIENT_SECRET: &str = "AZURE_CLIENT_SECRET";
pub(crate) const AZURE_FEDERATED_TOKEN: &str = "AZURE_FEDERATED_TOKEN";
pub(crate) const AZURE_TENANT_ID: &str = "AZURE_TENANT_ID";
pub(crate) const NGC_API_KEY: &str = "NGC_API_KEY";
pub(crate) const GITHUB_USERNAME: &str = "GITHUB_USERNAME";
pub(crate) const GITHUB_TOKEN: &str = "GITHUB_TOKEN";
pub(crate) const DOCKERHUB_USERNAME: &str = "DOCKERHUB_USERNAME";
pub(crate) const DOCKERHUB_PASSWORD: &str = "DOCKERHUB_PASSWORD";
pub(crate) const DOCKERHUB_TOKEN: &str = "DOCKERHUB_TOKEN";
pub(crate) const GITLAB_USERNAME: &str = "GITLAB_USERNAME";
pub(crate) const GITLAB_TOKEN: &str = "GITLAB_TOKEN";
pub(crate) const QUAY_USERNAME: &str = "QUAY_USERNAME";
pub(crate) const QUAY_TOKEN: &str = "QUAY_TOKEN";

/// Every key that is read, and its family.
pub const KNOWN_KEYS: [(&str, Family); 32] = [
    (USERNAME, Family::Plain),
    (PASSWORD, Family::Plain),
    (DOCKER_USERNAME, Family::Docker),
    (DOCKER_PASSWORD, Family::Docker),
    (REGISTRY_USERNAME, Family::Registry),
    (REGISTRY_PASSWORD, Family::Registry),
    (REGISTRY_TOKEN, Family::Registry),
    (AWS_ACCESS_KEY_ID, Family::Aws),
    (AWS_SECRET_ACCESS_KEY, Family::Aws),
    (AWS_SESSION_TOKEN, Family::Aws),
    (AWS_REGION, Family::Aws),
    (AWS_ROLE_ARN, Family::Aws),
    (AWS_EXTERNAL_ID, Family::Aws),
    (AWS_ROLE_SESSION_NAME, Family::Aws),
    (GOOGLE_APPLICATION_CREDENTIALS, Family::Gcp),
    (GCP_PROJECT_ID, Family::Gcp),
    (GCP_ACCESS_TOKEN, Family::Gcp),
    (GCP_SUBJECT_TOKEN, Family::Gcp),
    (AZURE_CLIENT_ID, Family::Azure),
    (AZURE_CLIENT_SECRET, Family::Azure),
    (AZURE_FEDERATED_TOKEN, Family::Azure),
    (AZURE_TENANT_ID, Family::Azure),
    (NGC_API_KEY, Family::Ngc),
    (GITHUB_USERNAME, Family::Github),
    (GITHUB_TOKEN, Family::Github),
    (DOCKERHUB_USERNAME, Family::DockerHub),
    (DOCKERHUB_PASSWORD, Family::DockerHub),
    (DOCKERHUB_TOKEN, Family::DockerHub),
    (GITLAB_USERNAME, Family::Gitlab),
    (GITLAB_TOKEN, Family::Gitlab),
    (QUAY_USERNAME, Family::Quay),
    (QUAY_TOKEN, Family::Quay),
];

/// A known key as it stands in the list, and its family.
pub(crate) fn find(key: &str) -> Option<(&'static str, Family)> {
    KNOWN_KEYS.into_iter().find(|(known, _)| *known == key)
}
