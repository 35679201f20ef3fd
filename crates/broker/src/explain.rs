//! Which credential an image would be read with, and why; nothing is opened and nobody asked.

use control_store::RegistrySettings;
use credential::{RegistryScope, most_specific};
use ids::WorkspaceId;
use jiff::Timestamp;
use reference::Reference;
use token_exchange::Rung;

use crate::broker::{Broker, Inner};
use crate::error::BrokerError;
use crate::login::CredentialRow;

/// The credential that would be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    pub scope: RegistryScope,
    pub kind: String,
    pub secret_name: String,
    pub version: u32,
    pub not_after: Option<Timestamp>,
    /// The last check's answer, when it was and how far it went.
    pub state: &'static str,
    pub checked_at: Option<Timestamp>,
    pub proven: Option<String>,
}

/// A credential that would not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostScope {
    pub scope: RegistryScope,
    pub why: String,
}

/// What `credentials explain` shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The image, as a pull names it.
    pub image: String,
    /// Absent where the pull is anonymous.
    pub chosen: Option<Chosen>,
    pub why: String,
    pub lost: Vec<LostScope>,
    /// The token service that the credential goes to, as the last check saw it, or as allowed.
    pub token_service: Option<String>,
    /// The rung of the ladder that a reader is given where the registry sends its blobs itself, by
    /// the last check.
    pub rung: Option<String>,
    pub settings: RegistrySettings,
}

impl Broker {
    pub async fn explain(
        &self,
        workspace: WorkspaceId,
        image: &Reference,
    ) -> Result<Explanation, BrokerError> {
        let broker = &*self.inner;
        let rows = broker.credentials(workspace).await?;
        let chosen = choose(&rows, image);
        let settings = match chosen {
            Some(row) => broker.settings_of(workspace, &row.scope).await?,
            None => broker.anonymous_settings(workspace, image).await?,
        };
        let lost = rows.iter().filter(|row| chosen != Some(*row));
        Ok(Explanation {
            image: image.canonical(),
            why: why(&rows, chosen, image),
            lost: lost
                .map(|row| LostScope {
                    scope: row.scope.clone(),
                    why: why_lost(row, chosen, image),
                })
                .collect(),
            token_service: chosen
                .and_then(|row| row.realm.clone())
                .or_else(|| settings.token_service.clone()),
            rung: match chosen {
                Some(row) => row.rung.as_deref().map(|rung| held(rung, &settings)),
                None => Some(Rung::Anonymous.as_str().to_owned()),
            },
            chosen: chosen.map(shown),
            settings,
        })
    }
}

impl Broker {
    /// How the registry of an image is spoken to, as the nearest login said.
    pub async fn settings_for(
        &self,
        workspace: WorkspaceId,
        image: &Reference,
    ) -> Result<RegistrySettings, BrokerError> {
        self.inner.anonymous_settings(workspace, image).await
    }
}

impl Inner {
    /// How a registry is spoken to when no credential is used: as the nearest scope says.
    pub(crate) async fn anonymous_settings(
        &self,
        workspace: WorkspaceId,
        image: &Reference,
    ) -> Result<RegistrySettings, BrokerError> {
        let all = self.settings(workspace).await?;
        let scopes = all.iter().map(|(scope, _)| scope);
        let nearest = most_specific(scopes, image.registry(), image.repository()).cloned();
        let own = all
            .into_iter()
            .find(|(scope, _)| Some(scope) == nearest.as_ref());
        Ok(own.map(|(_, settings)| settings).unwrap_or_default())
    }
}

/// The credential for an image: of those whose scope covers it, the one that says most about it.
pub(crate) fn choose<'a>(
    rows: &'a [CredentialRow],
    image: &Reference,
) -> Option<&'a CredentialRow> {
    let scopes = rows.iter().map(|row| &row.scope);
    let nearest = most_specific(scopes, image.registry(), image.repository())?;
    rows.iter().find(|row| row.scope == *nearest)
}

/// What a reader holds where a check used this rung.
fn held(checked: &str, settings: &RegistrySettings) -> String {
    let mut whole = Rung::ALL.iter().filter(|rung| rung.is_whole_identity());
    let is_kept = !settings.workers_may_hold_password;
    if is_kept && whole.any(|rung| rung.as_str() == checked) {
        return Rung::ReadThrough.as_str().to_owned();
    }
    checked.to_owned()
}

fn shown(row: &CredentialRow) -> Chosen {
    Chosen {
        scope: row.scope.clone(),
        kind: row.kind.clone(),
        secret_name: row.secret_name.clone(),
        version: row.version,
        not_after: row.not_after,
        state: row.state,
        checked_at: row.checked_at,
        proven: row.proven.clone(),
    }
}

fn why(rows: &[CredentialRow], chosen: Option<&CredentialRow>, image: &Reference) -> String {
    let covers = |row: &&CredentialRow| row.scope.covers(image.registry(), image.repository());
    match (chosen, rows.iter().filter(covers).count()) {
        (None, _) => "no credential covers the image, so it is pulled anonymously".to_owned(),
        (Some(_), 1) => "the only credential that covers the image".to_owned(),
        (Some(_), several) => format!("the most specific of {several} that cover the image"),
    }
}

fn why_lost(row: &CredentialRow, chosen: Option<&CredentialRow>, image: &Reference) -> String {
    let scope = &row.scope;
    if scope.registry() != image.registry() {
        return format!("is for {}, another registry", scope.registry());
    }
    match chosen {
        Some(chosen) if scope.covers(image.registry(), image.repository()) => {
            format!(
                "covers the image too, and {} is more specific",
                chosen.scope
            )
        }
        _ => format!("does not cover repository {}", image.repository()),
    }
}
