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
use reference::Registry;
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

/// What was seen in the last round, and what the next ones go by.
#[derive(Debug, Default)]
pub struct Health {
    states: HashMap<SecretId, &'static str>,
    /// When each was last asked about, whatever came of it.
    tried: HashMap<SecretId, Timestamp>,
    /// Registries that have refused somebody or limit us, until then.
    resting: HashMap<Registry, Timestamp>,
}

impl Health {
    /// How many credentials are in each state.
    pub fn counts(&self) -> HashMap<&'static str, usize> {
        let mut counts = HashMap::new();
        for state in self.states.values() {
            *counts.entry(*state).or_default() += 1;
        }
        counts
    }

    /// Since when a credential has not been asked about; the very beginning, if ever.
    fn last_tried(&self, row: &CredentialRow) -> Timestamp {
        let tried = self.tried.get(&row.secret_id).copied();
        row.checked_at.max(tried).unwrap_or(Timestamp::MIN)
    }

    fn is_due(&self, row: &CredentialRow, now: Timestamp) -> bool {
        let Some(after) = interval(row.state) else {
            return false;
        };
        let resting = self.resting.get(row.scope.registry());
        let age = now.duration_since(self.last_tried(row));
        // A clock that was set back makes it time, too.
        let is_time = Duration::try_from(age).map_or(true, |age| age >= after);
        is_time && resting.is_none_or(|until| now >= *until)
    }
}

impl Broker {
    /// Asks about the credentials of all workspaces whose time has come. Answers what has changed
    /// since the last round, whoever found it out.
    pub async fn look_after(&self, health: &mut Health) -> Result<Vec<HealthChange>, BrokerError> {
        let mut rows = Vec::new();
        for workspace in self.inner.store.workspaces().await? {
            let own = self.inner.credentials(workspace.id).await?;
            rows.extend(own.into_iter().map(|row| (workspace.id, row)));
        }
        // Who has waited for longest is first, so that nobody is passed over for ever.
        rows.sort_by_key(|(_, row)| health.last_tried(row));
        let (mut states, mut changes) = (HashMap::new(), Vec::new());
        let mut checks_left = CHECKS_AT_ONCE;
        for (workspace, row) in rows {
            let secret_id = row.secret_id;
            let before = health.states.get(&secret_id).copied();
            let change = self.look_at(workspace, row, health, &mut checks_left).await;
            states.insert(secret_id, change.is);
            // One that is new to us has not changed, unless the check itself found that.
            let was = before.unwrap_or(change.was);
            if was != change.is {
                changes.push(HealthChange { was, ..change });
            }
        }
        health
            .tried
            .retain(|secret_id, _| states.contains_key(secret_id));
        health.states = states;
        Ok(changes)
    }

    /// The state of a credential, asked about now where it is time and there are checks left.
    async fn look_at(
        &self,
        workspace: WorkspaceId,
        row: CredentialRow,
        health: &mut Health,
        checks_left: &mut usize,
    ) -> HealthChange {
        let mut change = HealthChange {
            workspace,
            scope: row.scope.clone(),
            version: row.version,
            was: row.state,
            is: row.state,
            message: None,
        };
        let now = self.inner.clock.now();
        if *checks_left == 0 || !health.is_due(&row, now) {
            return change;
        }
        *checks_left -= 1;
        health.tried.insert(row.secret_id, now);
        let report = match self.inner.check_one(workspace, row).await {
            Ok(report) => report,
            // One that cannot be opened is not to keep the others from their turn.
            Err(error) => {
                tracing::warn!(%workspace, scope = %change.scope, %error, "cannot be checked");
                return change;
            }
        };
        if let Some(until) = rest(report.state).and_then(|rest| now.checked_add(rest).ok()) {
            health
                .resting
                .insert(change.scope.registry().clone(), until);
        }
        // That it ends soon says more than that it still works.
        if change.was != EXPIRING || report.state != SecretState::Ok.as_str() {
            change.is = report.state;
        }
        change.message = report.message;
        change
    }
}

/// How long a registry is left alone that has given this answer: the same account may be stored in
/// many workspaces, and a limit is one for all of them.
fn rest(state: &str) -> Option<Duration> {
    let states = [SecretState::BadCredential, SecretState::RateLimited].map(SecretState::as_str);
    states.contains(&state).then_some(RETRY_AFTER)
}

/// How often a credential of this state is asked about.
fn interval(state: &str) -> Option<Duration> {
    let refused = [SecretState::BadCredential, SecretState::Refused];
    let passing = [
        SecretState::RateLimited,
        SecretState::Unreachable,
        SecretState::TlsError,
    ];
    match state {
        EXPIRED => None,
        state if refused.map(SecretState::as_str).contains(&state) => Some(REFUSED_AGAIN_AFTER),
        state if passing.map(SecretState::as_str).contains(&state) => Some(RETRY_AFTER),
        _ => Some(CHECK_EVERY),
    }
}
