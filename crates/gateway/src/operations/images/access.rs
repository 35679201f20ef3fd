//! The credential that comes with an image: from keys and values to what a registry is shown.

use std::collections::BTreeMap;

use broker::{CredentialChoice, LoginRequest};
use credential::{Credential, ExposeSecret, KNOWN_KEYS, RegistryScope, SecretString, detect, wipe};
use ids::WorkspaceId;
use reference::Reference;
use serde_json::Value;

use super::CredentialGiven;
use crate::gateway::Gateway;
use crate::problem::{Problem, Refusal};

/// What a build shows the registry.
#[derive(Debug)]
pub(super) enum Access {
    Stored,
    Anonymous,
    Given(Box<Given>),
}

/// A credential that is not proven yet.
#[derive(Debug)]
pub(super) struct Given {
    scope: RegistryScope,
    credential: Credential,
    hints: Vec<String>,
}

/// What became of it.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) choice: CredentialChoice,
    /// What somebody who looks on is told; nothing where no credential came.
    pub(super) line: Option<String>,
    pub(super) hints: Vec<String>,
}

impl Gateway {
    /// Understands what was given. Nobody is asked yet.
    pub(super) async fn access(
        &self,
        workspace: WorkspaceId,
        image: &Reference,
        given: CredentialGiven,
    ) -> Result<Access, Problem> {
        let keys = match given {
            CredentialGiven::Stored => return Ok(Access::Stored),
            CredentialGiven::Anonymous => return Ok(Access::Anonymous),
            CredentialGiven::Keys(keys) if keys.is_empty() => return Ok(Access::Anonymous),
            CredentialGiven::Keys(keys) => keys,
        };
        let values = self.values(workspace, keys).await?;
        let detected = detect(image.registry(), &values);
        wipe(values);
        let detected = detected?;
        Ok(Access::Given(Box::new(Given {
            scope: RegistryScope::of_image(image),
            credential: detected.credential,
            hints: detected.hints.iter().map(ToString::to_string).collect(),
        })))
    }

    /// The keys with their values, those of secrets filled in.
    async fn values(
        &self,
        workspace: WorkspaceId,
        keys: BTreeMap<String, SecretString>,
    ) -> Result<BTreeMap<String, Value>, Problem> {
        let mut values = BTreeMap::new();
        for (key, value) in keys {
            let is_known = KNOWN_KEYS.iter().any(|(known, _)| *known == key);
            // A key that is not known is refused, and no secret is opened for it.
            let value = match value.expose_secret() {
                "" if is_known => self.secret_of_key(workspace, &key).await,
                _ => Ok(value),
            };
            match value {
                Ok(value) => {
                    let text = value.expose_secret().to_owned();
                    values.insert(key, Value::String(text));
                }
                Err(problem) => {
                    wipe(values);
                    return Err(problem);
                }
            }
        }
        Ok(values)
    }

    async fn secret_of_key(
        &self,
        workspace: WorkspaceId,
        key: &str,
    ) -> Result<SecretString, Problem> {
        let purpose = "credential of an image";
        // Looked for before, so that it is noted once who asked for what is not there.
        let known = self.broker().named_secrets(workspace).await?;
        if !known.iter().any(|secret| secret.name.as_str() == key) {
            let message = format!("credential key {key} is empty, and no secret is named so");
            return Err(Problem::invalid(message)
                .refuses(Refusal::Name)
                .hint(format!("`holdfast secret set {key}` makes one")));
        }
        let broker = self.broker();
        let opened = broker.open_named_secret(workspace, key, purpose).await;
        opened.map_err(Problem::from)
    }

    /// Has the registry prove a credential and seals it. What it refuses is stored nowhere.
    pub(super) async fn settle(
        &self,
        workspace: WorkspaceId,
        image: &Reference,
        access: Access,
        actor: &str,
    ) -> Result<Settled, Problem> {
        let plain = |choice| Settled {
            choice,
            line: None,
            hints: Vec::new(),
        };
        let given = match access {
            Access::Stored => return Ok(plain(CredentialChoice::Auto)),
            Access::Anonymous => return Ok(plain(CredentialChoice::None)),
            Access::Given(given) => *given,
        };
        let request = LoginRequest {
            scope: given.scope,
            credential: given.credential,
            settings: self.broker().settings_for(workspace, image).await?,
        };
        let report = self.broker().login_with(workspace, request, actor).await?;
        let (kind, scope, version) = (report.kind.as_str(), &report.scope, report.version);
        let line = if report.is_new {
            format!("sealed the {kind} credential for {scope} (version {version})")
        } else {
            format!("checked the {kind} credential for {scope} (version {version})")
        };
        let mut hints = given.hints;
        hints.extend(report.hints);
        Ok(Settled {
            choice: CredentialChoice::Scope(report.scope),
            line: Some(line),
            hints,
        })
    }
}
