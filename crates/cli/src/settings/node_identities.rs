//! `[node_identity.NAME]`: identities of this machine, for whom and for where they are granted.
//!
//! A grant names all of it: who may use it and for which repositories have no default. A field that
//! the provider does not have is refused, and so is a registry of another cloud.

use std::collections::HashMap;

use broker::{NodeGrant, NodeIdentity};
use credential::{CredentialKind, Keyless, RegistryScope, from_keyless};
use ids::WorkspaceName;
use serde::Deserialize;

use crate::failure::{Failure, Result};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeIdentityFile {
    provider: Provider,
    workspaces: Vec<String>,
    repositories: Vec<String>,
    role_arn: Option<String>,
    service_account: Option<String>,
    client_id: Option<String>,
    tenant_id: Option<String>,
}

/// The machine's cloud.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Provider {
    Aws,
    Google,
    Azure,
}

/// What was declared, as the broker has it.
pub(super) fn grants(
    declared: HashMap<String, NodeIdentityFile>,
) -> Result<HashMap<String, NodeGrant>> {
    let grants = declared.into_iter().map(|(name, file)| {
        let failed = |what: String| {
            Failure::invalid(format!(
                "node identity {name:?} of the configuration: {what}"
            ))
        };
        let grant = grant(&name, &file).map_err(failed)?;
        Ok((name, grant))
    });
    grants.collect()
}

fn grant(name: &str, file: &NodeIdentityFile) -> std::result::Result<NodeGrant, String> {
    if file.workspaces.is_empty() || file.repositories.is_empty() {
        return Err("it names no workspace or no repository".to_owned());
    }
    let workspaces = file
        .workspaces
        .iter()
        .map(|name| WorkspaceName::parse(name));
    let workspaces = workspaces.collect::<std::result::Result<_, _>>();
    let scopes = file
        .repositories
        .iter()
        .map(|scope| RegistryScope::parse(scope));
    let scopes = scopes.collect::<std::result::Result<Vec<_>, _>>();
    let grant = NodeGrant {
        identity: identity(file)?,
        workspaces: workspaces.map_err(|error| error.to_string())?,
        scopes: scopes.map_err(|error| error.to_string())?,
    };
    for scope in &grant.scopes {
        let kind = from_keyless(scope.registry(), Keyless::Node { name });
        let kind = kind.map_err(|error| error.to_string())?.kind;
        if kind != grant.identity.kind() {
            return Err(format!("{scope} is of another cloud"));
        }
        check_role(&grant.identity, scope)?;
    }
    Ok(grant)
}

fn identity(file: &NodeIdentityFile) -> std::result::Result<NodeIdentity, String> {
    let fields = [
        ("role_arn", CredentialKind::Aws, file.role_arn.is_some()),
        (
            "service_account",
            CredentialKind::Gcp,
            file.service_account.is_some(),
        ),
        ("client_id", CredentialKind::Azure, file.client_id.is_some()),
        ("tenant_id", CredentialKind::Azure, file.tenant_id.is_some()),
    ];
    let identity = match file.provider {
        Provider::Aws => NodeIdentity::Aws {
            role_arn: file.role_arn.clone().ok_or(
                "it needs role_arn, the role that the machine's own takes on for one repository \
                 each time",
            )?,
        },
        Provider::Google => NodeIdentity::Google {
            service_account: file.service_account.clone(),
        },
        Provider::Azure => NodeIdentity::Azure {
            client_id: file.client_id.clone(),
            tenant_id: file.tenant_id.clone(),
        },
    };
    let kind = identity.kind();
    if let Some((field, ..)) = fields.iter().find(|(_, of, given)| *given && *of != kind) {
        return Err(format!("{field} is for another provider"));
    }
    let texts = [&file.service_account, &file.client_id, &file.tenant_id];
    if !texts.into_iter().flatten().all(|text| is_plain(text)) {
        return Err("service_account, client_id or tenant_id has other characters".to_owned());
    }
    Ok(identity)
}

/// What may be part of an address: nothing that leads elsewhere.
fn is_plain(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"@._-".contains(&byte);
    !text.is_empty() && !text.contains("..") && text.bytes().all(allowed)
}

fn check_role(identity: &NodeIdentity, scope: &RegistryScope) -> std::result::Result<(), String> {
    let NodeIdentity::Aws { role_arn } = identity else {
        return Ok(());
    };
    let keyless = Keyless::Aws {
        role_arn,
        session_name: None,
    };
    from_keyless(scope.registry(), keyless)
        .map(drop)
        .map_err(|_| "role_arn is not the ARN of an IAM role".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> std::result::Result<NodeGrant, String> {
        let file: NodeIdentityFile = toml::from_str(text).map_err(|error| error.to_string())?;
        grant("puller", &file)
    }

    const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

    #[test]
    fn a_grant_names_who_and_where_and_nothing_of_another_cloud() {
        let whom = |repositories: &str| {
            format!("workspaces = [\"team\"]\nrepositories = [\"{repositories}\"]\n")
        };
        let role = "role_arn = \"arn:aws:iam::123456789012:role/puller\"";
        let aws = format!(
            "provider = \"aws\"\n{role}\n{}",
            whom(&format!("{ECR}/acme"))
        );
        let granted = read(&aws).unwrap();
        assert_eq!(granted.scopes[0].path(), Some("acme"));
        read(&format!(
            "provider = \"google\"\n{}",
            whom("eu-docker.pkg.dev/acme")
        ))
        .unwrap();
        read(&format!(
            "provider = \"azure\"\n{}",
            whom("acme.azurecr.io")
        ))
        .unwrap();
        for (text, told) in [
            (aws.replace(role, ""), "needs role_arn"),
            (aws.replace("arn:aws:iam", "arn:aws:sts"), "not the ARN"),
            (aws.replace(ECR, "gcr.io"), "another cloud"),
            (aws.replace(ECR, "ghcr.io"), "registries of Amazon"),
            (aws.replace("[\"team\"]", "[]"), "no workspace"),
            (aws.replace("workspaces = [\"team\"]", ""), "workspaces"),
            (aws.replace("team", "no name/"), ""),
            (format!("{aws}client_id = \"x\""), "another provider"),
            (format!("{aws}secret = \"x\""), "unknown field"),
            (
                format!(
                    "provider = \"google\"\nservice_account = \"../x\"\n{}",
                    whom("gcr.io")
                ),
                "other characters",
            ),
            (format!("provider = \"vault\"\n{}", whom("gcr.io")), "vault"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
        // The name itself is one that a login can give.
        let file = toml::from_str(&aws).unwrap();
        assert!(grants([("Up/..".to_owned(), file)].into()).is_err());
    }
}
