//! What the crate promises, through its public face.

mod detection;
mod redaction;
mod stored_form;

use std::collections::BTreeMap;

use credential::{CredentialError, Detected, detect};
use reference::Registry;
use serde_json::{Value, json};

const ECR: &str = "123456789012.dkr.ecr.us-east-1.amazonaws.com";
const SERVICE_ACCOUNT: &str = r#"{"type":"service_account","project_id":"acme",
    "private_key":"-----BEGIN PRIVATE KEY-----\nCANARY\n-----END PRIVATE KEY-----\n",
    "client_email":"puller@acme.iam.gserviceaccount.com",
    "token_uri":"https://oauth2.googleapis.com/token"}"#;
const EXTERNAL_ACCOUNT: &str = r#"{"type":"external_account",
    "audience":"//iam.googleapis.com/projects/7/locations/global/workloadIdentityPools/p/providers/x",
    "subject_token_type":"urn:ietf:params:oauth:token-type:jwt",
    "token_url":"https://sts.googleapis.com/v1/token",
    "service_account_impersonation_url":"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/puller@acme.iam.gserviceaccount.com:generateAccessToken"}"#;
const GUID: &str = "409520d4-8100-4d1d-ad47-72432ddcc120";
const ROLE: &str = "arn:aws:iam::123456789012:role/puller";

fn keys(pairs: &[(&str, &str)]) -> BTreeMap<String, Value> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), json!(value)))
        .collect()
}

fn detect_pairs(registry: &str, pairs: &[(&str, &str)]) -> Result<Detected, CredentialError> {
    detect(&Registry::parse(registry).expect(registry), &keys(pairs))
}
