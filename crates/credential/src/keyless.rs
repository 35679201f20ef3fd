//! Credentials without a secret, by what their cloud is to trust.

use reference::Registry;
use serde_json::json;

use crate::detect::{Detected, complete, detect_texts};
use crate::error::{CredentialError, Malformed};
use crate::federation;
use crate::fields::{CredentialKind, Fields, NodeFields};
use crate::hosts::Service;
use crate::known_keys as keys;

/// Whom a cloud takes a token of our own issuer for.
#[derive(Debug, Clone, Copy)]
pub enum Keyless<'a> {
    /// A role of AWS.
    Aws {
        role_arn: &'a str,
        session_name: Option<&'a str>,
    },
    /// What a workload identity pool of Google's makes of it, or a service account that this may
    /// speak for.
    Google {
        /// The provider's resource name.
        provider: &'a str,
        service_account: Option<&'a str>,
    },
    /// An application of Azure's directory.
    Azure {
        client_id: &'a str,
        tenant_id: &'a str,
    },
    /// No issuer, but the machine itself: its identity, by the name that the operator gave it.
    Node { name: &'a str },
}

/// Longest name of a node identity. People type it.
const MAX_NODE_NAME_BYTES: usize = 64;

/// Whether a node identity can be called so: small letters, digits and hyphens.
pub fn is_node_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_NODE_NAME_BYTES).contains(&name.len()) && name.bytes().all(allowed)
}

/// Reads a credential without a secret, as if it were given by its keys.
pub fn from_keyless(
    registry: &Registry,
    keyless: Keyless<'_>,
) -> Result<Detected, CredentialError> {
    match keyless {
        Keyless::Aws {
            role_arn,
            session_name,
        } => {
            let mut given = vec![(keys::AWS_ROLE_ARN, role_arn)];
            given.extend(session_name.map(|name| (keys::AWS_ROLE_SESSION_NAME, name)));
            detect_texts(registry, &given)
        }
        Keyless::Google {
            provider,
            service_account,
        } => {
            let json = json!({
                "type": "external_account",
                "audience": federation::audience_of(provider),
                "subject_token_type": federation::JWT,
                "service_account_impersonation_url": service_account.map(federation::url_of),
            });
            let json = json.to_string();
            detect_texts(registry, &[(keys::GOOGLE_APPLICATION_CREDENTIALS, &json)])
        }
        Keyless::Azure {
            client_id,
            tenant_id,
        } => {
            let given = [
                (keys::AZURE_CLIENT_ID, client_id),
                (keys::AZURE_TENANT_ID, tenant_id),
            ];
            detect_texts(registry, &given)
        }
        Keyless::Node { name } => node(registry, name),
    }
}

fn node(registry: &Registry, name: &str) -> Result<Detected, CredentialError> {
    let key = "--node-identity";
    let kind = match Service::of(registry) {
        Service::Ecr(_) | Service::EcrPublic => CredentialKind::Aws,
        Service::Google => CredentialKind::Gcp,
        Service::Azure => CredentialKind::Azure,
        _ => {
            return Err(CredentialError::WrongRegistry {
                key,
                service: "registries of Amazon, Google and Azure",
                registry: registry.clone(),
            });
        }
    };
    if !is_node_name(name) {
        let problem = Malformed::NodeName;
        return Err(CredentialError::Malformed { key, problem });
    }
    let name = name.to_owned();
    Ok(complete(
        registry,
        Fields::Node(NodeFields { kind, name }),
        Vec::new(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::GcpFields;

    #[test]
    fn a_provider_is_named_with_or_without_its_service() {
        let registry = Registry::parse("gcr.io").unwrap();
        let name = "projects/7/locations/global/workloadIdentityPools/p/providers/x";
        let full = format!("//iam.googleapis.com/{name}");
        let account = "puller@acme.iam.gserviceaccount.com";
        for provider in [name, &full, &format!("https:{full}")] {
            let keyless = Keyless::Google {
                provider,
                service_account: Some(account),
            };
            let detected = from_keyless(&registry, keyless).unwrap();
            assert!(detected.credential.is_keyless());
            let Fields::Gcp(GcpFields::Keyless { federation, .. }) = detected.credential.fields()
            else {
                panic!("{:?}", detected.kind);
            };
            assert_eq!(federation.audience, full);
            assert_eq!(federation.service_account.as_deref(), Some(account));
        }
        for (provider, service_account) in [
            ("acme", None),
            ("", None),
            (name, Some("puller@evil.example/../x")),
        ] {
            let keyless = Keyless::Google {
                provider,
                service_account,
            };
            let error = from_keyless(&registry, keyless).unwrap_err();
            assert!(
                matches!(error, CredentialError::Malformed { .. }),
                "{error}"
            );
        }
    }
    #[test]
    fn a_node_identity_is_for_registries_of_clouds_and_holds_nothing() {
        for (registry, kind) in [
            (
                "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
                CredentialKind::Aws,
            ),
            ("public.ecr.aws", CredentialKind::Aws),
            ("eu-docker.pkg.dev", CredentialKind::Gcp),
            ("acme.azurecr.io", CredentialKind::Azure),
        ] {
            let registry = Registry::parse(registry).unwrap();
            let keyless = Keyless::Node { name: "puller-1" };
            let credential = from_keyless(&registry, keyless).unwrap().credential;
            assert!(credential.is_keyless() && credential.is_traded());
            // No token of the issuer is shown in its place.
            assert_eq!(
                (credential.kind(), credential.absent_secret()),
                (kind, None)
            );
            let read = crate::Credential::from_stored(&credential.to_stored()).unwrap();
            assert!(matches!(read.fields(), Fields::Node(node) if node.name == "puller-1"));
        }
        let other = Registry::parse("ghcr.io").unwrap();
        from_keyless(&other, Keyless::Node { name: "puller" }).unwrap_err();
        let google = Registry::parse("gcr.io").unwrap();
        let long = "a".repeat(MAX_NODE_NAME_BYTES + 1);
        for name in ["", "A", "a/b", "a b", "..", "a\n", &long] {
            from_keyless(&google, Keyless::Node { name }).unwrap_err();
        }
        let stored = |fields: &str| {
            let text = format!(r#"{{"version":1,"kind":"gcp","fields":{{{fields}}}}}"#);
            crate::Credential::from_stored(&text.into())
        };
        assert!(stored(r#""keyless":"yes","node_identity":"a""#).is_ok());
        for fields in [
            r#""node_identity":"a""#,
            r#""keyless":"no","node_identity":"a""#,
            r#""keyless":"yes","node_identity":"../a""#,
            r#""keyless":"yes","node_identity":"a","access_token":"t""#,
        ] {
            assert!(stored(fields).is_err(), "{fields}");
        }
    }
}
