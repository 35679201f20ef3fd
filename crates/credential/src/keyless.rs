//! Credentials without a secret, by what their cloud is to trust.

use reference::Registry;
use serde_json::json;

use crate::detect::{Detected, detect_texts};
use crate::error::CredentialError;
use crate::federation;
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::{Fields, GcpFields};

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
}
