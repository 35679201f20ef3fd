//! Which service a registry belongs to: tables of hosts, matched whole.
//!
//! A host that merely contains a known name (`gcr.io.evil.com`), or a known host at another port,
//! is [`Service::Other`]. Nothing here dials, and no endpoint is made of anything but table rows
//! and a region or account that was matched out of a host.

mod ecr;

use reference::Registry;

pub use ecr::{EcrHost, aws_suffix};

/// The port that services answer on.
const HTTPS_PORT: u16 = 443;

/// The service that answers at a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service<'a> {
    DockerHub,
    Github,
    Gitlab,
    Quay,
    Ngc,
    Ecr(EcrHost<'a>),
    EcrPublic,
    /// Container Registry and Artifact Registry.
    Google,
    /// Azure Container Registry.
    Azure,
    /// Microsoft's public registry, which takes no credential.
    MicrosoftPublic,
    /// A registry of none of these.
    Other,
}

/// Hosts that are known by their full name.
const EXACT: [(&str, Service<'static>); 16] = [
    ("ghcr.io", Service::Github),
    ("docker.pkg.github.com", Service::Github),
    ("registry.gitlab.com", Service::Gitlab),
    ("quay.io", Service::Quay),
    ("nvcr.io", Service::Ngc),
    ("public.ecr.aws", Service::EcrPublic),
    ("ecr-public.aws.com", Service::EcrPublic),
    ("gcr.io", Service::Google),
    ("us.gcr.io", Service::Google),
    ("eu.gcr.io", Service::Google),
    ("asia.gcr.io", Service::Google),
    ("marketplace.gcr.io", Service::Google),
    ("mirror.gcr.io", Service::Google),
    ("container.cloud.google.com", Service::Google),
    ("mcr.microsoft.com", Service::MicrosoftPublic),
    ("docker.io", Service::DockerHub),
];

/// Suffixes of Azure Container Registry in its clouds, and who logs people in to each cloud. In
/// front stands the registry's name, or for a regional endpoint of the first one the name and the
/// region.
const AZURE_CLOUDS: [(&str, &str); 4] = [
    (".azurecr.io", "login.microsoftonline.com"),
    (".azurecr.cn", "login.partner.microsoftonline.cn"),
    (".azurecr.us", "login.microsoftonline.us"),
    (".azurecr.de", "login.microsoftonline.de"),
];
const AZURE_REGIONAL_SUFFIX: &str = ".geo.azurecr.io";

impl<'a> Service<'a> {
    /// The service at this registry.
    pub fn of(registry: &'a Registry) -> Self {
        if registry.port().is_some_and(|port| port != HTTPS_PORT) {
            return Self::Other;
        }
        let host = registry.host();
        if let Some((_, service)) = EXACT.iter().find(|(known, _)| *known == host) {
            return *service;
        }
        if let Some(ecr) = EcrHost::parse(host) {
            return Self::Ecr(ecr);
        }
        match host {
            host if is_artifact_registry(host) => Self::Google,
            host if is_azure(host) => Self::Azure,
            host if is_github_enterprise(host) => Self::Github,
            _ => Self::Other,
        }
    }

    /// What people call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::DockerHub => "Docker Hub",
            Self::Github => "GitHub's registry",
            Self::Gitlab => "registry.gitlab.com",
            Self::Quay => "quay.io",
            Self::Ngc => "nvcr.io",
            Self::Ecr(_) => "Amazon ECR",
            Self::EcrPublic => "Amazon ECR Public",
            Self::Google => "a Google registry",
            Self::Azure => "Azure Container Registry",
            Self::MicrosoftPublic => "Microsoft's public registry",
            Self::Other => "another registry",
        }
    }
}

/// The host of the directory that logs people in to a registry of Azure: that of the registry's own
/// cloud.
pub fn azure_directory(registry: &Registry) -> Option<&'static str> {
    if Service::of(registry) != Service::Azure {
        return None;
    }
    let host = registry.host();
    let clouds = AZURE_CLOUDS.iter();
    let mut clouds = clouds.filter(|(suffix, _)| host.ends_with(suffix));
    clouds.next().map(|(_, directory)| *directory)
}

/// Whom a token must be for that such a directory is shown by another issuer.
pub fn azure_federation_audience(directory: &str) -> &'static str {
    match directory {
        "login.microsoftonline.us" => "api://AzureADTokenExchangeUSGov",
        "login.partner.microsoftonline.cn" => "api://AzureADTokenExchangeChina",
        _ => "api://AzureADTokenExchange",
    }
}

/// Whether this is one label, and so cannot smuggle a domain in front of a suffix.
fn is_label(text: &str) -> bool {
    !text.is_empty() && !text.contains('.')
}

/// `<location>-docker.pkg.dev`, or regional `docker.<region>.rep.pkg.dev`.
fn is_artifact_registry(host: &str) -> bool {
    let regional = host
        .strip_prefix("docker.")
        .and_then(|rest| rest.strip_suffix(".rep.pkg.dev"));
    host.strip_suffix("-docker.pkg.dev")
        .or(regional)
        .is_some_and(is_label)
}

fn is_azure(host: &str) -> bool {
    let regional = host
        .strip_suffix(AZURE_REGIONAL_SUFFIX)
        .and_then(|front| front.split_once('.'))
        .is_some_and(|(name, region)| is_label(name) && is_label(region));
    let plain = AZURE_CLOUDS
        .iter()
        .filter_map(|(suffix, _)| host.strip_suffix(suffix));
    regional || plain.into_iter().any(is_label)
}

/// `containers.<enterprise>.ghe.com`.
fn is_github_enterprise(host: &str) -> bool {
    let front = host
        .strip_prefix("containers.")
        .and_then(|rest| rest.strip_suffix(".ghe.com"));
    front.is_some_and(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_of(registry: &str) -> &'static str {
        Service::of(&Registry::parse(registry).unwrap()).name()
    }

    #[test]
    fn services_by_host() {
        let table = [
            ("docker.io", "Docker Hub"),
            ("INDEX.docker.io:443", "Docker Hub"),
            ("registry-1.docker.io", "Docker Hub"),
            ("ghcr.io", "GitHub's registry"),
            ("GHCR.IO", "GitHub's registry"),
            ("ghcr.io:443", "GitHub's registry"),
            ("docker.pkg.github.com", "GitHub's registry"),
            ("containers.acme.ghe.com", "GitHub's registry"),
            ("registry.gitlab.com", "registry.gitlab.com"),
            ("quay.io", "quay.io"),
            ("nvcr.io", "nvcr.io"),
            ("public.ecr.aws", "Amazon ECR Public"),
            ("ecr-public.aws.com", "Amazon ECR Public"),
            ("123456789012.dkr.ecr.us-east-1.amazonaws.com", "Amazon ECR"),
            ("gcr.io", "a Google registry"),
            ("us.gcr.io", "a Google registry"),
            ("eu.gcr.io", "a Google registry"),
            ("asia.gcr.io", "a Google registry"),
            ("marketplace.gcr.io", "a Google registry"),
            ("mirror.gcr.io", "a Google registry"),
            ("container.cloud.google.com", "a Google registry"),
            ("us-docker.pkg.dev", "a Google registry"),
            ("europe-west4-docker.pkg.dev", "a Google registry"),
            ("docker.europe-west3.rep.pkg.dev", "a Google registry"),
            ("acme.azurecr.io", "Azure Container Registry"),
            ("acme-d4f2a1.azurecr.io", "Azure Container Registry"),
            ("acme.azurecr.cn", "Azure Container Registry"),
            ("acme.azurecr.us", "Azure Container Registry"),
            ("acme.azurecr.de", "Azure Container Registry"),
            ("acme.westeurope.geo.azurecr.io", "Azure Container Registry"),
            ("mcr.microsoft.com", "Microsoft's public registry"),
        ];
        for (registry, name) in table {
            assert_eq!(name_of(registry), name, "{registry}");
        }
    }

    #[test]
    fn each_cloud_of_azure_has_its_own_directory() {
        let table = [
            ("acme.azurecr.io", Some("login.microsoftonline.com")),
            (
                "acme-d4f2a1.azurecr.io:443",
                Some("login.microsoftonline.com"),
            ),
            (
                "acme.westeurope.geo.azurecr.io",
                Some("login.microsoftonline.com"),
            ),
            ("acme.azurecr.cn", Some("login.partner.microsoftonline.cn")),
            ("acme.azurecr.us", Some("login.microsoftonline.us")),
            ("acme.azurecr.de", Some("login.microsoftonline.de")),
            ("acme.westeurope.data.azurecr.io", None),
            ("acme.azurecr.io.evil.com", None),
            ("acme.azurecr.io:5000", None),
            ("mcr.microsoft.com", None),
        ];
        for (registry, directory) in table {
            let parsed = Registry::parse(registry).unwrap();
            assert_eq!(azure_directory(&parsed), directory, "{registry}");
        }
    }

    #[test]
    fn look_alikes_and_other_ports_are_other_registries() {
        for registry in [
            "docker.io.evil.com",
            "docker.io:5000",
            "hub.docker.com",
            "evil-docker.io",
            "ghcr.io.evil.com",
            "ghcr.io:8443",
            "x.ghcr.io",
            "fghcr.io",
            "containers.a.b.ghe.com",
            "ghe.com",
            "gcr.io.evil.com",
            "evilgcr.io",
            "gcr.io:5000",
            "x.gcr.io",
            "docker.pkg.dev",
            "pkg.dev",
            "us-docker.pkg.dev.evil.com",
            "a.us-docker.pkg.dev",
            "usdocker.pkg.dev",
            "docker.a.b.rep.pkg.dev",
            "docker.rep.pkg.dev",
            "azurecr.io",
            "acme.azurecr.io.evil.com",
            "a.b.azurecr.io",
            "acme.westeurope.data.azurecr.io",
            "a.b.c.geo.azurecr.io",
            "geo.azurecr.io.evil.com",
            "acmeazurecr.io",
            "acme.azurecr.com",
            "nvcr.io.evil.com",
            "x.nvcr.io",
            "quay.io.evil.com",
            "registry.gitlab.com.evil.com",
            "gitlab.com",
            "public.ecr.aws.evil.com",
            "x.public.ecr.aws",
            "localhost:5000",
            "127.0.0.1:443",
            "[::1]:443",
        ] {
            assert_eq!(name_of(registry), "another registry", "{registry}");
        }
    }
}
