//! The health of stored credentials: what stopped working is told before a start needs it.
//!
//! Each credential is asked about once in a while, one after another, by the same check that a
//! person can ask for. How often depends on what was found last: a wrong password is hardly ever
//! tried again, since registries lock accounts, and what has ended is not.

use std::collections::HashMap;
use std::time::Duration;

use credential::RegistryScope;
use ids::{SecretId, WorkspaceId};
use jiff::Timestamp;
use vault::SecretState;

use crate::broker::Broker;
use crate::error::BrokerError;
use crate::login::{CredentialRow, EXPIRED, EXPIRING};

/// How often what works is asked about: several times in a working day.
const CHECK_EVERY: Duration = Duration::from_hours(6);
/// How soon it is asked again whether a registry is there, or has stopped limiting us.
const RETRY_AFTER: Duration = Duration::from_mins(30);
/// How soon a refused credential is tried again. Accounts are locked after a few tries in an hour.
const REFUSED_AGAIN_AFTER: Duration = Duration::from_hours(24);
/// Credentials that are asked about in one round: with rounds of minutes, a registry that is asked
/// for many workspaces is not asked all at once.
const CHECKS_AT_ONCE: usize = 16;

/// A credential whose state is another than it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthChange {
    pub workspace: WorkspaceId,
    pub scope: RegistryScope,
    pub version: u32,
    pub was: &'static str,
    pub is: &'static str,
    /// Why, in the words of the check.
    pub message: Option<String>,
}

/// The states that were seen last.
#[derive(Debug, Default)]
pub struct Health(HashMap<SecretId, &'static str>);

impl Health {
    /// How many credentials are in each state.
    pub fn counts(&self) -> HashMap<&'static str, usize> {
        let mut counts = HashMap::new();
        for state in self.0.values() {
            *counts.entry(*state).or_default() += 1;
        }
        counts
    }
}

impl Broker {
    /// Asks about the credentials of all workspaces whose time has come. Answers what has changed
    /// since the last round, whoever found it out.
    pub async fn look_after(&self, health: &mut Health) -> Result<Vec<HealthChange>, BrokerError> {
        let (mut seen, mut changes) = (HashMap::new(), Vec::new());
        let mut checks_left = CHECKS_AT_ONCE;
        for workspace in self.inner.store.workspaces().await? {
            for row in self.inner.credentials(workspace.id).await? {
                let secret_id = row.secret_id;
                let before = health.0.get(&secret_id).copied();
                let change = self.look_at(workspace.id, row, &mut checks_left).await?;
                seen.insert(secret_id, change.is);
                // One that is new to us has not changed, unless the check itself found that.
                let was = before.unwrap_or(change.was);
                if was != change.is {
                    changes.push(HealthChange { was, ..change });
                }
            }
        }
        *health = Health(seen);
        Ok(changes)
    }

    /// The state of a credential, asked about now where it is time and there are checks left.
    async fn look_at(
        &self,
        workspace: WorkspaceId,
        row: CredentialRow,
        checks_left: &mut usize,
    ) -> Result<HealthChange, BrokerError> {
        let mut change = HealthChange {
            workspace,
            scope: row.scope.clone(),
            version: row.version,
            was: row.state,
            is: row.state,
            message: None,
        };
        if *checks_left > 0 && is_due(&row, self.inner.clock.now()) {
            *checks_left -= 1;
            let is_expiring = row.state == EXPIRING;
            let report = self.inner.check_one(workspace, row).await?;
            // That it ends soon says more than that it still works.
            let still_ok = is_expiring && report.state == SecretState::Ok.as_str();
            change.is = if still_ok { EXPIRING } else { report.state };
            change.message = report.message;
        }
        Ok(change)
    }
}

fn is_due(row: &CredentialRow, now: Timestamp) -> bool {
    let refused = [SecretState::BadCredential, SecretState::Refused].map(SecretState::as_str);
    let passing = [
        SecretState::RateLimited,
        SecretState::Unreachable,
        SecretState::TlsError,
    ]
    .map(SecretState::as_str);
    let after = match row.state {
        EXPIRED => return false,
        state if refused.contains(&state) => REFUSED_AGAIN_AFTER,
        state if passing.contains(&state) => RETRY_AFTER,
        _ => CHECK_EVERY,
    };
    let age = |checked: Timestamp| Duration::try_from(now.duration_since(checked));
    row.checked_at
        .is_none_or(|checked| age(checked).is_ok_and(|age| age >= after))
}
