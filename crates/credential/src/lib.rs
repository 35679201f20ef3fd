//! Registry credentials as values: kinds, detection, scopes, secret names, the stored form.
//!
//! Pure: no I/O and no process environment. Every secret is a [`SecretString`]: wiped when
//! dropped, redacted in `Debug`, never displayed, and written out by [`Credential::to_stored`]
//! alone.
//!
//! # What a map of keys means
//!
//! [`detect`] reads a map such as `{"GITHUB_USERNAME": …, "GITHUB_TOKEN": …}` for one registry.
//! It decides in this order, and never leaves a key unread:
//!
//! 1. Every key must be one of [`KNOWN_KEYS`], and its value a text that is not empty.
//! 2. No keys at all is `public`, an explicit anonymous pull.
//! 3. All keys must be of one [family](known_keys::Family). Two families are a conflict, not a
//!    choice.
//! 4. The family decides the kind, and which of its keys must be there:
//!
//! ```text
//! family      keys (? may be absent)                       kind    registry
//! plain       USERNAME PASSWORD                            basic   any
//! docker      DOCKER_USERNAME DOCKER_PASSWORD              basic   any
//! registry    REGISTRY_USERNAME REGISTRY_PASSWORD          basic   any
//! registry    REGISTRY_USERNAME? REGISTRY_TOKEN            token   any (gcp at Google)
//! aws         AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY      aws     ECR, ECR Public
//!             AWS_SESSION_TOKEN? AWS_REGION? AWS_ROLE_ARN?
//!             AWS_EXTERNAL_ID? AWS_ROLE_SESSION_NAME?
//!             or AWS_ROLE_ARN, no keys                     aws     keyless
//!             AWS_ROLE_SESSION_NAME? AWS_REGION?
//! gcp         GOOGLE_APPLICATION_CREDENTIALS               gcp     Google
//!             GCP_SUBJECT_TOKEN? (external_account alone,
//!             keyless without)
//!             or GCP_ACCESS_TOKEN; GCP_PROJECT_ID?
//! azure       AZURE_CLIENT_ID AZURE_CLIENT_SECRET          azure   ACR
//!             AZURE_TENANT_ID?
//!             or AZURE_CLIENT_ID AZURE_FEDERATED_TOKEN
//!             AZURE_TENANT_ID
//!             or AZURE_CLIENT_ID AZURE_TENANT_ID           azure   keyless
//! ngc         NGC_API_KEY                                  token   nvcr.io
//! github      GITHUB_TOKEN GITHUB_USERNAME?                token   ghcr.io and kin
//! docker hub  DOCKERHUB_USERNAME DOCKERHUB_PASSWORD        basic   Docker Hub
//! docker hub  DOCKERHUB_USERNAME DOCKERHUB_TOKEN           token   Docker Hub
//! gitlab      GITLAB_TOKEN GITLAB_USERNAME?                token   registry.gitlab.com
//! quay        QUAY_TOKEN QUAY_USERNAME?                    token   quay.io
//! ```
//!
//! 5. A family that names a service is refused at every other registry, look-alikes among them:
//!    a token meant for one host does not travel to another. Hosts are matched whole, on the
//!    parsed registry ([`Service::of`]), never by a piece of the image's text.
//! 6. At Google's registries `_json_key` and `_json_key_base64` beside a password are a service
//!    account's JSON, whatever the keys are called.
//! 7. What lacks a secret alone, and names whom its cloud is to trust, is
//!    [keyless](Credential::is_keyless): the cloud is shown a token of our own issuer.
//! 8. The identity of the machine is meant by no key: it is named at a login alone, and counts
//!    where the operator grants it.
//! 9. The registry decides the user name of a token that came without one
//!    ([`token_username`]).

pub mod auth;
mod aws;
mod azure;
mod detect;
pub mod docker_config;
pub mod docker_helper;
mod error;
mod expiry;
mod federation;
mod fields;
mod hints;
pub mod hosts;
mod keyless;
pub mod known_keys;
pub mod kubelet;
mod scope;
mod secret_name;
mod secret_text;
mod service_account;
mod stored;
mod suggestion;
mod token_user;

pub use secrecy::{ExposeSecret, SecretString};

pub use detect::{Detected, detect, from_password, from_service_account, from_token, wipe};
pub use error::{CredentialError, Malformed};
pub use expiry::of_secret as stated_end;
pub use federation::GcpFederation;
pub use fields::{
    AwsFields, AwsKeyless, AzureFields, AzureSecret, Credential, CredentialKind, Fields, GcpFields,
    NodeFields,
};
pub use hints::Hint;
pub use hosts::Service;
pub use keyless::{Keyless, from_keyless, is_node_name};
pub use known_keys::KNOWN_KEYS;
pub use scope::{ParseScopeError, RegistryScope, most_specific};
pub use secret_name::{ParseSecretNameError, SecretName};
pub use service_account::ServiceAccount;
pub use stored::StoredCredentialError;
pub use token_user::token_username;
