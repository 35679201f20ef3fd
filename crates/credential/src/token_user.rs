//! The user name that goes with a token, where the service says which.

use reference::Registry;

use crate::fields::GOOGLE_TOKEN_USER;
use crate::hosts::Service;

/// GitHub looks at the token alone; this is what its own tools put there.
const GITHUB_USER: &str = "x-access-token";
/// NVIDIA and Quay want these very characters.
const OAUTH_TOKEN_USER: &str = "$oauthtoken";
/// What GitLab's documentation puts beside an OAuth token, and ignores beside an access token.
const GITLAB_USER: &str = "oauth2";
const GITLAB_JOB_USER: &str = "gitlab-ci-token";
const GITLAB_JOB_TOKEN_PREFIX: &str = "glcbt-";
/// A deploy token has a user name of its own, which only its maker knows.
const GITLAB_DEPLOY_TOKEN_PREFIX: &str = "gldt-";
const AWS_USER: &str = "AWS";
const AZURE_TOKEN_USER: &str = "00000000-0000-0000-0000-000000000000";

/// The user name to send with a token that came without one; `None` where there is no such
/// convention, or the user must say.
pub fn token_username(registry: &Registry, token: &str) -> Option<&'static str> {
    match Service::of(registry) {
        Service::Github => Some(GITHUB_USER),
        Service::Ngc | Service::Quay => Some(OAUTH_TOKEN_USER),
        Service::Gitlab if token.starts_with(GITLAB_DEPLOY_TOKEN_PREFIX) => None,
        Service::Gitlab if token.starts_with(GITLAB_JOB_TOKEN_PREFIX) => Some(GITLAB_JOB_USER),
        Service::Gitlab => Some(GITLAB_USER),
        Service::Ecr(_) | Service::EcrPublic => Some(AWS_USER),
        Service::Google => Some(GOOGLE_TOKEN_USER),
        Service::Azure => Some(AZURE_TOKEN_USER),
        Service::DockerHub | Service::MicrosoftPublic | Service::Other => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_by_service() {
        let table = [
            ("ghcr.io", "ghp_x", Some("x-access-token")),
            ("nvcr.io", "nvapi-x", Some("$oauthtoken")),
            ("quay.io", "x", Some("$oauthtoken")),
            ("registry.gitlab.com", "glpat-x", Some("oauth2")),
            ("registry.gitlab.com", "glcbt-x", Some("gitlab-ci-token")),
            ("registry.gitlab.com", "gldt-x", None),
            (
                "123456789012.dkr.ecr.us-east-1.amazonaws.com",
                "x",
                Some("AWS"),
            ),
            ("public.ecr.aws", "x", Some("AWS")),
            ("us-docker.pkg.dev", "ya29.x", Some("oauth2accesstoken")),
            (
                "acme.azurecr.io",
                "x",
                Some("00000000-0000-0000-0000-000000000000"),
            ),
            ("docker.io", "dckr_pat_x", None),
            ("registry.example.com", "x", None),
            ("nvcr.io.evil.com", "nvapi-x", None),
        ];
        for (registry, token, expected) in table {
            let registry = Registry::parse(registry).unwrap();
            assert_eq!(
                token_username(&registry, token),
                expected,
                "{registry} {token}"
            );
        }
    }
}
